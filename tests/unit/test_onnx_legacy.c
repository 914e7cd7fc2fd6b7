/* The ONNX importer: older forms of operators. */
#include <stdio.h>

#include "onnx_fixture.h"

KTEST(onnx_legacy, no_operator_set_list_means_the_first)
{
    fixture f = begin(1, 0);
    ob_input(&f.a, f.m, "x", F32, "1 2 2");
    ob_output(&f.a, f.m, "y");
    float w[2] = {10, 20};
    ob_tensor(&f.a, f.m, "w", F32, 2, w, sizeof w);
    Onnx__NodeProto *n = ob_node(&f.a, f.m, "Add", "x w", "y");
    ob_int(&f.a, n, "broadcast", 1);
    ob_int(&f.a, n, "axis", 1);
    ob_ints(&f.a, n, "consumed_inputs", 2, (int64_t[]){0, 0});
    run(&f, (float *[]){(float[]){1, 2, 3, 4}});
    cr_assert(f.info.opset == 1);
    expect(&f.out[0], 4, (float[]){11, 12, 23, 24});
    end(&f);
}

KTEST(onnx_legacy, softmax_was_over_everything_from_the_axis_on)
{
    fixture f = begin(3, 9);
    unary(&f, "Softmax", "1 2 2");
    run(&f, (float *[]){(float[]){0, 0, 0, 0}});
    expect(&f.out[0], 4, (float[]){.25f, .25f, .25f, .25f});
    cr_assert(f.out[0].shape.rank == 3);
    end(&f);
    f = begin(7, 13);
    unary(&f, "Softmax", "1 2 2");
    run(&f, (float *[]){(float[]){0, 0, 0, 0}});
    expect(&f.out[0], 4, (float[]){.5f, .5f, .5f, .5f});
    end(&f);
}

KTEST(onnx_legacy, softmax_over_one_real_axis_needs_no_reshape)
{
    fixture f = begin(3, 9);
    unary(&f, "Softmax", "1 4 1 1");
    run(&f, (float *[]){(float[]){0, 0, 0, 0}});
    expect(&f.out[0], 4, (float[]){.25f, .25f, .25f, .25f});
    cr_assert(f.g->n_nodes == 1);
    end(&f);
}

KTEST(onnx_legacy, attributes_became_inputs)
{
    fixture f = begin(3, 6);
    Onnx__NodeProto *n = unary(&f, "Clip", "3");
    ob_float(&f.a, n, "min", -1.0f);
    ob_float(&f.a, n, "max", 1.0f);
    run(&f, (float *[]){(float[]){-5, .5f, 5}});
    expect(&f.out[0], 3, (float[]){-1, .5f, 1});
    end(&f);

    f = begin(3, 9);
    n = unary(&f, "Slice", "4");
    ob_ints(&f.a, n, "starts", 1, (int64_t[]){1});
    ob_ints(&f.a, n, "ends", 1, (int64_t[]){3});
    run(&f, (float *[]){(float[]){1, 2, 3, 4}});
    expect(&f.out[0], 2, (float[]){2, 3});
    end(&f);

    f = begin(3, 11);
    n = unary(&f, "ReduceSum", "2 2");
    ob_ints(&f.a, n, "axes", 1, (int64_t[]){0});
    ob_int(&f.a, n, "keepdims", 0);
    run(&f, (float *[]){(float[]){1, 2, 3, 4}});
    expect(&f.out[0], 2, (float[]){4, 6});
    end(&f);
}

KTEST(onnx_legacy, upsample_is_resize)
{
    fixture f = begin(3, 7);
    Onnx__NodeProto *n = unary(&f, "Upsample", "1 1 1 2");
    ob_floats(&f.a, n, "scales", 4, (float[]){1, 1, 1, 2});
    run(&f, (float *[]){(float[]){1, 2}});
    expect(&f.out[0], 4, (float[]){1, 1, 2, 2});
    end(&f);
}

KTEST(onnx_legacy, dropout_passes_everything)
{
    fixture f = begin(3, 9);
    ob_input(&f.a, f.m, "x", F32, "2");
    ob_output(&f.a, f.m, "y");
    ob_output(&f.a, f.m, "mask");
    ob_float(&f.a, ob_node(&f.a, f.m, "Dropout", "x", "y mask"), "ratio", 0.5f);
    run(&f, (float *[]){(float[]){1, 2}});
    expect(&f.out[0], 2, (float[]){1, 2});
    expect(&f.out[1], 2, (float[]){1, 1});
    end(&f);
}

KTEST(onnx_legacy, cast_named_its_type)
{
    fixture f = begin(3, 5);
    ob_string(&f.a, unary(&f, "Cast", "2"), "to", "INT64");
    run(&f, (float *[]){(float[]){1.5f, -2.5f}});
    cr_assert(f.out[0].dtype == KAENA_I64 && kop_get_int(&f.out[0], 1) == -2);
    end(&f);
}

KTEST(onnx_legacy, tile_had_one_axis)
{
    fixture f = begin(3, 1);
    int64_t two = 2, axis = 1;
    ob_input(&f.a, f.m, "x", F32, "1 2");
    ob_output(&f.a, f.m, "y");
    ob_tensor(&f.a, f.m, "tiles", I64, 1, &two, sizeof two);
    ob_tensor(&f.a, f.m, "axis", I64, 1, &axis, sizeof axis);
    ob_node(&f.a, f.m, "Tile", "x tiles axis", "y");
    run(&f, (float *[]){(float[]){1, 2}});
    expect(&f.out[0], 4, (float[]){1, 2, 1, 2});
    end(&f);
}

KTEST(onnx_legacy, prelu_had_a_slope_per_channel)
{
    fixture f = begin(3, 6);
    float slope[2] = {.5f, .25f};
    ob_input(&f.a, f.m, "x", F32, "1 2 2");
    ob_output(&f.a, f.m, "y");
    ob_tensor(&f.a, f.m, "slope", F32, 2, slope, sizeof slope);
    ob_node(&f.a, f.m, "PRelu", "x slope", "y");
    run(&f, (float *[]){(float[]){-4, 4, -4, -8}});
    expect(&f.out[0], 4, (float[]){-2, 4, -1, -2});
    end(&f);
}

KTEST(onnx_legacy, operators_that_are_gone_are_made_from_others)
{
    fixture f = begin(3, 1);
    Onnx__NodeProto *n = unary(&f, "ImageScaler", "1 2 1 1");
    ob_float(&f.a, n, "scale", 2.0f);
    ob_floats(&f.a, n, "bias", 2, (float[]){1, -1});
    run(&f, (float *[]){(float[]){3, 4}});
    expect(&f.out[0], 2, (float[]){7, 7});
    end(&f);

    f = begin(3, 1);
    n = unary(&f, "Affine", "2");
    ob_float(&f.a, n, "alpha", 2.0f);
    ob_float(&f.a, n, "beta", 1.0f);
    run(&f, (float *[]){(float[]){3, 4}});
    expect(&f.out[0], 2, (float[]){7, 9});
    end(&f);

    f = begin(3, 1);
    n = unary(&f, "ConstantFill", "2");
    ob_float(&f.a, n, "value", 3.0f);
    run(&f, (float *[]){(float[]){0, 0}});
    expect(&f.out[0], 2, (float[]){3, 3});
    end(&f);
}

/* The shape of Softmax's input is computed by nodes, so the importer has to evaluate these first.
 */
KTEST(onnx_legacy, computed_shapes_are_evaluated_where_a_form_needs_the_rank)
{
    fixture f = begin(3, 9);
    int64_t minus = -1, zero = 0;
    ob_input(&f.a, f.m, "x", F32, "2 1 2");
    ob_output(&f.a, f.m, "y");
    ob_tensor(&f.a, f.m, "minus", I64, 1, &minus, sizeof minus);
    ob_tensor(&f.a, f.m, "zero", I64, 1, &zero, sizeof zero);
    ob_node(&f.a, f.m, "Shape", "x", "s");
    ob_int(&f.a, ob_node(&f.a, f.m, "Gather", "s zero", "n"), "axis", 0);
    ob_int(&f.a, ob_node(&f.a, f.m, "Concat", "n minus", "shape"), "axis", 0);
    ob_node(&f.a, f.m, "Reshape", "x shape", "flat");
    ob_node(&f.a, f.m, "Softmax", "flat", "y");
    run(&f, (float *[]){(float[]){0, 0, 0, 0}});
    expect(&f.out[0], 4, (float[]){.5f, .5f, .5f, .5f});
    cr_assert(f.out[0].shape.rank == 2);
    end(&f);
}

KTEST(onnx_legacy, training_is_refused)
{
    fixture f = begin(3, 9);
    ob_input(&f.a, f.m, "x", F32, "1 2 1 1");
    ob_output(&f.a, f.m, "y");
    ob_output(&f.a, f.m, "mean");
    float w[2] = {1, 1};
    ob_tensor(&f.a, f.m, "w", F32, 2, w, sizeof w);
    ob_node(&f.a, f.m, "BatchNormalization", "x w w w w", "y mean");
    KTEST_FAILS(f.err, UNIMPLEMENTED, "training", import(&f, NULL));
    end(&f);
}

KTEST(onnx_legacy, group_normalization_had_a_scale_per_group)
{
    static const float scale[1] = {2}, bias[1] = {1};
    fixture f = begin(8, 18);
    ob_input(&f.a, f.m, "x", F32, "1 2 1");
    ob_tensor(&f.a, f.m, "scale", F32, 1, scale, sizeof scale);
    ob_tensor(&f.a, f.m, "bias", F32, 1, bias, sizeof bias);
    ob_output(&f.a, f.m, "y");
    Onnx__NodeProto *n = ob_node(&f.a, f.m, "GroupNormalization", "x scale bias", "y");
    ob_int(&f.a, n, "num_groups", 1);
    ob_float(&f.a, n, "epsilon", 0);
    run(&f, (float *[]){(float[]){1, 5}});
    expect(&f.out[0], 2, (float[]){-1, 3});
    end(&f);
}

/* The ONNX importer: operators of other domains, and forms that training needs. */
#include "onnx_fixture.h"

/* A node of |domain|; x and further inputs are the graph's or constants'. */
static Onnx__NodeProto *node_of(fixture *f, const char *domain, const char *op, const char *in,
                                const char *out)
{
    Onnx__NodeProto *n = ob_node(&f->a, f->m, op, in, out);
    n->domain = kaena_arena_strdup(&f->a, domain);
    return n;
}

static Onnx__NodeProto *contrib(fixture *f, const char *op, const char *in, const char *out)
{
    return node_of(f, "com.microsoft", op, in, out);
}

/* x [1,2] and y; the constant b = (1, 3). */
static fixture begin_small(void)
{
    fixture f = begin(8, 17);
    static const float b[2] = {1, 3};
    ob_input(&f.a, f.m, "x", F32, "1 2");
    ob_tensor(&f.a, f.m, "b", F32, 2, b, sizeof b);
    ob_output(&f.a, f.m, "y");
    return f;
}

KTEST(onnx_foreign, gelu_in_all_its_forms)
{
    static const struct {
        const char *op, *in;
        float want[2];
    } cases[] = {{"Gelu", "x", {0.8413447f, -0.0455003f}},
                 {"BiasGelu", "x b", {1.9544997f, 0.8413447f}},
                 {"FastGelu", "x", {0.8411920f, -0.0454023f}},
                 {"FastGelu", "x b", {1.9545977f, 0.8411920f}},
                 {"QuickGelu", "x", {0.8457958f, -0.0643414f}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = begin_small();
        contrib(&f, cases[i].op, cases[i].in, "y");
        run(&f, (float *[]){(float[]){1, -2}});
        expect(&f.out[0], 2, cases[i].want);
        end(&f);
    }
}

KTEST(onnx_foreign, fused_matmul_transposes_and_scales)
{
    fixture f = begin_small();
    ob_input(&f.a, f.m, "z", F32, "1 2");
    Onnx__NodeProto *n = contrib(&f, "FusedMatMul", "x z", "y");
    ob_int(&f.a, n, "transB", 1);
    ob_float(&f.a, n, "alpha", 0.5f);
    run(&f, (float *[]){(float[]){1, 2}, (float[]){3, 4}});
    expect(&f.out[0], 1, (float[]){5.5f});
    end(&f);
    f = begin_small();
    ob_int(&f.a, contrib(&f, "FusedMatMul", "x x", "y"), "transBatchA", 1);
    KTEST_FAILS(f.err, UNIMPLEMENTED, "transBatchA", import(&f, NULL));
    end(&f);
}

KTEST(onnx_foreign, skip_layer_normalization)
{
    fixture f = begin_small();
    ob_output(&f.a, f.m, "sum");
    contrib(&f, "SkipLayerNormalization", "x x b - b", "y - - sum");
    run(&f, (float *[]){(float[]){1, 4}});
    expect(&f.out[0], 2, (float[]){-1, 3});
    expect(&f.out[1], 2, (float[]){3, 11});
    end(&f);
    f = begin_small();
    contrib(&f, "SkipSimplifiedLayerNormalization", "x x b", "y");
    run(&f, (float *[]){(float[]){0.5f, 3.5f}});
    expect(&f.out[0], 2, (float[]){0.2f, 4.2f});
    end(&f);
}

KTEST(onnx_foreign, simplified_layer_normalization_of_the_default_domain)
{
    fixture f = begin_small();
    ob_float(&f.a, ob_node(&f.a, f.m, "SimplifiedLayerNormalization", "x b", "y"), "epsilon", 0);
    run(&f, (float *[]){(float[]){1, 7}});
    expect(&f.out[0], 2, (float[]){0.2f, 4.2f});
    end(&f);
}

KTEST(onnx_foreign, quantised_operators)
{
    static const float half = 0.5f, one = 1;
    static const uint8_t zero = 10;
    fixture f = begin(8, 17);
    ob_input(&f.a, f.m, "x", F32, "2");
    ob_tensor(&f.a, f.m, "half", F32, 1, &half, sizeof half);
    ob_tensor(&f.a, f.m, "one", F32, 1, &one, sizeof one);
    ob_tensor(&f.a, f.m, "zero", KAENA_U8, 1, &zero, sizeof zero);
    ob_output(&f.a, f.m, "y");
    ob_node(&f.a, f.m, "QuantizeLinear", "x half zero", "q");
    contrib(&f, "QLinearAdd", "q half zero q half zero one zero", "sum");
    contrib(&f, "QLinearLeakyRelu", "sum one zero half zero", "relu");
    ob_node(&f.a, f.m, "DequantizeLinear", "relu half zero", "y");
    run(&f, (float *[]){(float[]){3, 4}});
    expect(&f.out[0], 2, (float[]){6, 8});
    end(&f);
}

KTEST(onnx_foreign, optimisers_and_labels)
{
    static const float zero[2] = {0, 0}, rate = 1;
    static const int64_t count = 0;
    fixture f = begin_small();
    ob_tensor(&f.a, f.m, "h", F32, 2, zero, sizeof zero);
    ob_tensor(&f.a, f.m, "r", F32, 1, &rate, sizeof rate);
    ob_tensor(&f.a, f.m, "t", I64, 1, &count, sizeof count);
    Onnx__NodeProto *n =
        node_of(&f, "ai.onnx.preview.training", "Adagrad", "r t b b h", "unused y");
    ob_float(&f.a, n, "epsilon", 0);
    ob_node(&f.a, f.m, "Identity", "x", "copy");
    run(&f, (float *[]){(float[]){1, 1}});
    expect(&f.out[0], 2, (float[]){1, 9});
    end(&f);
}

KTEST(onnx_foreign, unknown_operators_are_named_with_their_domain)
{
    fixture f = begin_small();
    contrib(&f, "NoSuchThing", "x", "y");
    KTEST_FAILS(f.err, UNIMPLEMENTED, "com.microsoft", import(&f, NULL));
    end(&f);
    f = begin_small();
    node_of(&f, "ai.onnx.preview.training", "Gradient", "x", "y");
    KTEST_FAILS(f.err, UNIMPLEMENTED, "Gradient", import(&f, NULL));
    end(&f);
    f = begin_small();
    ob_node(&f.a, f.m, "ImageDecoder", "x", "y");
    KTEST_FAILS(f.err, UNIMPLEMENTED, "ImageDecoder", import(&f, NULL));
    end(&f);
}

KTEST(onnx_training, batch_normalization_moves_its_running_values)
{
    static const float one = 1, zero = 0;
    fixture f = begin(8, 15);
    ob_input(&f.a, f.m, "x", F32, "2 1");
    ob_tensor(&f.a, f.m, "one", F32, 1, &one, sizeof one);
    ob_tensor(&f.a, f.m, "zero", F32, 1, &zero, sizeof zero);
    ob_output(&f.a, f.m, "y");
    ob_output(&f.a, f.m, "mean");
    ob_output(&f.a, f.m, "var");
    Onnx__NodeProto *n =
        ob_node(&f.a, f.m, "BatchNormalization", "x one zero zero one", "y mean var");
    ob_int(&f.a, n, "training_mode", 1);
    ob_float(&f.a, n, "epsilon", 0);
    ob_float(&f.a, n, "momentum", 0.5f);
    run(&f, (float *[]){(float[]){1, 5}});
    expect(&f.out[0], 2, (float[]){-1, 1});
    expect(&f.out[1], 1, (float[]){1.5f});
    expect(&f.out[2], 1, (float[]){2.5f});
    end(&f);
}

KTEST(onnx_training, dropout_drops)
{
    static const float all = 0.999999f;
    static const uint8_t yes = 1;
    fixture f = begin_small();
    Onnx__TensorProto *ratio = ob_tensor(&f.a, f.m, "ratio", F32, 1, &all, sizeof all);
    Onnx__TensorProto *training = ob_tensor(&f.a, f.m, "training", KAENA_BOOL, 1, &yes, 1);
    ratio->n_dims = training->n_dims = 0;
    ob_node(&f.a, f.m, "Dropout", "x ratio training", "y");
    run(&f, (float *[]){(float[]){1, 5}});
    expect(&f.out[0], 2, (float[]){0, 0});
    end(&f);
}

KTEST(onnx_legacy, dft_named_its_axis)
{
    fixture f = begin(8, 17);
    ob_input(&f.a, f.m, "x", F32, "1 2 1 1");
    ob_output(&f.a, f.m, "y");
    ob_node(&f.a, f.m, "DFT", "x", "y"); /* the axis is 1 where none is given */
    run(&f, (float *[]){(float[]){1, 2}});
    expect(&f.out[0], 4, (float[]){3, 0, -1, 0});
    end(&f);
}

/* The ONNX importer: what it says about bad models and bad bytes. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "onnx_fixture.h"

/* --- Models that are wrong -------------------------------------------------------------------- */

KTEST(onnx_refuse, operators_are_named_with_all_there_is_to_know)
{
    fixture f = begin(7, 13);
    unary(&f, "NoSuchOperator", "2");
    ob_output(&f.a, f.m, "z");
    ob_node(&f.a, f.m, "Other", "x", "z")->domain = kaena_arena_strdup(&f.a, "com.example");
    KTEST_FAILS(f.err, UNIMPLEMENTED,
                "node 'n_y': operator NoSuchOperator (domain 'ai.onnx', operator set 13) is not "
                "supported (2 nodes in all); also unsupported: Other",
                import(&f, NULL));
    cr_assert(strstr(f.err.hint, "list-operators"), "%s", f.err.hint);
    end(&f);
}

KTEST(onnx_refuse, subgraphs)
{
    fixture f = begin(7, 13);
    Onnx__NodeProto *n = unary(&f, "If", "1");
    Onnx__AttributeProto *a = ob_attr(&f.a, n, "then_branch", ONNX__ATTRIBUTE_TYPE__GRAPH);
    a->g = KAENA_NEW(&f.a, Onnx__GraphProto);
    *a->g = (Onnx__GraphProto)ONNX__GRAPH_PROTO__INIT;
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "it has no subgraph 'else_branch'", import(&f, NULL));
    n->op_type = kaena_arena_strdup(&f.a, "Relu");
    KTEST_FAILS(f.err, UNIMPLEMENTED, "it has a subgraph", import(&f, NULL));
    n->op_type = kaena_arena_strdup(&f.a, "Loop");
    n->n_attribute = 0;
    KTEST_FAILS(f.err, UNIMPLEMENTED, "it has no subgraph", import(&f, NULL));
    end(&f);
}

KTEST(onnx_refuse, versions_we_do_not_know)
{
    fixture f = begin(7, 99);
    unary(&f, "Relu", "2");
    KTEST_FAILS(f.err, UNIMPLEMENTED, "operator set 99 is newer than 21", import(&f, NULL));
    f.m->ir_version = 99;
    KTEST_FAILS(f.err, UNIMPLEMENTED, "IR version 99", import(&f, NULL));
    f.m->has_ir_version = 0;
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "no IR version", import(&f, NULL));
    end(&f);
    f = begin(7, 0);
    unary(&f, "Relu", "2");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "does not say in which version", import(&f, NULL));
    end(&f);
}

KTEST(onnx_refuse, graphs_that_contradict_themselves)
{
    fixture f = begin(7, 13);
    ob_input(&f.a, f.m, "x", F32, "2");
    ob_output(&f.a, f.m, "y");
    ob_node(&f.a, f.m, "Add", "x c", "a");
    ob_node(&f.a, f.m, "Neg", "a", "b");
    ob_node(&f.a, f.m, "Neg", "b", "c");
    ob_node(&f.a, f.m, "Neg", "c", "y");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "a cycle through node", import(&f, NULL));
    end(&f);

    f = begin(7, 13);
    unary(&f, "Relu", "2");
    ob_node(&f.a, f.m, "Neg", "x", "y");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "value 'y' is defined twice", import(&f, NULL));
    end(&f);

    f = begin(7, 13);
    unary(&f, "Relu", "2");
    f.m->graph->node[0]->input[0] = kaena_arena_strdup(&f.a, "nowhere");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "input 'nowhere' is made by no node", import(&f, NULL));
    end(&f);

    f = begin(7, 13);
    unary(&f, "Relu", "2");
    ob_output(&f.a, f.m, "missing");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "output 'missing' is made by no node", import(&f, NULL));
    end(&f);

    f = begin(7, 13);
    unary(&f, "Add", "2");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "node 'n_y' (Add): 1 inputs", import(&f, NULL));
    end(&f);
}

KTEST(onnx_refuse, lists_that_are_too_long)
{
    fixture f = begin(8, 13);
    Onnx__NodeProto *n = unary(&f, "Relu", "2");
    for (int i = 0; i < KCC_ONNX_MAX_ATTRIBUTES; i++)
        ob_int(&f.a, n, kaena_arena_printf(&f.a, "a%d", i), i);
    KTEST_OK(f.err, import(&f, NULL));
    ob_int(&f.a, n, "one_more", 1);
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "257 attributes", import(&f, NULL));
    n->n_attribute = 0;
    while (f.m->n_functions < KCC_ONNX_MAX_FUNCTIONS)
        (void)function(&f, "F");
    KTEST_OK(f.err, import(&f, NULL));
    (void)function(&f, "F");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "4097 functions", import(&f, NULL));
    f.m->n_functions = 0;
    for (size_t i = f.m->n_opset_import; i <= KCC_ONNX_MAX_OPERATOR_SETS; i++) {
        Onnx__OperatorSetIdProto *o =
            OB_APPEND(&f.a, f.m->opset_import, f.m->n_opset_import, Onnx__OperatorSetIdProto,
                      ONNX__OPERATOR_SET_ID_PROTO__INIT);
        o->domain = kaena_arena_printf(&f.a, "d%zu", i);
        o->has_version = 1;
        o->version = 1;
    }
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "257 operator sets", import(&f, NULL));
    f.m->n_opset_import--;
    KTEST_OK(f.err, import(&f, NULL));
    end(&f);
}

KTEST(onnx_refuse, inputs_that_are_no_tensors)
{
    fixture f = begin(7, 13);
    unary(&f, "Relu", "2");
    f.m->graph->input[0]->type->value_case = ONNX__TYPE_PROTO__VALUE_MAP_TYPE;
    f.m->graph->input[0]->type->map_type = (ProtobufCBinaryData){0};
    KTEST_FAILS(f.err, UNIMPLEMENTED, "input 'x': maps are not supported", import(&f, NULL));
    f.m->graph->input[0] = ob_value(&f.a, "x", 14, "2");
    KTEST_FAILS(f.err, UNIMPLEMENTED, "complex64", import(&f, NULL));
    f.m->graph->input[0] = ob_value(&f.a, "x", 77, "2");
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "element type 77 does not exist", import(&f, NULL));
    end(&f);
}

KTEST(onnx_refuse, tensors_whose_data_does_not_fit)
{
    static const struct {
        int64_t dim;
        size_t bytes;
        const char *message;
    } cases[] = {
        {2, 7, "raw_data has 7 bytes, shape and type ask for 8"},
        {(int64_t)1 << 40, 8, "raw_data has 8 bytes"},
        {INT64_MAX, 8, "too many elements"},
        {-2, 8, "dimension 0 is -2"},
        {3, 0, "initializer 'w'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f = begin(7, 13);
        float w[2] = {1, 2};
        ob_input(&f.a, f.m, "x", F32, "2");
        ob_output(&f.a, f.m, "y");
        ob_tensor(&f.a, f.m, "w", F32, cases[i].dim, cases[i].bytes ? w : NULL, cases[i].bytes);
        ob_node(&f.a, f.m, "Add", "x w", "y");
        KTEST_FAILS(f.err, INVALID_ARGUMENT, cases[i].message, import(&f, NULL));
        end(&f);
    }
}

/* --- Bytes that are wrong ----------------------------------------------------------------------
 */

KTEST(onnx_bytes, cut_and_flipped_files_do_no_harm)
{
    fixture f = begin(7, 9);
    float w[2] = {1, 2};
    ob_input(&f.a, f.m, "x", F32, "1 2 2");
    ob_output(&f.a, f.m, "y");
    ob_tensor(&f.a, f.m, "w", F32, 2, w, sizeof w);
    ob_node(&f.a, f.m, "Add", "x w", "s");
    ob_node(&f.a, f.m, "Softmax", "s", "y");
    size_t size;
    uint8_t *good = ob_pack(&f.a, f.m, &size);
    for (size_t i = 0; i < 2 * size; i++) {
        kaena_arena a;
        kaena_arena_init(&a, (size_t)64 << 20);
        uint8_t *bytes = kaena_arena_memdup(&a, good, size);
        if (i >= size)
            bytes[i - size] ^= (uint8_t)(1u << (i % 8));
        kaena_status s = kcc_import_onnx_bytes(&a, bytes, i < size ? i : size, NULL, NULL, &f.g,
                                               &f.info, &f.err);
        cr_assert(s == KAENA_OK || f.err.what[0]);
        kaena_arena_fini(&a);
    }
    end(&f);
}

KTEST(onnx_bytes, deep_nesting_is_refused)
{
    /* graph { node { attribute { g { node ... */
    static const uint8_t tags[3] = {0x0a, 0x2a, 0x32};
    fixture f = begin(7, 13);
    uint8_t *bytes = kaena_arena_alloc(&f.a, 65536), *at = bytes + 65536;
    size_t size = 0;
    for (int level = 0; level < 9999; level++) {
        uint8_t head[8], *h = head;
        *h++ = level == 9998 ? 0x3a : tags[(9997 - level) % 3];
        for (size_t v = size; v || h == head + 1; v >>= 7)
            *h++ = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        at -= h - head;
        memcpy(at, head, (size_t)(h - head));
        size += (size_t)(h - head);
    }
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "nested more than 100 deep",
                kcc_import_onnx_bytes(&f.a, at, size, NULL, NULL, &f.g, &f.info, &f.err));
    end(&f);
}

KTEST(onnx_bytes, expansion_is_bounded)
{
    /* A graph of four million nodes of two bytes each. */
    fixture f = begin(7, 13);
    size_t n = (size_t)8 << 20;
    uint8_t *bytes = kaena_arena_alloc(&f.a, n + 5);
    memcpy(bytes, (uint8_t[]){0x3a, 0x80, 0x80, 0x80, 0x04}, 5);
    for (size_t i = 0; i < n; i += 2)
        bytes[5 + i] = 0x0a;
    KTEST_FAILS(f.err, RESOURCE_EXHAUSTED, "expands to more than",
                kcc_import_onnx_bytes(&f.a, bytes, n + 5, NULL, NULL, &f.g, &f.info, &f.err));
    end(&f);
}

KTEST(onnx_bytes, names_with_a_nul_byte_are_refused)
{
    fixture f = begin(7, 13);
    unary(&f, "Relu", "2");
    size_t size;
    uint8_t *bytes = ob_pack(&f.a, f.m, &size);
    uint8_t *name = memmem(bytes, size, "n_y", 3);
    cr_assert(name);
    name[1] = 0;
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "field 'name' of NodeProto has a NUL byte",
                kcc_import_onnx_bytes(&f.a, bytes, size, NULL, NULL, &f.g, &f.info, &f.err));
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "no IR version",
                kcc_import_onnx_bytes(&f.a, NULL, 0, NULL, NULL, &f.g, &f.info, &f.err));
    end(&f);
}

/* --- External data -----------------------------------------------------------------------------
 */

/* y = x + w with w in another file; |entries|: key, value, ..., NULL. Imports from |dir|. */
static kaena_status import_external(fixture *f, const char *dir, const char *const *entries)
{
    *f = begin(7, 13);
    ob_input(&f->a, f->m, "x", F32, "2");
    ob_output(&f->a, f->m, "y");
    Onnx__TensorProto *t = ob_tensor(&f->a, f->m, "w", F32, 2, NULL, 0);
    t->has_data_location = 1;
    t->data_location = 1;
    for (; *entries; entries += 2) {
        Onnx__StringStringEntryProto *e =
            OB_APPEND(&f->a, t->external_data, t->n_external_data, Onnx__StringStringEntryProto,
                      ONNX__STRING_STRING_ENTRY_PROTO__INIT);
        e->key = kaena_arena_strdup(&f->a, entries[0]);
        e->value = kaena_arena_strdup(&f->a, entries[1]);
    }
    ob_node(&f->a, f->m, "Add", "x w", "y");
    size_t size;
    void *bytes = ob_pack(&f->a, f->m, &size);
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/model.onnx", dir);
    KTEST_OK(f->err, kaena_file_write(path, bytes, size, &f->err));
    return kcc_import_onnx(&f->a, path, NULL, &f->g, &f->info, &f->err);
}

KTEST(onnx_external, data_lies_beneath_the_model)
{
    char dir[] = "/tmp/kaena-test-XXXXXX", path[4200], model[4200];
    cr_assert(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/model", dir);
    cr_assert(mkdir(path, 0700) == 0);
    (void)snprintf(model, sizeof model, "%s/model", dir);
    fixture f;
    kaena_err err;
    float data[3] = {99, 10, 20};
    kaena_err_init(&err);
    (void)snprintf(path, sizeof path, "%s/model/w.bin", dir);
    KTEST_OK(err, kaena_file_write(path, data, sizeof data, &err));
    (void)snprintf(path, sizeof path, "%s/secret.bin", dir);
    KTEST_OK(err, kaena_file_write(path, data, sizeof data, &err));
    (void)snprintf(path, sizeof path, "%s/model/link.bin", dir);
    cr_assert(symlink("../secret.bin", path) == 0);

    cr_assert(import_external(&f, model,
                              (const char *[]){"location", "w.bin", "offset", "4", "length", "8",
                                               NULL}) == KAENA_OK,
              "%s", f.err.what);
    const kgr_value *w = kgr_value_find(f.g, "w");
    cr_assert(w && ((const float *)w->t.data)[1] == 20);
    end(&f);

    static const struct {
        const char *entries[7];
        kaena_status status;
        const char *message;
    } cases[] = {
        {{"location", "../secret.bin", NULL}, KAENA_INVALID_ARGUMENT, "below the model's"},
        {{"location", "/etc/passwd", NULL}, KAENA_INVALID_ARGUMENT, "below the model's"},
        {{"location", "link.bin", NULL}, KAENA_PERMISSION_DENIED, "symbolic link"},
        {{"location", "none.bin", NULL}, KAENA_NOT_FOUND, "none.bin"},
        {{"location", ".", NULL}, KAENA_INVALID_ARGUMENT, "initializer 'w'"},
        {{"location", "w.bin", "offset", "8", NULL}, KAENA_INVALID_ARGUMENT, "past its end"},
        {{"location", "w.bin", "offset", "18446744073709551615", NULL},
         KAENA_INVALID_ARGUMENT,
         "past its end"},
        {{"location", "w.bin", "offset", "-4", NULL}, KAENA_INVALID_ARGUMENT, "not a number"},
        {{"location", "w.bin", "length", "4", NULL}, KAENA_INVALID_ARGUMENT, "has length 4"},
        {{"offset", "0", NULL}, KAENA_INVALID_ARGUMENT, "without a location"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kaena_status s = import_external(&f, model, cases[i].entries);
        cr_assert(s == cases[i].status && strstr(f.err.what, cases[i].message), "%zu: %s", i,
                  f.err.what);
        end(&f);
    }
    static const char *const made[] = {"model/model.onnx", "model/w.bin", "model/link.bin",
                                       "secret.bin"};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, made[i]);
        cr_assert(unlink(path) == 0);
    }
    cr_assert(rmdir(model) == 0 && rmdir(dir) == 0);
}

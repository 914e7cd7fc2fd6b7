/* Every operator with inputs and attributes that a hostile model could give it: whatever comes
 * back, nothing crashes, and what succeeds gives outputs that agree with what inference said. */
#include <math.h>

#include "ops_agree.h"

#define ROUNDS 2500
#define QUOTA (2u << 20)

static uint32_t below(uint32_t n)
{
    return ops_below(n);
}

static int64_t any_int(void)
{
    static const int64_t odd[] = {INT64_MIN,
                                  INT64_MAX,
                                  INT64_C(1) << 31,
                                  INT64_C(1) << 40,
                                  -(INT64_C(1) << 40),
                                  INT64_C(1) << 61,
                                  1000,
                                  -1000};
    if (below(8) == 0)
        return odd[below(sizeof odd / sizeof *odd)];
    return (int64_t)below(9) - 2;
}

static float any_float(void)
{
    static const float odd[] = {0, -1, 1e-30f, 1e30f, 0.5f, 2, NAN, INFINITY, -3.5f, 0.001f, 1, 1};
    return odd[below(sizeof odd / sizeof *odd)];
}

static const char *const int_names[] = {
    "axis",
    "group",
    "ceil_mode",
    "count_include_pad",
    "storage_order",
    "p",
    "keepdims",
    "exclusive",
    "reverse",
    "noop_with_empty_axes",
    "batch_dims",
    "blocksize",
    "to",
    "transA",
    "transB",
    "fmod",
    "upper",
    "largest",
    "sorted",
    "select_last_index",
    "batch_axis",
    "time_axis",
    "start",
    "end",
    "allowzero",
    "size",
    "dtype",
    "k",
    "stash_type",
    "training_mode",
    "block_size",
    "antialias",
    "exclude_outside",
    "output_dtype",
    "kaena.residual",
    "hidden_size",
    "layout",
    "linear_before_reset",
    "input_forget",
    "detect_positive",
};
static const char *const ints_names[] = {"kernel_shape",   "strides",      "dilations", "pads",
                                         "output_padding", "output_shape", "perm",      "axes"};
static const char *const float_names[] = {
    "alpha", "beta", "gamma", "epsilon", "bias", "kaena.act_alpha", "clip", "cubic_coeff_a"};
static const char *const string_names[] = {
    "auto_pad",  "mode",      "coordinate_transformation_mode", "nearest_mode", "reduction",
    "direction", "kaena.act", "keep_aspect_ratio_policy",       "approximate"};
static const char *const strings[] = {"SAME_UPPER",
                                      "SAME_LOWER",
                                      "VALID",
                                      "NOTSET",
                                      "nearest",
                                      "linear",
                                      "cubic",
                                      "constant",
                                      "reflect",
                                      "edge",
                                      "wrap",
                                      "tf_crop_and_resize",
                                      "align_corners",
                                      "half_pixel_symmetric",
                                      "asymmetric",
                                      "floor",
                                      "add",
                                      "max",
                                      "RIGHT",
                                      "LEFT",
                                      "bidirectional",
                                      "RELU",
                                      "GELU",
                                      "not_larger",
                                      "tanh",
                                      "CRD",
                                      "",
                                      "bogus"};

#define PICK(list) list[below(sizeof(list) / sizeof *(list))]
#define MAX_ATTRS 10
#define MAX_IN 9

typedef struct hostile_call {
    kaena_arena arena;
    kop_attr attr[MAX_ATTRS];
    int64_t ints[MAX_ATTRS][6];
    kop_tensor in[MAX_IN];
    const kop_tensor *in_ptr[MAX_IN];
    kop_tensor out[KOP_MAX_OUTPUTS];
    kop_tensor value;
    kop_call call;
    kaena_err err;
} hostile_call;

/* How many integers a list has: often as many as the data has dimensions, spatial dimensions, or
 * twice those. */
static uint32_t any_count(const kop_tensor *x)
{
    uint32_t rank = (uint32_t)x->shape.rank, spatial = rank > 2 ? rank - 2 : 1;
    const uint32_t n[] = {rank, spatial, spatial, 2 * spatial, below(7)};
    return n[below(5)] % 7;
}

static kop_attr any_attr(hostile_call *h, uint32_t i)
{
    kop_attr a = {.n = 1};
    switch (below(8)) {
    case 0:
    case 1:
    case 2:
        a.name = PICK(int_names);
        a.type = KOP_ATTR_INT;
        a.u.i = any_int();
        break;
    case 3:
    case 4:
        a.name = PICK(ints_names);
        a.type = KOP_ATTR_INTS;
        a.n = any_count(&h->in[0]);
        for (uint32_t j = 0; j < a.n; j++)
            h->ints[i][j] = below(3) ? 1 + (int64_t)below(2) : any_int();
        a.u.ints = h->ints[i];
        break;
    case 5:
        a.name = PICK(float_names);
        a.type = KOP_ATTR_FLOAT;
        a.u.f = any_float();
        break;
    case 6:
        a.name = PICK(string_names);
        a.type = KOP_ATTR_STRING;
        a.u.s = PICK(strings);
        break;
    default:
        a.name = "value";
        a.type = KOP_ATTR_TENSOR;
        a.u.tensor = &h->value;
        break;
    }
    return a;
}

static const kaena_dtype dtypes[] = {KAENA_F32, KAENA_U8,  KAENA_I8,     KAENA_U16,  KAENA_I16,
                                     KAENA_I32, KAENA_I64, KAENA_STRING, KAENA_BOOL, KAENA_F16,
                                     KAENA_F64, KAENA_U32, KAENA_U64,    KAENA_BF16};

static void fill(kop_tensor *t, void *data, size_t n)
{
    t->data = data;
    for (size_t i = 0; i < n && t->dtype != KAENA_STRING; i++) {
        if (kaena_dtype_is_float(t->dtype))
            kop_set_float(t, i, (double)any_float());
        else
            kop_set_int(t, i, any_int());
    }
}

/* |like| biases towards the type and rank an operator is likely to accept. */
static kop_tensor any_tensor(hostile_call *h, const kop_tensor *like)
{
    kop_tensor t = {.dtype = below(3) ? PICK(dtypes) : KAENA_F32};
    t.shape.rank = (int32_t)below(below(10) ? 5 : KAENA_MAX_RANK + 1);
    if (like && below(2)) {
        t.dtype = like->dtype;
        t.shape.rank = like->shape.rank;
    } else if (below(3) == 0) {
        t.dtype = KAENA_I64;
        t.shape.rank = 1;
    }
    for (int32_t i = 0; i < t.shape.rank; i++) {
        t.shape.dim[i] = below(40) ? (int64_t)below(5) : any_int();
        if (like && i < like->shape.rank && below(2))
            t.shape.dim[i] = like->shape.dim[i];
        if (t.shape.dim[i] < KAENA_DIM_UNKNOWN)
            t.shape.dim[i] = 1;
    }
    int64_t n;
    if (kaena_shape_elements(&t.shape, &n) && n < 4096 && below(20))
        fill(&t, kaena_arena_array(&h->arena, (size_t)n, kaena_dtype_size(t.dtype)), (size_t)n);
    return t;
}

static void make_call(hostile_call *h, kop_op op)
{
    const kop_row *row = kop_row_of(op);
    uint32_t most = row->max_in < MAX_IN - 1 ? row->max_in : 5;
    most = most < row->min_in ? row->min_in : most;
    h->call = (kop_call){
        .op = op, .name = "n", .attr = h->attr, .in = h->in_ptr, .out = h->out, .err = &h->err};
    h->value = any_tensor(h, NULL);
    h->call.n_in = row->min_in + below(most - row->min_in + 1) + (below(10) == 0);
    for (uint32_t i = 0; i < h->call.n_in; i++) {
        h->in[i] = any_tensor(h, i ? &h->in[below(i)] : NULL);
        h->in[i].unranked = !h->in[i].data && below(3) == 0;
        h->in_ptr[i] = i && below(12) == 0 ? NULL : &h->in[i];
    }
    h->call.n_attr = below(MAX_ATTRS + 1);
    for (uint32_t i = 0; i < h->call.n_attr; i++)
        h->attr[i] = any_attr(h, i);
    uint32_t outs = row->max_out < 4 ? row->max_out : 4;
    h->call.n_out = row->min_out + below(outs - row->min_out + 1);
}

/* One random call; |*good| counts the evaluations that succeeded. */
static void one_call(kop_op op, uint32_t *good)
{
    hostile_call *h = calloc(1, sizeof *h);
    kaena_arena_init(&h->arena, 16u << 20);
    make_call(h, op);
    *good += ops_try(&h->call, QUOTA);
    kaena_arena_fini(&h->arena);
    free(h);
}

KTEST(ops_hostile, random_calls)
{
    ops_random_begin();
    uint32_t never = 0;
    for (unsigned op = KOP_NONE + 1; op < KOP_COUNT; op++) {
        uint32_t good = 0;
        for (uint32_t i = 0; i < ROUNDS; i++)
            one_call((kop_op)op, &good);
        if (!good) {
            never++;
            fprintf(stderr, "%s never evaluated\n", kop_row_of((kop_op)op)->name);
        }
    }
    /* Random calls rarely fit the operators with many related inputs (test_ops_mutated.c is for
     * these); most must fit sometimes. */
    cr_assert(never < KOP_COUNT / 4, "%u operators were only ever refused", never);
}

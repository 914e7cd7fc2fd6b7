/* Plans with branches, loops, cases and dynamic batches, made by hand, on emulated devices. */
#include <stdlib.h>
#include <string.h>

#include "dev.h"
#include "kneff.h"
#include "ktest.h"

#define W 64
#define NEFF_TEST_DEPTH 20
#define F32(at) at ":f32[1,1,1,64]<0,0,0,4>"
static const int64_t row[] = {1, W}, one[] = {1};

/* entry 0: IO1 = IO0 + weights (weights[i] = i); entry 3: IO1 = IO0 * IO0; entry 6: IO2 = IO0 + IO1
 */
static const char *const program[] = {
    "TT op=ADD a=" F32("IO0+0") " b=" F32("WEIGHTS+0") " dst=" F32("SB+0") "\nCOPY src=" F32(
        "SB+"
        "0") " dst=" F32("IO1+0") "\nHALT\n"
                                  "TT op=MUL a=" F32("IO0+0") " b=" F32("IO0+0") " dst=" F32(
                                      "SB"
                                      "+"
                                      "0") "\nCOPY src=" F32("SB+0") " dst=" F32("IO1+0") "\nHALT\n"
                                                                                          "TT "
                                                                                          "op=ADD "
                                                                                          "a=" F32("IO0+0") " b=" F32("IO1+0") " dst=" F32(
                                                                                              "SB+"
                                                                                              "0") "\nCOPY "
                                                                                                   "src=" F32(
                                                                                                       "SB+"
                                                                                                       "0") " dst"
                                                                                                            "=" F32(
                                                                                                                "IO2+0") "\nHALT\n"};
enum { ADD_WEIGHTS = 0, SQUARE = 3, ADD = 6 };
static float weights[W];

static void start(kneff *k)
{
    for (int i = 0; i < W; i++)
        weights[i] = (float)i;
    kneff_init(k, 1, program);
    kneff_weights(k, weights, sizeof weights);
    k->meta.sb_bytes = 4096;
    k->meta.host_quota_bytes = 1 << 20;
}

static uint32_t f32(kneff *k, const char *name)
{
    return kneff_value(k, name, KAENA_F32, 2, row);
}

static uint32_t number(kneff *k, const char *name, kaena_dtype t)
{
    return kneff_value(k, name, t, 1, one);
}

/* --- Running
 * ---------------------------------------------------------------------------------------------------------------
 */

typedef struct answer {
    kaena_arena arena;
    kop_tensor got[KNEFF_MAX], out[KNEFF_MAX];
    uint32_t n;
    kaena_status status;
    kaena_err err;
} answer;

static void on_done(dev_request *r, kaena_status status, const kaena_err *err)
{
    answer *a = r->user;
    a->status = status;
    if (err)
        a->err = *err;
    for (uint32_t i = 0; status == KAENA_OK && i < a->n; i++)
        cr_assert(kop_copy(&a->arena, &a->got[i], &a->out[i]));
}

/* A model on a system of its own. */
typedef struct loaded {
    dev_system *sys;
    dev_model *model;
    neff_file *file;
} loaded;

static loaded load_on(kneff *k, uint32_t threads)
{
    loaded l;
    kaena_err err;
    const dev_config config = {.n_chips = 1, .threads = threads};
    cr_assert_eq(dev_system_create(&config, &l.sys, &err), KAENA_OK);
    l.file = kneff_open(k);
    cr_assert_eq(dev_model_load(l.sys, "m", l.file, &l.model, &err), KAENA_OK, "%s", err.what);
    kneff_fini(k);
    return l;
}

static loaded load(kneff *k)
{
    return load_on(k, 2);
}

static void unload(loaded *l)
{
    l->model = dev_model_unload(l->model);
    l->file = neff_unref(l->file);
    l->sys = dev_system_destroy(l->sys);
}

static void run_until(loaded *l, const kop_tensor *in, const atomic_bool *stop, answer *a)
{
    memset(a, 0, sizeof *a);
    kaena_arena_init(&a->arena, 0);
    a->n = neff_n_outputs(l->file);
    dev_request r = {
        .in_tensor = in, .out_tensor = a->got, .stop = stop, .done = on_done, .user = a};
    cr_assert(dev_run(l->model, &r));
}

static void run(loaded *l, const kop_tensor *in, answer *a)
{
    run_until(l, in, NULL, a);
}

static kop_tensor tensor(kaena_dtype dtype, int32_t rank, const int64_t *dims, void *data)
{
    kop_tensor t = {.dtype = dtype, .shape = {.rank = rank}, .data = data};
    memcpy(t.shape.dim, dims, (size_t)rank * sizeof *dims);
    return t;
}

static float at(const kop_tensor *t, size_t i)
{
    return ((const float *)t->data)[i];
}

/* --- Branches
 * ---------------------------------------------------------------------------------------------------------------
 */

/* y = c ? x + w : -x */
static void branch(kneff *k)
{
    start(k);
    uint32_t c = number(k, "c", KAENA_BOOL), x = f32(k, "x"), y = f32(k, "y"), a = f32(k, "a"),
             b = f32(k, "b");
    kneff_input(k, c);
    kneff_input(k, x);
    kneff_output(k, y);
    uint32_t t = kneff_body(k);
    kneff_device(k, ADD_WEIGHTS, 2, (uint32_t[]){x, a}, 2);
    kneff_close(k);
    uint32_t e = kneff_body(k);
    kneff_host(k, "graph \"h\" { input %x: float32[1,64] %y: float32[1,64] = Neg(%x) output %y }",
               1, &x, 1, &b);
    kneff_close(k);
    kneff_if(k, c, t, e, 1, &a, &b, &y);
}

static void check_branches(uint32_t threads)
{
    kneff k;
    branch(&k);
    loaded l = load_on(&k, threads);
    float x[W];
    for (int i = 0; i < W; i++)
        x[i] = (float)(2 * i);
    for (int turn = 0; turn < 4; turn++) {
        bool c = turn % 2 == 0;
        answer a;
        run(&l, (kop_tensor[]){tensor(KAENA_BOOL, 1, one, &c), tensor(KAENA_F32, 2, row, x)}, &a);
        cr_assert_eq(a.status, KAENA_OK, "%s", a.err.what);
        for (int i = 0; i < W; i++)
            cr_assert_eq(at(&a.out[0], i), (float)(c ? 3 * i : -2 * i));
        kaena_arena_fini(&a.arena);
    }
    unload(&l);
}

KTEST(plan, branches)
{
    check_branches(2);
}

KTEST(plan, the_caller_computes_where_there_are_no_workers)
{
    check_branches(0);
}

/* The caller's buffer gets what a branch hands out. */
static void ignore(dev_request *r, kaena_status status, const kaena_err *err)
{
    (void)err;
    *(kaena_status *)r->user = status;
}

KTEST(plan, results_of_branches_reach_the_callers_buffer)
{
    kneff k;
    branch(&k);
    loaded l = load(&k);
    float x[W] = {0}, y[W] = {0};
    bool c = true;
    kaena_status status = KAENA_UNKNOWN;
    dev_request r = {
        .in = (const void *[]){&c, x}, .out = (void *[]){y}, .done = ignore, .user = &status};
    cr_assert(dev_run(l.model, &r));
    cr_assert_eq(status, KAENA_OK);
    cr_assert_eq(y[5], 5.0f);
    unload(&l);
}

/* --- Loops
 * -----------------------------------------------------------------------------------------------------------------
 */

/* n times, while c: (x, z) = (z, x + w); y = x in the end, all = every x + w. |declared|: how many
 * turns the type of |all| has, -1: any. */
static void loop(kneff *k, int64_t declared)
{
    start(k);
    uint32_t n = number(k, "n", KAENA_I64), c = number(k, "c", KAENA_BOOL), x = f32(k, "x"),
             z = f32(k, "z"), y = f32(k, "y"), z2 = f32(k, "z2"), xi = f32(k, "xi"),
             zi = f32(k, "zi"), sum = f32(k, "sum");
    uint32_t all = kneff_value(k, "all", KAENA_F32, 3, (int64_t[]){declared, 1, W});
    if (declared < 0)
        kneff_dynamic(k, all, false);
    kneff_input(k, n);
    kneff_input(k, c);
    kneff_input(k, x);
    kneff_input(k, z);
    kneff_output(k, y);
    kneff_output(k, z2);
    kneff_output(k, all);
    uint32_t body = kneff_body(k);
    kneff_device(k, ADD_WEIGHTS, 2, (uint32_t[]){xi, sum}, 2);
    kneff_close(k);
    Kaena__V1__NeffLoopStep *s = kneff_loop(k, body);
    s->trip_count = n + 1;
    s->condition = c + 1;
    kneff_carry(k, s, x, xi, zi, y);
    kneff_carry(k, s, z, zi, sum, z2);
    kneff_scan(k, s, sum, all);
}

static void run_loop(loaded *l, int64_t n, bool c, answer *a)
{
    static float x[W], z[W];
    for (int i = 0; i < W; i++) {
        x[i] = 1;
        z[i] = 1000;
    }
    run(l,
        (kop_tensor[]){tensor(KAENA_I64, 1, one, &n), tensor(KAENA_BOOL, 1, one, &c),
                       tensor(KAENA_F32, 2, row, x), tensor(KAENA_F32, 2, row, z)},
        a);
}

KTEST(plan, loops_carry_and_collect)
{
    kneff k;
    loop(&k, -1);
    loaded l = load(&k);
    for (int64_t n = 0; n < 40; n += 3) {
        answer a;
        run_loop(&l, n, true, &a);
        cr_assert_eq(a.status, KAENA_OK, "%s", a.err.what);
        float x = 1, z = 1000, w = 3;
        cr_assert_eq(a.out[2].shape.rank, 3);
        cr_assert_eq(a.out[2].shape.dim[0], n);
        cr_assert_eq(a.out[2].shape.dim[2], W);
        for (int64_t t = 0; t < n; t++) {
            float sum = x + w;
            x = z;
            z = sum;
            cr_assert_eq(at(&a.out[2], (size_t)t * W + 3), sum);
        }
        cr_assert_eq(at(&a.out[0], 3), x);
        cr_assert_eq(at(&a.out[1], 3), z);
        kaena_arena_fini(&a.arena);
    }
    answer a;
    run_loop(&l, 5, false, &a);
    cr_assert_eq(at(&a.out[0], 3), 1);
    cr_assert_eq(a.out[2].shape.dim[0], 0);
    kaena_arena_fini(&a.arena);
    unload(&l);
}

KTEST(plan, a_declared_number_of_turns_is_held_to)
{
    kneff k;
    loop(&k, 4);
    loaded l = load(&k);
    answer a;
    run_loop(&l, 4, true, &a);
    cr_assert_eq(a.status, KAENA_OK, "%s", a.err.what);
    cr_assert_eq(at(&a.out[2], 3 * W + 3), 1006);
    kaena_arena_fini(&a.arena);
    run_loop(&l, 5, true, &a);
    cr_assert_eq(a.status, KAENA_DATA_LOSS);
    cr_assert(strstr(a.err.what, "declared for 4 turns, there are more"), "%s", a.err.what);
    kaena_arena_fini(&a.arena);
    run_loop(&l, 3, true, &a);
    cr_assert(strstr(a.err.what, "declared for 4 turns, there were 3"), "%s", a.err.what);
    kaena_arena_fini(&a.arena);
    unload(&l);
}

/* for i in 0..n: for j in 0..i: v = v concat [i]; stops when a condition made of data says so. */
static void nest(kneff *k, bool endless)
{
    static const int64_t any[] = {-1};
    start(k);
    uint32_t n = number(k, "n", KAENA_I64), v = kneff_value(k, "v", KAENA_I64, 1, any),
             out = kneff_value(k, "out", KAENA_I64, 1, any),
             vi = kneff_value(k, "vi", KAENA_I64, 1, any),
             vo = kneff_value(k, "vo", KAENA_I64, 1, any),
             wi = kneff_value(k, "wi", KAENA_I64, 1, any),
             wo = kneff_value(k, "wo", KAENA_I64, 1, any), i = number(k, "i", KAENA_I64),
             j = number(k, "j", KAENA_I64), go = number(k, "go", KAENA_BOOL);
    for (uint32_t value = v; value <= wo; value++)
        kneff_dynamic(k, value, false);
    (void)j;
    kneff_input(k, n);
    kneff_input(k, v);
    kneff_output(k, out);
    uint32_t outer = kneff_body(k), inner = kneff_body(k);
    kneff_host(k,
               "graph \"h\" { input %v: int64[?] input %i: int64[1] "
               "%o: int64[?] = Concat(%v, %i) {axis=0} output %o }",
               2, (uint32_t[]){wi, i}, 1, &wo);
    kneff_close(k);
    Kaena__V1__NeffLoopStep *s = kneff_loop(k, inner);
    s->trip_count = i + 1;
    s->iteration = j + 1;
    kneff_carry(k, s, vi, wi, wo, vo);
    kneff_host(k,
               "graph \"h\" { input %i: int64[1] input %n: int64[1] "
               "%o: bool[1] = Less(%i, %n) output %o }",
               2, (uint32_t[]){i, n}, 1, &go);
    kneff_close(k);
    s = kneff_loop(k, outer);
    s->iteration = i + 1;
    s->next_condition = endless ? 0 : go + 1;
    kneff_carry(k, s, v, vi, vo, out);
}

KTEST(plan, loops_nest_and_values_grow)
{
    kneff k;
    nest(&k, false);
    loaded l = load(&k);
    for (int64_t n = 0; n < 9; n += 4) {
        int64_t v[2] = {7, 8}, two[] = {2};
        answer a;
        run(&l, (kop_tensor[]){tensor(KAENA_I64, 1, one, &n), tensor(KAENA_I64, 1, two, v)}, &a);
        cr_assert_eq(a.status, KAENA_OK, "%s", a.err.what);
        const int64_t *got = a.out[0].data;
        cr_assert_eq(a.out[0].shape.dim[0], 2 + n * (n + 1) / 2);
        cr_assert_eq(got[1], 8);
        size_t at = 2;
        for (int64_t i = 0; i <= n; i++)
            for (int64_t j = 0; j < i; j++)
                cr_assert_eq(got[at++], i);
        kaena_arena_fini(&a.arena);
    }
    unload(&l);
}

KTEST(plan, an_endless_loop_runs_into_its_quota)
{
    kneff k;
    nest(&k, true);
    k.meta.host_quota_bytes = 1 << 16; /* each turn copies what the last one left */
    loaded l = load(&k);
    int64_t n = 0, v[1] = {0};
    answer a;
    run(&l, (kop_tensor[]){tensor(KAENA_I64, 1, one, &n), tensor(KAENA_I64, 1, one, v)}, &a);
    cr_assert_eq(a.status, KAENA_RESOURCE_EXHAUSTED, "%s", a.err.what);
    kaena_arena_fini(&a.arena);
    /* And the next request is none the worse for it. */
    atomic_bool stop = true;
    run_until(&l, (kop_tensor[]){tensor(KAENA_I64, 1, one, &n), tensor(KAENA_I64, 1, one, v)},
              &stop, &a);
    cr_assert_eq(a.status, KAENA_CANCELLED, "%s", a.err.what);
    kaena_arena_fini(&a.arena);
    unload(&l);
}

/* What a request brings in a size that the compiler did not know may be copied a few times. */
KTEST(plan, large_inputs_raise_the_quota)
{
    static const int64_t any[] = {-1};
    kneff k;
    start(&k);
    uint32_t x = kneff_value(&k, "x", KAENA_I64, 1, any),
             y = kneff_value(&k, "y", KAENA_I64, 1, any);
    kneff_dynamic(&k, x, false);
    kneff_dynamic(&k, y, false);
    kneff_input(&k, x);
    kneff_output(&k, y);
    kneff_host(&k, "graph \"h\" { input %x: int64[?] %y: int64[?] = Neg(%x) output %y }", 1, &x, 1,
               &y);
    loaded l = load(&k);
    int64_t n = 1 << 20; /* eight times the quota */
    int64_t *data = calloc((size_t)n, sizeof *data);
    data[n - 1] = 5;
    answer a;
    run(&l, (kop_tensor[]){tensor(KAENA_I64, 1, &n, data)}, &a);
    cr_assert_eq(a.status, KAENA_OK, "%s", a.err.what);
    cr_assert_eq(((const int64_t *)a.out[0].data)[n - 1], -5);
    kaena_arena_fini(&a.arena);
    free(data);
    unload(&l);
}

/* Nothing but control and device steps, forever: only the stop flag ends it. */
KTEST(plan, the_stop_flag_ends_a_loop)
{
    kneff k;
    start(&k);
    uint32_t x = f32(&k, "x"), y = f32(&k, "y"), xi = f32(&k, "xi"), xo = f32(&k, "xo");
    kneff_input(&k, x);
    kneff_output(&k, y);
    uint32_t body = kneff_body(&k);
    kneff_device(&k, SQUARE, 2, (uint32_t[]){xi, xo}, 2);
    kneff_close(&k);
    kneff_carry(&k, kneff_loop(&k, body), x, xi, xo, y);
    loaded l = load(&k);
    float data[W] = {0};
    atomic_bool stop = false;
    kaena_status status = KAENA_UNKNOWN;
    kop_tensor in = tensor(KAENA_F32, 2, row, data);
    dev_request r = {.in_tensor = &in, .stop = &stop, .done = ignore, .user = &status};
    cr_assert(dev_submit(l.model, &r));
    stop = true;
    /* The context comes back. */
    dev_request again = r;
    kaena_status second = KAENA_UNKNOWN;
    again.user = &second;
    while (!dev_run(l.model, &again)) {
    }
    cr_assert_eq(status, KAENA_CANCELLED);
    cr_assert_eq(second, KAENA_CANCELLED);
    unload(&l);
}

/* --- Cases and batches
 * ---------------------------------------------------------------------------------------------------
 */

/* y = x + x in two compiled shapes: [2,4] and [4,4]; or, with |batch|, of any number of rows. */
static void cases(kneff *k, bool batch)
{
    static const char *const text[] = {
        "TT op=ADD a=IO0+0:f32[1,1,1,8]<0,0,0,4> b=IO0+0:f32[1,1,1,8]<0,0,0,4> "
        "dst=IO1+0:f32[1,1,1,8]<0,0,0,4>\nHALT\n"
        "TT op=ADD a=IO0+0:f32[1,1,1,16]<0,0,0,4> b=IO0+0:f32[1,1,1,16]<0,0,0,4> "
        "dst=IO1+0:f32[1,1,1,16]<0,0,0,4>\nHALT\n"};
    static const int64_t any[] = {-1, 4}, small[] = {2, 4}, large[] = {4, 4};
    kneff_init(k, 1, text);
    uint32_t x = kneff_value(k, "x", KAENA_F32, 2, any), y = kneff_value(k, "y", KAENA_F32, 2, any),
             xs = kneff_value(k, "xs", KAENA_F32, 2, small),
             ys = kneff_value(k, "ys", KAENA_F32, 2, small),
             xl = kneff_value(k, "xl", KAENA_F32, 2, large),
             yl = kneff_value(k, "yl", KAENA_F32, 2, large);
    kneff_dynamic(k, x, false);
    kneff_dynamic(k, y, false);
    kneff_input(k, x);
    kneff_output(k, y);
    uint32_t s = kneff_body(k);
    kneff_device(k, 0, 2, (uint32_t[]){xs, ys}, 2);
    kneff_close(k);
    uint32_t l = kneff_body(k);
    kneff_device(k, 2, 2, (uint32_t[]){xl, yl}, 2);
    kneff_close(k);
    Kaena__V1__NeffSelectStep *step = kneff_select(k, 1, &y);
    kneff_case(k, step, s, &xs, &ys);
    kneff_case(k, step, l, &xl, &yl);
    static Kaena__V1__NeffDynamicBatch b;
    static uint32_t zero[1];
    kaena__v1__neff_dynamic_batch__init(&b);
    b.n_inputs = b.n_outputs = 1;
    b.inputs = b.outputs = zero;
    if (batch)
        k->meta.dynamic_batch = &b;
}

KTEST(plan, the_shape_chooses_the_case)
{
    kneff k;
    cases(&k, false);
    loaded l = load(&k);
    float x[40];
    for (int i = 0; i < 40; i++)
        x[i] = (float)i;
    for (int64_t n = 1; n < 6; n++) {
        kop_tensor in = tensor(KAENA_F32, 2, (int64_t[]){n, 4}, x);
        uint64_t items;
        kaena_err err;
        kaena_status fits = dev_model_check(l.model, &in, &items, &err);
        answer a;
        run(&l, &in, &a);
        cr_assert_eq(a.status, fits);
        cr_assert_eq(fits, n == 2 || n == 4 ? KAENA_OK : KAENA_INVALID_ARGUMENT);
        if (fits == KAENA_OK) {
            cr_assert_eq(a.out[0].shape.dim[0], n);
            cr_assert_eq(at(&a.out[0], 7), 14);
        } else {
            cr_assert_str_eq(err.hint, "it takes: x [2,4]; x [4,4]");
        }
        kaena_arena_fini(&a.arena);
    }
    kop_tensor wide = tensor(KAENA_F32, 2, (int64_t[]){2, 5}, x);
    uint64_t items;
    kaena_err err;
    cr_assert_eq(dev_model_check(l.model, &wide, &items, &err), KAENA_INVALID_ARGUMENT);
    cr_assert_str_eq(err.what, "input 'x': expected float32 [?,4], got float32 [2,5]");
    unload(&l);
}

KTEST(plan, batches_are_padded_and_split)
{
    kneff k;
    cases(&k, true);
    loaded l = load(&k);
    float x[44];
    for (int i = 0; i < 44; i++)
        x[i] = (float)i;
    for (int64_t n = 1; n <= 11; n++) {
        kop_tensor in = tensor(KAENA_F32, 2, (int64_t[]){n, 4}, x);
        uint64_t items;
        kaena_err err;
        cr_assert_eq(dev_model_check(l.model, &in, &items, &err), KAENA_OK);
        cr_assert_eq(items, (uint64_t)n);
        answer a;
        run(&l, &in, &a);
        cr_assert_eq(a.status, KAENA_OK, "%s", a.err.what);
        cr_assert_eq(a.out[0].shape.dim[0], n);
        for (int i = 0; i < 4 * n; i++)
            cr_assert_eq(at(&a.out[0], i), (float)(2 * i));
        kaena_arena_fini(&a.arena);
    }
    unload(&l);
}

/* --- What is refused
 * -----------------------------------------------------------------------------------------------------
 */

/* Changes the META of a plan by |...| and expects that it cannot be written, as reading refuses it.
 */
#define REFUSED(build, message, ...)                                                               \
    do {                                                                                           \
        kneff k;                                                                                   \
        build;                                                                                     \
        __VA_ARGS__;                                                                               \
        kaena_err err;                                                                             \
        KTEST_FAILS(err, DATA_LOSS, message,                                                       \
                    neff_write("/tmp/plan-refused.neff", &k.content, &err));                       \
        kneff_fini(&k);                                                                            \
    } while (0)

#define IF k.steps[0]->branch
#define LOOP k.steps[0]->loop
#define CASE(i) k.steps[0]->select->cases[i]

KTEST(plan, branches_are_checked)
{
    REFUSED(branch(&k), "step 0: 'x' is not one bool", IF->condition = 1);
    REFUSED(branch(&k), "step 0: no value 99", IF->condition = 99);
    REFUSED(branch(&k), "step 0: no value 99", IF->outputs[0] = 99);
    REFUSED(branch(&k), "step 0: then: no value 99", IF->then_results[0] = 99);
    REFUSED(branch(&k), "then: no body 7 (of 2)", IF->then_body = 7);
    REFUSED(branch(&k), "else: body 0 belongs to another step", IF->else_body = 0);
    REFUSED(branch(&k), "then: 0 results for 1 outputs", IF->n_then_results = 0);
    REFUSED(branch(&k), "else: reads 'a', which no earlier step", IF->else_results[0] = 3);
    REFUSED(branch(&k), "writes 'a', which is an input or was made", IF->outputs[0] = 3);
    REFUSED(branch(&k), "else: hands 'c' (bool[1]) to 'y' (float32[1,64])",
            IF->else_results[0] = 0);
    REFUSED(branch(&k), "body 2 belongs to no step", (void)kneff_body(&k));
    REFUSED(branch(&k), "then: step 0: reads 'b', which no earlier",
            k.bodies[0].steps[0]->device->io[0] = 4);
    REFUSED(branch(&k), "then: step 0: tpb 0: entry 99",
            k.bodies[0].steps[0]->device->entries[0] = 99);
}

/* A body that names itself, or one that stands before it, would never end. */
KTEST(plan, bodies_form_a_tree)
{
    REFUSED(branch(&k), "body 0 belongs to another step", k.bodies[0].steps[0] = k.steps[0]);
    REFUSED(branch(&k), "body 0 belongs to another step", k.bodies[1].steps[0] = k.steps[0]);
    kneff k;
    start(&k);
    uint32_t x = f32(&k, "x");
    kneff_input(&k, x);
    kneff_output(&k, x);
    static Kaena__V1__NeffPlan deep[NEFF_TEST_DEPTH], *list[NEFF_TEST_DEPTH];
    static Kaena__V1__NeffStep steps[NEFF_TEST_DEPTH], *at[NEFF_TEST_DEPTH];
    static Kaena__V1__NeffLoopStep loops[NEFF_TEST_DEPTH];
    for (uint32_t i = 0; i < NEFF_TEST_DEPTH; i++) {
        kaena__v1__neff_plan__init(&deep[i]);
        kaena__v1__neff_step__init(&steps[i]);
        kaena__v1__neff_loop_step__init(&loops[i]);
        list[i] = &deep[i];
        at[i] = &steps[i];
        loops[i].body = i;
        steps[i].kind_case = KAENA__V1__NEFF_STEP__KIND_LOOP;
        steps[i].loop = &loops[i];
        deep[i].n_steps = i + 1 < NEFF_TEST_DEPTH;
        deep[i].steps = &at[i + 1 < NEFF_TEST_DEPTH ? i + 1 : 0];
    }
    k.plan.steps = at;
    k.plan.n_steps = 1;
    k.meta.bodies = list;
    k.meta.n_bodies = NEFF_TEST_DEPTH;
    kaena_err err;
    KTEST_FAILS(err, DATA_LOSS, "nested more than 16 deep",
                neff_write("/tmp/plan-refused.neff", &k.content, &err));
    kneff_fini(&k);
}

KTEST(plan, loops_are_checked)
{
    REFUSED(loop(&k, -1), "step 0: 'c' is not one int64", LOOP->trip_count = 2);
    REFUSED(loop(&k, -1), "step 0: 'n' is not one bool", LOOP->condition = 1);
    REFUSED(loop(&k, -1), "loop: 'x' is not one bool", LOOP->next_condition = 3);
    REFUSED(loop(&k, -1), "loop: writes 'x', which is an input", LOOP->iteration = 3);
    REFUSED(loop(&k, -1), "hands 'x' (float32[1,64]) to 'n'", LOOP->carried[0]->in = 0);
    REFUSED(loop(&k, -1), "reads 'sum', which no earlier step", LOOP->carried[0]->initial = 8);
    REFUSED(loop(&k, -1), "no value 99", LOOP->carried[0]->final = 99);
    REFUSED(loop(&k, -1), "loop: hands 'n' (int64[1]) to 'xi'", LOOP->carried[0]->next = 0);
    REFUSED(loop(&k, -1), "writes 'xi', which is an input or was made",
            LOOP->carried[1]->in = LOOP->carried[0]->in);
    REFUSED(loop(&k, -1), "loop: hands 'n' (int64[1]) to 'all'", LOOP->scans[0]->element = 0);
    REFUSED(loop(&k, 4), "loop: hands 'sum' (float32[1,64]) to 'all' (float32[4,1,63])",
            k.values[9]->spec->shape[2] = 63);
    REFUSED(loop(&k, -1), "no step makes output 'all'", LOOP->n_scans = 0);
}

KTEST(plan, cases_are_checked)
{
    REFUSED(cases(&k, false), "step 0 has no case", k.steps[0]->select->n_cases = 0);
    REFUSED(cases(&k, false), "case 0: 0 inputs, the model has 1", CASE(0)->n_inputs = 0);
    REFUSED(cases(&k, false), "is not the whole plan", k.plan.n_steps = 2; k.steps[1] = k.steps[0]);
    REFUSED(cases(&k, false), "case 1: body 0 belongs to another", CASE(1)->body = 0);
    REFUSED(cases(&k, false), "case 0: step 0: reads 'x', which",
            k.bodies[0].steps[0]->device->io[0] = 0);
    REFUSED(cases(&k, false), "case 0: hands 'x' (float32[?,4]) to 'xs' (int32[2,4])",
            k.values[2]->spec->dtype = KAENA__V1__DATA_TYPE__INT32);
    REFUSED(cases(&k, false), "does not make the model's outputs",
            k.steps[0]->select->outputs[0] = 4);
    REFUSED(cases(&k, true), "dynamic batch: of no input", k.meta.dynamic_batch->n_inputs = 0);
    REFUSED(cases(&k, true), "no input 1", k.meta.dynamic_batch->inputs = (uint32_t[]){1});
    REFUSED(cases(&k, true), "case 0: dynamic batch: 'ys' cannot be split into 2 items",
            k.values[3]->spec->shape[0] = 3);
}

KTEST(plan, files_say_what_they_need)
{
    kneff k;
    cases(&k, true);
    neff_file *f = kneff_open(&k);
    uint32_t minor;
    cr_assert_eq(neff_format_version(f, &minor), NEFF_FORMAT_MAJOR);
    cr_assert_eq(minor, 1);
    f = neff_unref(f);
    kneff_fini(&k);
}

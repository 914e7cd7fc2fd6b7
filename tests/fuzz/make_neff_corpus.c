/* Writes small NEFFs as first inputs of the NEFF fuzz target: make_neff_corpus DIRECTORY */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kneff.h"

static const int64_t dims[] = {1, 8};

static void save(kneff *k, const char *dir, const char *name)
{
    char path[4096];
    kaena_err err;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    if (neff_write(path, &k->content, &err) != KAENA_OK) {
        (void)fprintf(stderr, "%s\n", err.what);
        exit(1);
    }
    kneff_fini(k);
}

/* One TPB: every engine once, a loop, a matrix product. */
static void one_tpb(const char *dir)
{
    static const char *const text[] = {
        "COPY src=IO0+0:f32[1,1,1,8]<0,0,0,4> dst=SB+0:bf16[1,1,1,8]<0,0,0,2>\n"
        "LDW weights=WEIGHTS+0:bf16[1,1,4,32]<0,0,64,2> k=8\n"
        "MATMUL moving=SB+0:bf16[1,1,1,8]<0,0,0,2> psum_row=0\n"
        "ACT src=PSUM+0:f32[1,1,1,8]<0,0,256,4> dst=SB+64:f32[1,1,1,8]<0,0,0,4> scale_all=1 "
        "func=SIGMOID\n"
        "LOOP count=3\n"
        "TT a=SB+64:f32[1,1,1,8]<0,0,0,4> b=SB+64:f32[1,1,1,8]<0,0,0,4> "
        "dst=SB+128:f32[1,1,1,8]<0,0,0,4>{32} op=MUL\n"
        "END\n"
        "SOFTMAX src=SB+128:f32[1,1,3,8]<0,0,32,4> dst=SB+128:f32[1,1,3,8]<0,0,32,4>\n"
        "REDUCE src=SB+128:f32[1,1,3,8]<0,0,32,4> dst=SB+256:f32[1,1,1,8]<0,0,0,4> axes=0x4 "
        "scale=0.5\n"
        "LRN src=SB+256:f32[1,1,1,8]<0,0,0,4> dst=SB+288:f32[1,1,1,8]<0,0,0,4> size=3 alpha=0.1 "
        "beta=0.75 bias=1\n"
        "WINDOW src=SB+288:f32[1,2,2,2]<0,16,8,4> dst=SB+320:f32[1,2,2,2]<0,16,8,4> kernel_h=3 "
        "kernel_w=3 stride_h=1 stride_w=1 dilation_h=1 dilation_w=1 y0=-1 x0=-1\n"
        "COPY src=SB+320:f32[1,1,1,8]<0,0,0,4> dst=IO1+0:f32[1,1,1,8]<0,0,0,4>\n"
        "HALT\n"};
    static const uint16_t weights[128] = {0x3f80, 0x4000, 0xbf80, 0x3f00};
    kneff k;
    kneff_init(&k, 1, text);
    uint32_t in = kneff_value(&k, "in", KAENA_F32, 2, dims);
    uint32_t out = kneff_value(&k, "out", KAENA_F32, 2, dims);
    kneff_input(&k, in);
    kneff_output(&k, out);
    kneff_device(&k, 0, 2, (uint32_t[]){in, out}, 2);
    kneff_weights(&k, weights, sizeof weights);
    k.meta.sb_bytes = 4096;
    save(&k, dir, "one_tpb");
}

/* Two TPBs with semaphores and SCRATCH, then a host step, then the device again with a gather. */
static void two_tpbs(const char *dir)
{
    static const char *const text[] = {
        "LOOP count=2\nCOPY src=IO0+0:f32[1,1,1,8]<0,0,0,4> "
        "dst=SCRATCH+0:f32[1,1,1,8]<0,0,0,4>{32}\n"
        "SIGNAL mask=0x2 sem=1 amount=1\nEND\nHALT\n"
        "GATHER table=WEIGHTS+0:f32[1,4,1,2]<0,8,0,4> index=IO0+0:i64[1,1,1,2]<0,0,0,8> "
        "dst=IO1+0:f32[1,2,1,2]<0,8,0,4> bound=4\nHALT\n",
        "WAIT sem=1 value=2\nCOPY src=SCRATCH+32:f32[1,1,1,8]<0,0,0,4> "
        "dst=IO1+0:f32[1,1,1,8]<0,0,0,4>\nHALT\nHALT\n"};
    static const float weights[16] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const int64_t two[] = {2}, four[] = {4};
    kneff k;
    kneff_init(&k, 2, text);
    uint32_t in = kneff_value(&k, "in", KAENA_F32, 2, dims);
    uint32_t mid = kneff_value(&k, "mid", KAENA_F32, 2, dims);
    uint32_t index = kneff_value(&k, "index", KAENA_I64, 1, two);
    uint32_t out = kneff_value(&k, "out", KAENA_F32, 1, four);
    kneff_input(&k, in);
    kneff_output(&k, out);
    kneff_device(&k, 0, 2, (uint32_t[]){in, mid}, 2);
    kneff_host(&k, "graph \"h\" { input %mid: float32[1,8] %s: int64[2] = Shape(%mid) output %s }",
               1, &mid, 1, &index);
    kneff_device(&k, 5, 2, (uint32_t[]){index, out}, 2);
    k.steps[2]->device->entries[1] = 3;
    kneff_weights(&k, weights, sizeof weights);
    k.meta.sb_bytes = 0;
    k.meta.scratch_bytes = 64;
    save(&k, dir, "two_tpbs");
}

static const char *const adder[] = {
    "TT op=ADD a=IO0+0:f32[1,1,1,8]<0,0,0,4> b=IO0+0:f32[1,1,1,8]<0,0,0,4> "
    "dst=IO1+0:f32[1,1,1,8]<0,0,0,4>\nHALT\n"
    "TT op=ADD a=IO0+0:f32[1,1,1,16]<0,0,0,4> b=IO0+0:f32[1,1,1,16]<0,0,0,4> "
    "dst=IO1+0:f32[1,1,1,16]<0,0,0,4>\nHALT\n"};

/* n turns of: x = c ? x + x : -x, on the device or the host; every x, and a list that grows. */
static void control(const char *dir)
{
    static const int64_t one[] = {1}, any[] = {-1, 1, 8}, list[] = {-1};
    kneff k;
    kneff_init(&k, 1, adder);
    uint32_t n = kneff_value(&k, "n", KAENA_I64, 1, one),
             c = kneff_value(&k, "c", KAENA_BOOL, 1, one),
             x = kneff_value(&k, "x", KAENA_F32, 2, dims),
             xi = kneff_value(&k, "xi", KAENA_F32, 2, dims),
             a = kneff_value(&k, "a", KAENA_F32, 2, dims),
             b = kneff_value(&k, "b", KAENA_F32, 2, dims),
             xo = kneff_value(&k, "xo", KAENA_F32, 2, dims),
             y = kneff_value(&k, "y", KAENA_F32, 2, dims),
             all = kneff_value(&k, "all", KAENA_F32, 3, any),
             l = kneff_value(&k, "l", KAENA_I64, 1, list),
             li = kneff_value(&k, "li", KAENA_I64, 1, list),
             lo = kneff_value(&k, "lo", KAENA_I64, 1, list),
             grown = kneff_value(&k, "grown", KAENA_I64, 1, list),
             i = kneff_value(&k, "i", KAENA_I64, 1, one);
    for (uint32_t v = all; v <= grown; v++)
        kneff_dynamic(&k, v, false);
    kneff_input(&k, n);
    kneff_input(&k, c);
    kneff_input(&k, x);
    kneff_input(&k, l);
    kneff_output(&k, y);
    kneff_output(&k, all);
    kneff_output(&k, grown);
    uint32_t body = kneff_body(&k), then = kneff_body(&k);
    kneff_device(&k, 0, 2, (uint32_t[]){xi, a}, 2);
    kneff_close(&k);
    uint32_t otherwise = kneff_body(&k);
    kneff_host(&k, "graph \"h\" { input %x: float32[1,8] %y: float32[1,8] = Neg(%x) output %y }", 1,
               &xi, 1, &b);
    kneff_close(&k);
    (void)kneff_if(&k, c, then, otherwise, 1, &a, &b, &xo);
    kneff_host(&k,
               "graph \"h\" { input %l: int64[?] input %i: int64[1] "
               "%o: int64[?] = Concat(%l, %i) {axis=0} output %o }",
               2, (uint32_t[]){li, i}, 1, &lo);
    kneff_close(&k);
    Kaena__V1__NeffLoopStep *s = kneff_loop(&k, body);
    s->trip_count = n + 1;
    s->iteration = i + 1;
    kneff_carry(&k, s, x, xi, xo, y);
    kneff_carry(&k, s, l, li, lo, grown);
    kneff_scan(&k, s, xo, all);
    k.meta.sb_bytes = 0;
    save(&k, dir, "control");
}

/* Two shapes, any number of rows. */
static void cases(const char *dir)
{
    static const int64_t any[] = {-1, 4}, small[] = {2, 4}, large[] = {4, 4};
    kneff k;
    kneff_init(&k, 1, adder);
    uint32_t x = kneff_value(&k, "x", KAENA_F32, 2, any),
             y = kneff_value(&k, "y", KAENA_F32, 2, any),
             xs = kneff_value(&k, "xs", KAENA_F32, 2, small),
             ys = kneff_value(&k, "ys", KAENA_F32, 2, small),
             xl = kneff_value(&k, "xl", KAENA_F32, 2, large),
             yl = kneff_value(&k, "yl", KAENA_F32, 2, large);
    kneff_dynamic(&k, x, false);
    kneff_dynamic(&k, y, false);
    kneff_input(&k, x);
    kneff_output(&k, y);
    uint32_t first = kneff_body(&k);
    kneff_device(&k, 0, 2, (uint32_t[]){xs, ys}, 2);
    kneff_close(&k);
    uint32_t second = kneff_body(&k);
    kneff_device(&k, 2, 2, (uint32_t[]){xl, yl}, 2);
    kneff_close(&k);
    Kaena__V1__NeffSelectStep *s = kneff_select(&k, 1, &y);
    kneff_case(&k, s, first, &xs, &ys);
    kneff_case(&k, s, second, &xl, &yl);
    Kaena__V1__NeffDynamicBatch batch = KAENA__V1__NEFF_DYNAMIC_BATCH__INIT;
    uint32_t zero = 0;
    batch.n_inputs = batch.n_outputs = 1;
    batch.inputs = batch.outputs = &zero;
    k.meta.dynamic_batch = &batch;
    k.meta.sb_bytes = 0;
    save(&k, dir, "cases");
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: make_neff_corpus DIRECTORY\n");
        return 2;
    }
    one_tpb(argv[1]);
    two_tpbs(argv[1]);
    control(argv[1]);
    cases(argv[1]);
    return 0;
}

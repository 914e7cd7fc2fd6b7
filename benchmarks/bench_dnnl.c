/* bench_dnnl LIST --name N [--rounds N | --follow]: how long oneDNN takes for the products of a
 * model, as BF16 primitives one after the other.
 *
 * LIST is what model_products.py writes. Weights are packed as the primitives like them, bias and
 * ReLU are part of them; what one writes the next reads, in the layout that it likes, as if
 * changing layouts cost nothing. Threads: OMP_NUM_THREADS. One turn is at least 150 ms of passes
 * over the list. --follow: a turn for each line of the standard input, answered with the figures so
 * far. */
#include <dnnl.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TURN_MS 150.0
#define SETTLE_PASSES 2
#define MIN_PASSES 3
#define MAX_PASSES 100000
#define MAX_ARGS 4
#define ALIGNMENT 4096

typedef struct product {
    dnnl_primitive_t primitive;
    dnnl_memory_t src, dst;
    dnnl_exec_arg_t arg[MAX_ARGS];
    int n_args;
    int64_t times; /* in one inference */
} product;

/* The products of a model. */
typedef struct work {
    const char *name, *threads;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    product *item;
    size_t n, cap;
    size_t activation_bytes; /* the most that one reads or writes */
    size_t n_reference;      /* without code for this processor */
    double flops;
    char left_out[512];
    double *ms; /* [MAX_PASSES] */
    size_t passes;
} work;

static void check(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success)
        return;
    (void)fprintf(stderr, "bench_dnnl: oneDNN does not %s: status %d\n", what, (int)status);
    exit(1);
}

static double now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void *allocate(size_t bytes)
{
    void *p = aligned_alloc(ALIGNMENT, (bytes / ALIGNMENT + 1) * ALIGNMENT);
    if (!p) {
        (void)fprintf(stderr, "bench_dnnl: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}

/* Small numbers of both signs: sums neither overflow nor become denormal. */
static void fill_bf16(uint16_t *v, size_t n)
{
    uint32_t s = 12345;
    for (size_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        v[i] = (uint16_t)((s >> 31) << 15 | 0x3c00u | (s >> 16 & 0x7fu));
    }
}

static dnnl_memory_t memory_of(work *w, dnnl_primitive_desc_t pd, dnnl_query_t which, bool owned)
{
    const dnnl_memory_desc_t *desc = dnnl_primitive_desc_query_md(pd, which, 0);
    size_t bytes = dnnl_memory_desc_get_size(desc);
    dnnl_memory_t memory;
    void *data = DNNL_MEMORY_NONE;
    if (owned) {
        data = allocate(bytes);
        memset(data, 0, bytes);
        if (desc->data_type == dnnl_bf16)
            fill_bf16(data, bytes / sizeof(uint16_t));
    } else if (bytes > w->activation_bytes) {
        w->activation_bytes = bytes;
    }
    check(dnnl_memory_create(&memory, desc, w->engine, data), "make a tensor");
    return memory;
}

static void leave_out(work *w, const char *what)
{
    size_t used = strlen(w->left_out);
    (void)snprintf(w->left_out + used, sizeof w->left_out - used, "%s%s", used ? ", " : "", what);
}

static dnnl_primitive_attr_t epilogue(bool relu)
{
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t ops;
    check(dnnl_primitive_attr_create(&attr), "make attributes");
    check(dnnl_post_ops_create(&ops), "make post-ops");
    if (relu)
        check(dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_relu, 0, 0), "fuse a ReLU");
    check(dnnl_primitive_attr_set_post_ops(attr, ops), "take post-ops");
    check(dnnl_post_ops_destroy(ops), "free post-ops");
    return attr;
}

/* Adds the product that |desc| describes; one that oneDNN has no primitive for is left out. */
static void add(work *w, const_dnnl_op_desc_t desc, int64_t times, bool bias, bool relu,
                double flops, const char *line)
{
    dnnl_primitive_attr_t attr = epilogue(relu);
    dnnl_primitive_desc_t pd;
    dnnl_status_t made = dnnl_primitive_desc_create(&pd, desc, attr, w->engine, NULL);
    check(dnnl_primitive_attr_destroy(attr), "free attributes");
    if (made != dnnl_success) {
        char what[128];
        (void)snprintf(what, sizeof what, "no primitive for '%.*s'", (int)strcspn(line, "\n"),
                       line);
        leave_out(w, what);
        return;
    }
    if (w->n == w->cap) {
        w->cap = w->cap ? w->cap * 2 : 64;
        w->item = realloc(w->item, w->cap * sizeof *w->item);
        if (!w->item)
            abort();
    }
    product *p = &w->item[w->n++];
    *p = (product){.times = times};
    const char *implementation = "";
    (void)dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&implementation);
    w->n_reference += strncmp(implementation, "ref", 3) == 0;
    p->src = memory_of(w, pd, dnnl_query_src_md, false);
    p->dst = memory_of(w, pd, dnnl_query_dst_md, false);
    p->arg[p->n_args++] = (dnnl_exec_arg_t){DNNL_ARG_SRC, p->src};
    p->arg[p->n_args++] = (dnnl_exec_arg_t){DNNL_ARG_DST, p->dst};
    p->arg[p->n_args++] =
        (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, memory_of(w, pd, dnnl_query_weights_md, true)};
    if (bias) {
        const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 1);
        dnnl_memory_t memory;
        size_t bytes = dnnl_memory_desc_get_size(md);
        void *data = allocate(bytes);
        memset(data, 0, bytes);
        check(dnnl_memory_create(&memory, md, w->engine, data), "make a bias");
        p->arg[p->n_args++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, memory};
    }
    check(dnnl_primitive_create(&p->primitive, pd), "make a primitive");
    check(dnnl_primitive_desc_destroy(pd), "free a description");
    w->flops += flops * (double)times;
}

static dnnl_memory_desc_t tensor(int rank, const int64_t *dim, dnnl_data_type_t type,
                                 dnnl_format_tag_t format)
{
    dnnl_memory_desc_t desc;
    dnnl_dims_t dims = {0};
    memcpy(dims, dim, sizeof *dim * (size_t)rank);
    check(dnnl_memory_desc_init_by_tag(&desc, rank, dims, type, format), "take a shape");
    return desc;
}

/* Fields in the order of the list. */
enum { CONV_FIELDS = 19, GEMM_FIELDS = 8 };

static void add_conv(work *w, const int64_t *f, const char *line)
{
    int64_t times = f[0], n = f[1], g = f[2], ic = f[3], oc = f[6];
    const int64_t *in = f + 4, *out = f + 7, *kernel = f + 9;
    dnnl_dims_t stride = {f[11], f[12]}, gap = {f[13] - 1, f[14] - 1}, before = {f[15], f[16]};
    dnnl_dims_t after = {0};
    for (int i = 0; i < 2; i++) {
        int64_t covered = (out[i] - 1) * stride[i] + (kernel[i] - 1) * (gap[i] + 1) + 1;
        after[i] = covered > in[i] + before[i] ? covered - in[i] - before[i] : 0;
    }
    dnnl_memory_desc_t src =
        tensor(4, (int64_t[]){n, ic, in[0], in[1]}, dnnl_bf16, dnnl_format_tag_any);
    dnnl_memory_desc_t dst =
        tensor(4, (int64_t[]){n, oc, out[0], out[1]}, dnnl_bf16, dnnl_format_tag_any);
    dnnl_memory_desc_t weights =
        g > 1
            ? tensor(5, (int64_t[]){g, oc / g, ic / g, kernel[0], kernel[1]}, dnnl_bf16,
                     dnnl_format_tag_any)
            : tensor(4, (int64_t[]){oc, ic, kernel[0], kernel[1]}, dnnl_bf16, dnnl_format_tag_any);
    dnnl_memory_desc_t bias = tensor(1, &oc, dnnl_f32, dnnl_a);
    dnnl_convolution_desc_t desc;
    if (dnnl_dilated_convolution_forward_desc_init(
            &desc, dnnl_forward_inference, dnnl_convolution_direct, &src, &weights,
            f[17] ? &bias : NULL, &dst, stride, gap, before, after) != dnnl_success) {
        (void)fprintf(stderr, "bench_dnnl: no convolution: %s", line);
        exit(1);
    }
    add(w, &desc, times, f[17], f[18],
        2.0 * (double)(n * oc * out[0] * out[1]) * (double)(ic / g * kernel[0] * kernel[1]), line);
}

static void add_gemm(work *w, const int64_t *f, const char *line)
{
    int64_t times = f[0], batch = f[1], m = f[2], n = f[3], k = f[4];
    bool packed = f[5], has_bias = f[6];
    int first = batch == 1; /* a single one has no batch dimension */
    dnnl_format_tag_t plain = first ? dnnl_ab : dnnl_abc;
    dnnl_memory_desc_t src = tensor(3 - first, (int64_t[]){batch, m, k} + first, dnnl_bf16, plain);
    dnnl_memory_desc_t dst = tensor(3 - first, (int64_t[]){batch, m, n} + first, dnnl_bf16, plain);
    dnnl_memory_desc_t weights = tensor(3 - first, (int64_t[]){batch, k, n} + first, dnnl_bf16,
                                        packed ? dnnl_format_tag_any : plain);
    dnnl_memory_desc_t bias = tensor(3 - first, (int64_t[]){1, 1, n} + first, dnnl_f32, plain);
    dnnl_matmul_desc_t desc;
    check(dnnl_matmul_desc_init(&desc, &src, &weights, has_bias ? &bias : NULL, &dst),
          "take a product");
    add(w, &desc, times, has_bias, f[7], 2.0 * (double)(batch * m) * (double)(n * k), line);
}

/* The numbers of a line behind its first word; false: not |n| of them. */
static bool numbers(const char *line, int64_t *f, int n)
{
    const char *at = line + strcspn(line, " ");
    for (int i = 0; i < n; i++) {
        char *end;
        f[i] = strtoll(at, &end, 10);
        if (end == at)
            return false;
        at = end;
    }
    return strspn(at, " \n") == strlen(at);
}

static void read_list(work *w, const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        (void)fprintf(stderr, "bench_dnnl: '%s': %s\n", path, strerror(errno));
        exit(1);
    }
    char line[512];
    int64_t f[CONV_FIELDS];
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "conv ", 5) == 0 && numbers(line, f, CONV_FIELDS)) {
            add_conv(w, f, line);
        } else if (strncmp(line, "gemm ", 5) == 0 && numbers(line, f, GEMM_FIELDS)) {
            add_gemm(w, f, line);
        } else if (strncmp(line, "# ", 2) == 0) {
            line[strcspn(line, "\n")] = 0;
            leave_out(w, line + 2);
        } else {
            (void)fprintf(stderr, "bench_dnnl: '%s' is not a list of products: %s", path, line);
            exit(1);
        }
    }
    (void)fclose(file);
    /* What one writes the next reads: activations stay where caches have them. */
    void *buffer[2];
    for (int i = 0; i < 2; i++) {
        buffer[i] = allocate(w->activation_bytes);
        fill_bf16(buffer[i], w->activation_bytes / sizeof(uint16_t));
    }
    for (size_t i = 0; i < w->n; i++) {
        check(dnnl_memory_set_data_handle(w->item[i].src, buffer[i % 2]), "take a buffer");
        check(dnnl_memory_set_data_handle(w->item[i].dst, buffer[(i + 1) % 2]), "take a buffer");
    }
}

static void run_pass(const work *w)
{
    for (size_t i = 0; i < w->n; i++) {
        const product *p = &w->item[i];
        for (int64_t t = 0; t < p->times; t++)
            check(dnnl_primitive_execute(p->primitive, w->stream, p->n_args, p->arg), "compute");
    }
    check(dnnl_stream_wait(w->stream), "finish");
}

static void take_turn(work *w)
{
    if (w->n == 0)
        return;
    for (int i = 0; i < SETTLE_PASSES; i++)
        run_pass(w);
    double start = now_ms(), last = start;
    for (int i = 0; (i < MIN_PASSES || last - start < TURN_MS) && w->passes < MAX_PASSES; i++) {
        run_pass(w);
        double t = now_ms();
        w->ms[w->passes++] = t - last;
        last = t;
    }
    /* OpenMP's threads spin for some milliseconds after their work; not into another's turn. */
    (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(work *w)
{
    (void)printf("%s ", w->name);
    if (w->passes > 0) {
        qsort(w->ms, w->passes, sizeof *w->ms, by_value);
        double ms = w->ms[w->passes / 2];
        (void)printf("onednn_ms=%.3f threads=%s (%zu BF16 products, %.2f GFLOP, %.0f GF/s", ms,
                     w->threads, w->n, w->flops * 1e-9, w->flops / ms * 1e-6);
        if (w->n_reference > 0)
            (void)printf("; %zu by reference code", w->n_reference);
    } else {
        (void)printf("onednn_ms=none (no products");
    }
    (void)printf("%s%s)\n", w->left_out[0] ? "; left out: " : "", w->left_out);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"name", 1, NULL, 'n'},
                                            {"rounds", 1, NULL, 'r'},
                                            {"follow", 0, NULL, 'f'},
                                            {NULL, 0, NULL, 0}};
    work w = {.threads = getenv("OMP_NUM_THREADS")};
    int rounds = 10, c;
    bool follow = false, good = true;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'n')
            w.name = optarg;
        else if (c == 'r')
            rounds = atoi(optarg);
        else if (c == 'f')
            follow = true;
        else
            good = false;
    }
    if (!good || !w.name || rounds < 1 || optind != argc - 1) {
        (void)fprintf(stderr, "usage: bench_dnnl LIST --name N [--rounds N | --follow]\n");
        return 2;
    }
    if (!w.threads) {
        (void)fprintf(stderr, "bench_dnnl: how many threads? set OMP_NUM_THREADS\n");
        return 2;
    }
    check(dnnl_engine_create(&w.engine, dnnl_cpu, 0), "find a processor");
    check(dnnl_stream_create(&w.stream, w.engine, dnnl_stream_default_flags), "make a stream");
    w.ms = allocate(MAX_PASSES * sizeof *w.ms);
    read_list(&w, argv[optind]);
    if (!follow) {
        for (int r = 0; r < rounds; r++)
            take_turn(&w);
        report(&w);
        return 0;
    }
    for (char line[16]; fgets(line, sizeof line, stdin);) {
        take_turn(&w);
        report(&w);
    }
    return 0;
}

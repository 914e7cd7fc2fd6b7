/* kaena_mx_compile: an MXNet checkpoint into a checkpoint that names a NEFF. */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compile.h"
#include "option_values.h"
#include "file.h"
#include "mx_artifact.h"
#include "mx_import.h"
#include "stage.h"

#define EXIT_USAGE 2
#define MAX_EPOCH 999999999

enum option_id {
    OPT_IN = 256,
    OPT_EPOCH,
    OPT_OUT,
    OPT_SHAPES,
    OPT_NUM_TPBS,
    OPT_OPTIMIZE,
    OPT_CAST,
    OPT_MUST_COMPILE,
    OPT_HELP
};

static const struct option options[] = {
    {"in_model_uri_prefix", required_argument, NULL, OPT_IN},
    {"epoch_number", required_argument, NULL, OPT_EPOCH},
    {"out_model_uri_prefix", required_argument, NULL, OPT_OUT},
    {"input_shapes", required_argument, NULL, OPT_SHAPES},
    {"num-tpbs", required_argument, NULL, OPT_NUM_TPBS},
    {"optimize", required_argument, NULL, OPT_OPTIMIZE},
    {"fp32-cast", required_argument, NULL, OPT_CAST},
    {"must-compile", no_argument, NULL, OPT_MUST_COMPILE},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static const char usage[] =
    "kaena_mx_compile --in_model_uri_prefix P --out_model_uri_prefix P2\n"
    "                 --input_shapes '{\"data\":[1,3,224,224]}' [--epoch_number N]\n"
    "                 [--num-tpbs 1..64] [--optimize latency|throughput]\n"
    "                 [--fp32-cast all|matmul|none] [--must-compile]\n"
    "\n"
    "Compiles P-symbol.json and P-NNNN.params (N: the latest there is) and writes P2-symbol.json,\n"
    "P2-NNNN.params and P2-NNNN.neff. P and P2 are paths or s3://bucket/key.\n";

typedef struct request {
    const char *in, *out, *shapes;
    int64_t epoch; /* -1: the latest */
    kcc_options opt;
} request;

static int usage_error(const char *format, const char *what)
{
    (void)fprintf(stderr, "kaena_mx_compile: ");
    (void)fprintf(stderr, format, what);
    (void)fprintf(stderr, "; see 'kaena_mx_compile --help'\n");
    return EXIT_USAGE;
}

static bool whole_number(const char *text, int64_t least, int64_t most, int64_t *out)
{
    char *end;
    long long n = strtoll(text, &end, 10);
    *out = n;
    return end != text && !*end && n >= least && n <= most;
}

static int parse(int argc, char **argv, request *r)
{
    int id;
    opterr = 0;
    while ((id = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        switch (id) {
        case OPT_IN:
            r->in = kaena_path_of_uri(optarg);
            break;
        case OPT_OUT:
            r->out = kaena_path_of_uri(optarg);
            break;
        case OPT_SHAPES:
            r->shapes = optarg;
            break;
        case OPT_EPOCH:
            if (!whole_number(optarg, 0, MAX_EPOCH, &r->epoch))
                return usage_error("--epoch_number '%s' is not a number from 0 up", optarg);
            break;
        case OPT_NUM_TPBS:
            if (!kcc_num_tpbs_of(optarg, &r->opt.num_tpbs))
                return usage_error("--num-tpbs '%s' is not a number from 1 to 64", optarg);
            break;
        case OPT_OPTIMIZE:
            if (!kcc_optimize_of(optarg, &r->opt.optimize))
                return usage_error("--optimize '%s' is neither latency nor throughput", optarg);
            break;
        case OPT_CAST:
            if (!kcc_cast_of(optarg, &r->opt.cast))
                return usage_error("--fp32-cast '%s' is none of all, matmul, none", optarg);
            break;
        case OPT_MUST_COMPILE:
            r->opt.must_compile = true;
            break;
        case OPT_HELP:
            (void)fputs(usage, stdout);
            exit(EXIT_SUCCESS);
        case ':':
            return usage_error("'%s' needs a value", argv[optind - 1]);
        default:
            return usage_error("unknown option '%s'", argv[optind - 1]);
        }
    }
    if (optind < argc)
        return usage_error("'%s' is one argument too many", argv[optind]);
    if (!r->in || !*r->in || !r->out || !*r->out)
        return usage_error("--%s is needed",
                           !r->in || !*r->in ? "in_model_uri_prefix" : "out_model_uri_prefix");
    return 0;
}

/* {"data": [1,3,224,224]}: what --io-config says without types. */
static kaena_status parse_shape(const char *name, const json_t *dims, kaena_shape *out,
                                kaena_err *err)
{
    size_t rank = json_array_size(dims);
    if (!json_is_array(dims) || rank > KAENA_MAX_RANK)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s' is no list of at most %d dimensions", name,
                          KAENA_MAX_RANK);
    *out = (kaena_shape){.rank = (int32_t)rank};
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(dims, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return KAENA_FAIL(err, INVALID_ARGUMENT,
                              "'%s': dimension %zu is not a whole number from 0 up", name, i);
        out->dim[i] = json_integer_value(d);
    }
    return KAENA_OK;
}

static kaena_status parse_shapes(kaena_arena *arena, const char *text, kcc_io_config *io,
                                 kaena_err *err)
{
    json_error_t e;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &e), *dims;
    const char *name;
    kaena_status s = KAENA_OK;
    if (!json_is_object(root)) {
        json_decref(root);
        (void)KAENA_FAIL(err, INVALID_ARGUMENT, "it is no JSON object");
        kaena_err_hint(err, "the form is {\"data\":[1,3,224,224]}");
        return KAENA_INVALID_ARGUMENT;
    }
    io->inputs = KAENA_NEW_N(arena, kcc_io_input, json_object_size(root));
    json_object_foreach(root, name, dims)
    {
        kcc_io_input *in = &io->inputs[io->n_inputs++];
        in->name = kaena_arena_strdup(arena, name);
        if (s == KAENA_OK)
            s = parse_shape(in->name, dims, &in->shape, err);
    }
    json_decref(root);
    return s;
}

/* --- The work -------------------------------------------------------------------------------- */

static kaena_status latest_epoch(kcc_s3 *s3, kaena_arena *arena, const char *prefix, int64_t *out,
                                 kaena_err *err)
{
    const char *const *keys, *key = strchr(prefix + strlen("s3://"), '/');
    uint32_t n;
    *out = -1;
    KAENA_TRY(kcc_s3_list(s3, arena, kaena_arena_printf(arena, "%s-", prefix), &keys, &n, err));
    for (uint32_t i = 0; key && i < n; i++) {
        int64_t at = kcc_mx_epoch_of(keys[i], key + 1, strlen(key + 1));
        *out = at > *out ? at : *out;
    }
    return *out >= 0
               ? KAENA_OK
               : KAENA_FAIL(err, NOT_FOUND, "there are no parameters '%s-NNNN.params'", prefix);
}

/* Where the checkpoint lies on disk: |*symbol| a prefix, |*params| a file. */
static kaena_status fetch(const request *r, kcc_stage *stage, kaena_arena *arena,
                          const char **prefix, const char **params, int64_t *epoch, kaena_err *err)
{
    kcc_s3 *s3;
    *epoch = r->epoch;
    if (!kcc_s3_is(r->in)) {
        KAENA_TRY(kcc_mx_params_path(arena, r->in, r->epoch, params, err));
        *prefix = r->in;
        if (*epoch < 0)
            *epoch = atoll(strrchr(*params, '-') + 1);
        return KAENA_OK;
    }
    KAENA_TRY(kcc_stage_s3(stage, &s3, err));
    if (*epoch < 0)
        KAENA_TRY(latest_epoch(s3, arena, r->in, epoch, err));
    *prefix = kaena_arena_printf(arena, "%s/in", stage->dir);
    *params = kaena_arena_printf(arena, "%s-%04" PRId64 ".params", *prefix, *epoch);
    KAENA_TRY(kcc_s3_get(s3, kaena_arena_printf(arena, "%s-symbol.json", r->in),
                         kaena_arena_printf(arena, "%s-symbol.json", *prefix), err));
    return kcc_s3_get(s3, kaena_arena_printf(arena, "%s-%04" PRId64 ".params", r->in, *epoch),
                      *params, err);
}

/* The report comes when everything is where it belongs, and says so. */
static kaena_status deliver(kcc_compilation *c, const request *r, kcc_stage *stage, int64_t epoch,
                            kaena_err *err)
{
    kaena_strbuf report = {0};
    kaena_arena *a = c->arena;
    const char *slash = strrchr(r->out, '/'), *base = slash ? slash + 1 : r->out;
    const kcc_s3_file file[] = {
        {c->output, kaena_arena_printf(a, "%s-%04" PRId64 ".neff", r->out, epoch)},
        {kaena_arena_printf(a, "%s/params", stage->dir),
         kaena_arena_printf(a, "%s-%04" PRId64 ".params", r->out, epoch)},
        {kaena_arena_printf(a, "%s/symbol", stage->dir),
         kaena_arena_printf(a, "%s-symbol.json", r->out)},
    };
    const char *neff = strrchr(file[0].url, '/');
    neff = neff ? neff + 1 : file[0].url;
    KAENA_TRY(kcc_mx_write_no_params(file[1].path, err));
    KAENA_TRY(kcc_mx_write_symbol(c, base, neff, file[2].path, err));
    KAENA_TRY(kcc_stage_deliver(stage, file, 3, err));
    c->output = file[0].url;
    kcc_report(c, &report);
    (void)fwrite(report.data, 1, report.size, stdout);
    (void)printf("wrote %s\nwrote %s\n", file[1].url, file[2].url);
    kaena_strbuf_fini(&report);
    return KAENA_OK;
}

static void show_progress(const char *stage, double seconds)
{
    if (seconds > 0.5 || isatty(STDERR_FILENO))
        (void)fprintf(stderr, "kaena_mx_compile: %-10s %7.2f s\n", stage, seconds);
}

static kaena_status work(const request *r, kcc_stage *stage, kaena_arena *arena, kaena_err *err)
{
    kcc_io_config io = {0};
    const char *prefix, *params;
    int64_t epoch;
    kcc_compilation c = {.framework = kcc_framework_find("MXNET"),
                         .opt = r->opt,
                         .progress = show_progress,
                         .arena = arena,
                         .output = kaena_arena_printf(arena, "%s/neff", stage->dir)};
    if (r->shapes)
        KAENA_TRY_WRAP(err, parse_shapes(arena, r->shapes, &io, err), "--input_shapes");
    KAENA_TRY(fetch(r, stage, arena, &prefix, &params, &epoch, err));
    c.model = r->in;
    KAENA_TRY_WRAP(err, kcc_import_mx(arena, prefix, params, &io, &c.graph, &c.info, err),
                   "import '%s'", r->in);
    KAENA_TRY(kcc_compile(&c, "write", err));
    return deliver(&c, r, stage, epoch, err);
}

int main(int argc, char **argv)
{
    request r = {.epoch = -1, .opt = {.num_tpbs = 4}};
    int status = parse(argc, argv, &r);
    if (status)
        return status;
    kaena_arena arena;
    kaena_err err;
    kcc_stage stage;
    kaena_arena_init(&arena, 0);
    kaena_err_init(&err);
    kaena_status s = kcc_stage_open(r.out, &stage, &err);
    if (s == KAENA_OK)
        s = work(&r, &stage, &arena, &err);
    if (s != KAENA_OK) {
        (void)fprintf(stderr, "kaena_mx_compile: %s\n", err.what);
        if (err.hint[0])
            (void)fprintf(stderr, "kaena_mx_compile: %s\n", err.hint);
    }
    kcc_stage_close(&stage);
    kaena_arena_fini(&arena);
    return s == KAENA_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

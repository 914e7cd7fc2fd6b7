/* kaena_tf_compile: a SavedModel into a SavedModel that holds a NEFF. */
#include <dirent.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compile.h"
#include "option_values.h"
#include "file.h"
#include "input_shapes.h"
#include "stage.h"
#include "tf_artifact.h"

#define EXIT_USAGE 2
#define MAX_FILES 10000 /* of one SavedModel, to S3 */

enum option_id {
    OPT_IN = 256,
    OPT_OUT,
    OPT_SHAPES,
    OPT_TAGS,
    OPT_SIGNATURE,
    OPT_NUM_TPBS,
    OPT_OPTIMIZE,
    OPT_CAST,
    OPT_MUST_COMPILE,
    OPT_DYNAMIC_BATCH,
    OPT_HELP
};

static const struct option options[] = {
    {"in_saved_model", required_argument, NULL, OPT_IN},
    {"out_saved_model", required_argument, NULL, OPT_OUT},
    {"input_data_shapes", required_argument, NULL, OPT_SHAPES},
    {"tags", required_argument, NULL, OPT_TAGS},
    {"signature", required_argument, NULL, OPT_SIGNATURE},
    {"num-tpbs", required_argument, NULL, OPT_NUM_TPBS},
    {"optimize", required_argument, NULL, OPT_OPTIMIZE},
    {"fp32-cast", required_argument, NULL, OPT_CAST},
    {"must-compile", no_argument, NULL, OPT_MUST_COMPILE},
    {"dynamic-batch", no_argument, NULL, OPT_DYNAMIC_BATCH},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static const char usage[] =
    "kaena_tf_compile --in_saved_model D --out_saved_model D2\n"
    "                 --input_data_shapes '{\"x:0\":[4,224,224,3]}'\n"
    "                 [--tags T,U] [--signature S] [--num-tpbs 1..64]\n"
    "                 [--optimize latency|throughput] [--fp32-cast all|matmul|none]\n"
    "                 [--must-compile] [--dynamic-batch]\n"
    "\n"
    "Compiles a signature of the SavedModel directory D and writes the directory D2: "
    "saved_model.pb\n"
    "with that signature over one node, model.neff, which the node names, and D's assets. D2 "
    "comes\n"
    "into being whole, in one step; a compiled SavedModel that is there is replaced. Instead of a\n"
    "shape a numpy file may stand: {\"x:0\":\"x.npy\"}. D and D2 are paths or s3://bucket/key.\n";

typedef struct request {
    const char *in, *out, *shapes;
    kcc_tf_choice choice;
    kcc_options opt;
    bool dynamic_batch;
} request;

static int usage_error(const char *format, const char *what)
{
    (void)fprintf(stderr, "kaena_tf_compile: ");
    (void)fprintf(stderr, format, what);
    (void)fprintf(stderr, "; see 'kaena_tf_compile --help'\n");
    return EXIT_USAGE;
}

/* 0, or the exit status; -1: done. */
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
        case OPT_TAGS:
            r->choice.tags = optarg;
            break;
        case OPT_SIGNATURE:
            r->choice.signature = optarg;
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
        case OPT_DYNAMIC_BATCH:
            r->dynamic_batch = true;
            break;
        case OPT_HELP:
            (void)fputs(usage, stdout);
            return -1;
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
                           !r->in || !*r->in ? "in_saved_model" : "out_saved_model");
    return 0;
}

/* The importer's hint shows --io-config; here the same is said in another way. */
static void retell_hint(kaena_err *err)
{
    static const char begin[] = "--io-config '{\"inputs\":{";
    char name[160], shape[80], type[16];
    const char *at = strstr(err->hint, begin);
    if (at && sscanf(at + sizeof begin - 1, "\"%159[^\"]\":[[%79[^]]],\"%15[^\"]\"", name, shape,
                     type) == 3)
        kaena_err_hint(err, "fix it, for example: --input_data_shapes '{\"%s\":[%s]}'", name,
                       shape);
}

/* --- The work -----------------------------------------------------------------------------------
 */

/* Without slashes at the end. */
static const char *plain(kaena_arena *arena, const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    return kaena_arena_printf(arena, "%.*s", (int)n, path);
}

/* Where the model lies on disk. */
static kaena_status fetch(const request *r, kcc_stage *stage, kaena_arena *arena, const char **dir,
                          kaena_err *err)
{
    kcc_s3 *s3;
    *dir = plain(arena, r->in);
    if (!kcc_s3_is(r->in))
        return KAENA_OK;
    KAENA_TRY(kcc_stage_s3(stage, &s3, err));
    const char *url = kaena_arena_printf(arena, "%s/", *dir);
    *dir = kaena_arena_printf(arena, "%s/in", stage->dir);
    if (mkdir(*dir, 0755) != 0)
        return KAENA_FAIL(err, INTERNAL, "'%s' cannot be made", *dir);
    return kcc_s3_get_all(s3, url, *dir, err);
}

typedef struct files {
    kcc_s3_file *file;
    uint32_t n;
} files;

/* The files below |dir|, with their URLs below |url|. */
static kaena_status list_files(kaena_arena *arena, const char *dir, const char *url, files *out,
                               kaena_err *err)
{
    kaena_status s = KAENA_OK;
    DIR *d = opendir(dir);
    if (!d)
        return KAENA_FAIL(err, INTERNAL, "'%s' cannot be read", dir);
    for (struct dirent *e; s == KAENA_OK && (e = readdir(d));) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        const char *path = kaena_arena_printf(arena, "%s/%s", dir, e->d_name);
        const char *to = kaena_arena_printf(arena, "%s/%s", url, e->d_name);
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            s = list_files(arena, path, to, out, err);
        else if (out->n == MAX_FILES)
            s = KAENA_FAIL(err, UNIMPLEMENTED, "more than %d files", MAX_FILES);
        else
            out->file[out->n++] = (kcc_s3_file){path, to};
    }
    (void)closedir(d);
    return s;
}

/* saved_model.pb goes last: readers look for it. */
static kaena_status upload(const request *r, kcc_stage *stage, kaena_arena *arena, const char *dir,
                           kaena_err *err)
{
    kcc_s3 *s3;
    files f = {.file = KAENA_NEW_N(arena, kcc_s3_file, MAX_FILES)};
    KAENA_TRY(kcc_stage_s3(stage, &s3, err));
    KAENA_TRY(list_files(arena, dir, plain(arena, r->out), &f, err));
    for (uint32_t i = 0; i + 1 < f.n; i++) {
        const char *slash = strrchr(f.file[i].path, '/');
        if (strcmp(slash + 1, "saved_model.pb") != 0 ||
            strlen(dir) != (size_t)(slash - f.file[i].path))
            continue;
        kcc_s3_file last = f.file[i];
        f.file[i] = f.file[f.n - 1];
        f.file[f.n - 1] = last;
    }
    return kcc_s3_put_all(s3, f.file, f.n, err);
}

static void show_progress(const char *stage, double seconds)
{
    if (seconds > 0.5 || isatty(STDERR_FILENO))
        (void)fprintf(stderr, "kaena_tf_compile: %-10s %7.2f s\n", stage, seconds);
}

/* The report comes when everything is where it belongs. */
static void print_report(kcc_compilation *c, const request *r)
{
    kaena_strbuf report = {0};
    uint32_t others = 0;
    for (size_t i = 0; i < c->chosen.meta->n_signature_def; i++)
        others += strcmp(c->chosen.meta->signature_def[i]->key, c->chosen.signature_name) != 0 &&
                  strncmp(c->chosen.meta->signature_def[i]->key, "__", 2) != 0;
    c->output = kaena_arena_printf(c->arena, "%s/" KCC_TF_NEFF_NAME, plain(c->arena, r->out));
    kcc_report(c, &report);
    (void)fwrite(report.data, 1, report.size, stdout);
    (void)printf("wrote %s/saved_model.pb: signature '%s'", plain(c->arena, r->out),
                 c->chosen.signature_name);
    if (others)
        (void)printf("; %u other%s of the model %s left out", others, others == 1 ? "" : "s",
                     others == 1 ? "is" : "are");
    (void)printf("\n");
    kaena_strbuf_fini(&report);
}

static kaena_status work(const request *r, kcc_stage *stage, kaena_arena *arena, kaena_err *err)
{
    kcc_io_config io = {0};
    const char *dir, *made = kaena_arena_printf(arena, "%s/out", stage->dir);
    kcc_compilation c = {.framework = kcc_framework_find("TENSORFLOW"),
                         .opt = r->opt,
                         .dynamic_batch = r->dynamic_batch,
                         .choice = r->choice,
                         .progress = show_progress,
                         .arena = arena,
                         .model = r->in,
                         .output = kaena_arena_printf(arena, "%s/" KCC_TF_NEFF_NAME, made)};
    if (r->shapes)
        KAENA_TRY_WRAP(err, kcc_input_shapes_parse(arena, r->shapes, &io, err),
                       "--input_data_shapes");
    KAENA_TRY(fetch(r, stage, arena, &dir, err));
    KAENA_TRY_WRAP(
        err, kcc_import_saved_model(arena, dir, &c.choice, &io, &c.graph, &c.info, &c.chosen, err),
        "import");
    if (mkdir(made, 0755) != 0)
        return KAENA_FAIL(err, INTERNAL, "'%s' cannot be made", made);
    KAENA_TRY(kcc_compile(&c, "write", err));
    KAENA_TRY(kcc_tf_copy_assets(dir, made, err));
    const char *pb = kaena_arena_printf(arena, "%s/saved_model.pb", made);
    KAENA_TRY(kcc_tf_write_saved_model(&c, pb, err));
    if (kcc_s3_is(r->out))
        KAENA_TRY(upload(r, stage, arena, made, err));
    else
        KAENA_TRY(kcc_tf_deliver(made, plain(arena, r->out), err));
    print_report(&c, r);
    return KAENA_OK;
}

int main(int argc, char **argv)
{
    request r = {.opt = {.num_tpbs = 4}};
    int status = parse(argc, argv, &r);
    if (status)
        return status < 0 ? EXIT_SUCCESS : status;
    kaena_arena arena;
    kaena_err err;
    kcc_stage stage = {0};
    bool replaces = false;
    kaena_arena_init(&arena, 0);
    kaena_err_init(&err);
    kaena_status s = kcc_s3_is(r.out)
                         ? KAENA_OK
                         : kcc_tf_check_output(&arena, plain(&arena, r.out), &replaces, &err);
    if (s == KAENA_OK)
        s = kcc_stage_open(plain(&arena, r.out), &stage, &err);
    if (s == KAENA_OK)
        s = work(&r, &stage, &arena, &err);
    if (s != KAENA_OK) {
        retell_hint(&err);
        (void)fprintf(stderr, "kaena_tf_compile: %s\n", err.what);
        if (err.hint[0])
            (void)fprintf(stderr, "kaena_tf_compile: %s\n", err.hint);
        if (replaces)
            (void)fprintf(stderr, "kaena_tf_compile: '%s' is as it was: compiled before\n", r.out);
    }
    kcc_stage_close(&stage);
    kaena_arena_fini(&arena);
    return s == KAENA_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

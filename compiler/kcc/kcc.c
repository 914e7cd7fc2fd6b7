/* kcc: the command line of the compiler. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compile.h"
#include "option_values.h"
#include "file.h"
#include "neff.h"
#include "verify.h"

#define EXIT_USAGE 2

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage;
} command;

static int fail(const kaena_err *err)
{
    (void)fprintf(stderr, "kcc: %s\n", err->what);
    if (err->hint[0])
        (void)fprintf(stderr, "kcc: %s\n", err->hint);
    return EXIT_FAILURE;
}

static int usage_error(const char *format, const char *what)
{
    (void)fprintf(stderr, "kcc: ");
    (void)fprintf(stderr, format, what);
    (void)fprintf(stderr, "; see 'kcc --help'\n");
    return EXIT_USAGE;
}

enum option_id {
    OPT_FRAMEWORK = 256,
    OPT_MODEL,
    OPT_PARAMS,
    OPT_TAGS,
    OPT_SIGNATURE,
    OPT_IO_CONFIG,
    OPT_NUM_TPBS,
    OPT_OUTPUT,
    OPT_DEBUG,
    OPT_OPTIMIZE,
    OPT_CAST,
    OPT_MUST_COMPILE,
    OPT_HOST_OPS,
    OPT_DEVICE_OPS,
    OPT_DYNAMIC_BATCH,
    OPT_VERIFY
};

static const struct option options[] = {
    {"framework", required_argument, NULL, OPT_FRAMEWORK},
    {"model", required_argument, NULL, OPT_MODEL},
    {"params", required_argument, NULL, OPT_PARAMS},
    {"tags", required_argument, NULL, OPT_TAGS},
    {"signature", required_argument, NULL, OPT_SIGNATURE},
    {"io-config", required_argument, NULL, OPT_IO_CONFIG},
    {"num-tpbs", required_argument, NULL, OPT_NUM_TPBS},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"debug", no_argument, NULL, OPT_DEBUG},
    {"optimize", required_argument, NULL, OPT_OPTIMIZE},
    {"fp32-cast", required_argument, NULL, OPT_CAST},
    {"must-compile", no_argument, NULL, OPT_MUST_COMPILE},
    {"host-ops", required_argument, NULL, OPT_HOST_OPS},
    {"device-ops", required_argument, NULL, OPT_DEVICE_OPS},
    {"dynamic-batch", no_argument, NULL, OPT_DYNAMIC_BATCH},
    {"verify", no_argument, NULL, OPT_VERIFY},
    {NULL, 0, NULL, 0},
};

static bool known_stage(const char *name)
{
    for (uint32_t i = 0; kcc_stage_name(i); i++)
        if (strcmp(kcc_stage_name(i), name) == 0)
            return true;
    return false;
}

/* "A,B" as a list in the compilation's arena; empty words are left out. */
static const char *const *split(kaena_arena *arena, const char *text, uint32_t *n)
{
    const char **list = KAENA_NEW_N(arena, const char *, strlen(text) / 2 + 1);
    char *copy = kaena_arena_strdup(arena, text), *rest = NULL;
    *n = 0;
    for (char *word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
        list[(*n)++] = word;
    return list;
}

/* |format| takes |what| and the frameworks' names. */
static int framework_error(const char *format, const char *what)
{
    kaena_strbuf names = {0};
    kcc_framework_names(&names);
    (void)fprintf(stderr, "kcc: ");
    (void)fprintf(stderr, format, what, names.data);
    kaena_strbuf_fini(&names);
    return EXIT_USAGE;
}

/* Each names one set of input shapes. */
static void add_io_config(kcc_compilation *c, const char *text)
{
    const char **list = KAENA_NEW_N(c->arena, const char *, c->n_io_configs + 1);
    for (uint32_t i = 0; i < c->n_io_configs; i++)
        list[i] = c->io_configs[i];
    list[c->n_io_configs++] = text;
    c->io_configs = list;
}

/* Parses the options all commands share; 0, or the exit status. */
static int parse(int argc, char **argv, kcc_compilation *c)
{
    int id;
    opterr = 0;
    while ((id = getopt_long(argc, argv, ":d:", options, NULL)) != -1) {
        switch (id) {
        case OPT_FRAMEWORK:
            c->framework = kcc_framework_find(optarg);
            if (!c->framework)
                return framework_error("--framework '%s' is not %s; see 'kcc --help'\n", optarg);
            break;
        case OPT_MODEL:
            c->model = kaena_path_of_uri(optarg);
            break;
        case OPT_PARAMS:
            c->params = optarg;
            break;
        case OPT_TAGS:
            c->choice.tags = optarg;
            break;
        case OPT_SIGNATURE:
            c->choice.signature = optarg;
            break;
        case OPT_IO_CONFIG:
            c->io_config = optarg;
            add_io_config(c, optarg);
            break;
        case OPT_DYNAMIC_BATCH:
            c->dynamic_batch = true;
            break;
        case OPT_NUM_TPBS:
            if (!kcc_num_tpbs_of(optarg, &c->opt.num_tpbs))
                return usage_error("--num-tpbs '%s' is not a number from 1 to 64", optarg);
            break;
        case OPT_OUTPUT:
            c->output = kaena_path_of_uri(optarg);
            break;
        case OPT_DEBUG:
            c->opt.debug = true;
            break;
        case OPT_OPTIMIZE:
            if (!kcc_optimize_of(optarg, &c->opt.optimize))
                return usage_error("--optimize '%s' is neither latency nor throughput", optarg);
            break;
        case OPT_CAST:
            if (!kcc_cast_of(optarg, &c->opt.cast))
                return usage_error("--fp32-cast '%s' is none of all, matmul, none", optarg);
            break;
        case OPT_MUST_COMPILE:
            c->opt.must_compile = true;
            break;
        case OPT_HOST_OPS:
            c->opt.host_ops = split(c->arena, optarg, &c->opt.n_host_ops);
            break;
        case OPT_DEVICE_OPS:
            c->opt.device_ops = split(c->arena, optarg, &c->opt.n_device_ops);
            break;
        case OPT_VERIFY:
            c->verify = true;
            break;
        case 'd':
            if (!known_stage(optarg))
                return usage_error("-d '%s' is not a stage", optarg);
            c->dump_after = optarg;
            break;
        case ':':
            return usage_error("'%s' needs a value", argv[optind - 1]);
        default:
            return usage_error("unknown option '%s'", argv[optind - 1]);
        }
    }
    if (optind < argc)
        return usage_error("'%s' is one argument too many", argv[optind]);
    if (!c->framework)
        return framework_error("%s--framework %s is needed; see 'kcc --help'\n", "");
    return 0;
}

static void show_progress(const char *stage, double seconds)
{
    if (seconds > 0.5 || isatty(STDERR_FILENO))
        (void)fprintf(stderr, "kcc: %-10s %7.2f s\n", stage, seconds);
}

static void print(kaena_strbuf *text)
{
    if (text->data)
        (void)fwrite(text->data, 1, text->size, stdout);
    kaena_strbuf_fini(text);
}

/* "dir/resnet50.onnx" -> "dir/resnet50.neff" */
static const char *default_output(kaena_arena *arena, const char *model)
{
    size_t size = strlen(model);
    while (size > 1 && model[size - 1] == '/')
        size--;
    model = kaena_arena_printf(arena, "%.*s", (int)size, model);
    const char *slash = strrchr(model, '/'), *dot = strrchr(model, '.');
    int stem = dot && (!slash || dot > slash) ? (int)(dot - model) : (int)strlen(model);
    return kaena_arena_printf(arena, "%.*s.neff", stem, model);
}

static int run_compile(int argc, char **argv)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    kcc_compilation c = {.arena = &arena, .opt = {.num_tpbs = 4}, .progress = show_progress};
    kaena_err err;
    kaena_err_init(&err);
    int status = parse(argc, argv, &c);
    if (!status && !c.model)
        status = usage_error("%s", "--model is needed");
    if (!status) {
        if (!c.output)
            c.output = default_output(&arena, c.model);
        kaena_strbuf report = {0};
        if (kcc_compile(&c, "write", &err) != KAENA_OK) {
            status = fail(&err);
        } else {
            kcc_report(&c, &report);
            print(&report);
            bool agrees = true;
            if (c.verify && kcc_verify(&c, &report, &agrees, &err) != KAENA_OK)
                status = fail(&err);
            else if (!agrees)
                status = EXIT_FAILURE;
            print(&report);
        }
    }
    kaena_arena_fini(&arena);
    return status;
}

static int run_check(int argc, char **argv)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    kcc_compilation c = {.arena = &arena, .opt = {.num_tpbs = 4}};
    kaena_err err;
    kaena_err_init(&err);
    int status = parse(argc, argv, &c);
    if (!status && !c.model)
        status = usage_error("%s", "--model is needed");
    if (!status) {
        kaena_strbuf out = {0};
        if (kcc_check(&c, &out, &err) != KAENA_OK)
            status = fail(&err);
        print(&out);
    }
    kaena_arena_fini(&arena);
    return status;
}

static int run_list(int argc, char **argv)
{
    kaena_arena arena;
    kaena_arena_init(&arena, 0);
    kcc_compilation c = {.arena = &arena};
    int status = parse(argc, argv, &c);
    if (!status) {
        kaena_strbuf out = {0};
        kcc_list_operators(c.framework, &out);
        print(&out);
    }
    kaena_arena_fini(&arena);
    return status;
}

static const command commands[] = {
    {"compile", run_compile,
     "compile --framework MXNET|ONNX|TENSORFLOW --model F [--params F] [--io-config JSON|F]...\n"
     "        [--dynamic-batch] [--tags T,U] [--signature S] [--num-tpbs 1..64] [--output F.neff]\n"
     "        [--optimize latency|throughput] [--fp32-cast all|matmul|none] [--must-compile] "
     "[--verify] "
     "[--debug]\n"
     "        [--host-ops A,B] [--device-ops A,B] [-d STAGE]"},
    {"check", run_check,
     "check --framework MXNET|ONNX|TENSORFLOW --model F [--params F] [--io-config JSON|F]\n"
     "        [--tags T,U] [--signature S]"},
    {"list-operators", run_list, "list-operators --framework MXNET|ONNX|TENSORFLOW"},
};

static int help(FILE *to)
{
    (void)fprintf(to, "kcc compiles neural networks for Inferentia's TPBs.\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        (void)fprintf(to, "  kcc %s\n", commands[i].usage);
    (void)fprintf(to, "  kcc -V\n\nstages for -d:");
    for (uint32_t i = 0; kcc_stage_name(i); i++)
        (void)fprintf(to, " %s", kcc_stage_name(i));
    (void)fprintf(to, "\n");
    return to == stdout ? EXIT_SUCCESS : EXIT_USAGE;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return help(stderr);
    if (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0) {
        (void)printf("%s\nNEFF format %d.%d\n", KCC_VERSION_TEXT, NEFF_FORMAT_MAJOR,
                     NEFF_FORMAT_MINOR);
        return EXIT_SUCCESS;
    }
    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)
        return help(stdout);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, argv[1]) == 0)
            return commands[i].run(argc - 1, argv + 1);
    return usage_error("unknown command '%s'", argv[1]);
}

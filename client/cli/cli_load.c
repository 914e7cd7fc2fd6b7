/* load, unload. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define MAX_DAEMONS 256

/* "all" or a number of daemons. */
static bool parse_daemons(const char *text, uint32_t *out)
{
    long n;
    if (strcmp(text, "all") == 0)
        *out = KAENA_ALL;
    else if (cli_number(text, 1, &n) && n <= MAX_DAEMONS)
        *out = (uint32_t)n;
    else
        return false;
    return true;
}

/* "max" or a number of copies. */
static bool parse_replicas(const char *text, uint32_t *out)
{
    long n;
    if (strcmp(text, "max") == 0)
        *out = KAENA_ALL;
    else if (cli_number(text, 1, &n) && n <= 4096)
        *out = (uint32_t)n;
    else
        return false;
    return true;
}

static bool parse_u32(const char *text, uint32_t *out)
{
    long n;
    if (!cli_number(text, 1, &n) || n > INT32_MAX)
        return false;
    *out = (uint32_t)n;
    return true;
}

static void print_loaded(const kaena_model_info *m, const char *where)
{
    char dram[CLI_BYTES_TEXT];
    printf("%s: loaded into %s, on %u TPB%s, %s of device memory\n", m->name, where, m->tpb_count,
           m->tpb_count == 1 ? "" : "s", cli_bytes_text(m->dram_bytes, dram, sizeof dram));
}

static int load_one(kaena_client *client, const char *path, const kaena_load_options *load)
{
    kaena_model_info *model;
    kaena_err err;
    if (kaena_model_load(client, path, load, &model, &err) != KAENA_OK)
        return cli_fail(&err);
    print_loaded(model, model->daemon);
    cli_print_tensors("takes", model->inputs, model->input_count);
    cli_print_tensors("gives", model->outputs, model->output_count);
    kaena_model_info_free(model);
    return CLI_OK;
}

/* Into several daemons; what is missing is told, and fails the command. */
static int load_many(kaena_client *client, const char *path, const kaena_load_options *load)
{
    kaena_model *model;
    kaena_err err;
    if (kaena_model_open(client, path, load, &model, &err) != KAENA_OK)
        return cli_fail(&err);
    static kaena_replica replicas[MAX_DAEMONS];
    size_t n = kaena_model_replicas(model, replicas, MAX_DAEMONS), ready = 0;
    const kaena_model_info *info = kaena_model_describe(model);
    for (size_t i = 0; i < n; i++) {
        if (replicas[i].state == KAENA_REPLICA_READY && ++ready)
            print_loaded(info, replicas[i].address);
        else if (load->daemons == KAENA_ALL || replicas[i].why[0])
            fprintf(stderr, "kaena-cli: not in %s: %s\n", replicas[i].address,
                    replicas[i].why[0] ? replicas[i].why : "it does not answer");
    }
    cli_print_tensors("takes", info->inputs, info->input_count);
    cli_print_tensors("gives", info->outputs, info->output_count);
    kaena_model_close(model);
    size_t wanted = load->daemons == KAENA_ALL ? n : load->daemons;
    if (ready >= wanted)
        return CLI_OK;
    fprintf(stderr, "kaena-cli: %zu of %zu daemons have the model\n", ready, wanted);
    return CLI_FAILED;
}

int cli_load(const cli_command *self, int argc, char **argv)
{
    static const struct option options[] = {
        {"name", required_argument, NULL, 'n'},        {"by-path", no_argument, NULL, 'p'},
        {"queue-depth", required_argument, NULL, 'q'}, {"group", required_argument, NULL, 'g'},
        {"replicas", required_argument, NULL, 'r'},    {"timeout", required_argument, NULL, 't'},
        {"on", required_argument, NULL, 'o'},          {"version", required_argument, NULL, 'v'},
        {"persistent", no_argument, NULL, 'P'},        {0},
    };
    /* Nothing of the CLI's belongs to a session: it would go when the command ends. */
    kaena_load_options load = {.size = sizeof load, .persistent = 1};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'n':
            load.name = optarg;
            break;
        case 'p':
            load.by_path = 1;
            break;
        case 'q':
            if (!parse_u32(optarg, &load.queue_depth))
                return cli_misused(self, "--queue-depth takes a number above 0");
            break;
        case 'g':
            load.group = optarg;
            break;
        case 'r':
            if (!parse_replicas(optarg, &load.replicas))
                return cli_misused(self, "--replicas takes a number above 0, or max");
            break;
        case 't':
            if (!parse_u32(optarg, &load.execution_timeout_ms))
                return cli_misused(self, "--timeout takes milliseconds");
            break;
        case 'o':
            if (!parse_daemons(optarg, &load.daemons))
                return cli_misused(self, "--on takes a number of daemons, or all");
            break;
        case 'v':
            load.version = optarg;
            break;
        case 'P':
            break; /* it always is */
        default:
            return cli_misused(self, NULL);
        }
    }
    if (argc - optind != 1)
        return cli_misused(self, "takes one file");
    kaena_client *client = cli_connect();
    if (!client)
        return CLI_FAILED;
    int result = load.daemons > 1 ? load_many(client, argv[optind], &load)
                                  : load_one(client, argv[optind], &load);
    kaena_client_close(client);
    return result;
}

int cli_unload(const cli_command *self, int argc, char **argv)
{
    static const struct option options[] = {{"on", required_argument, NULL, 'o'}, {0}};
    bool all = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c != 'o')
            return cli_misused(self, NULL);
        if (strcmp(optarg, "all") != 0)
            return cli_misused(self, "--on takes all");
        all = true;
    }
    if (argc - optind != 1)
        return cli_misused(self, "takes the name of a model");
    kaena_client *client = cli_connect();
    if (!client)
        return CLI_FAILED;
    kaena_err err;
    int result = CLI_OK;
    size_t times = 0;
    kaena_status status;
    do
        status = kaena_model_unload(client, argv[optind], &err);
    while (status == KAENA_OK && ++times && all);
    if (status != KAENA_OK && !(status == KAENA_NOT_FOUND && times > 0))
        result = cli_fail(&err);
    else if (times > 1)
        printf("%s: unloaded from %zu daemons\n", argv[optind], times);
    else
        printf("%s: unloaded\n", argv[optind]);
    kaena_client_close(client);
    return result;
}

/* kaena-cli: what the daemons hold, and running a model from the shell. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const cli_command commands[] = {
    {"devices", cli_devices, "[--json]", "the devices of the daemons, and what lives on them"},
    {"models", cli_models, "[--json]", "the loaded models"},
    {"groups", cli_groups,
     "[list] [--json] | create NAME --tpbs N [--devices I,...] | destroy NAME",
     "groups of TPBs that models are loaded into by name"},
    {"load", cli_load,
     "FILE.neff [--name NAME] [--on N|all] [--group NAME] [--replicas N|max] [--by-path] "
     "[--queue-depth N]\n"
     "       [--timeout MS] [--version LABEL] [--persistent]",
     "load a compiled model into a daemon that has room, or into N or all; --replicas: copies "
     "within each;\n"
     "      --by-path: the daemon reads the file below its --model-dir; --timeout: an execution "
     "that "
     "takes\n"
     "      longer is stopped; it stays until it is unloaded"},
    {"unload", cli_unload, "NAME [--on all]", "unload a model, from one daemon or from all"},
    {"infer", cli_infer,
     "--model NAME --input [INPUT=]FILE.npy... [--output-dir DIR] [--print] [--timeout MS] "
     "[--priority P]\n"
     "       [--check-finite]",
     "run a model once; writes DIR/<output>.npy, prints the largest values; --priority -8..7, "
     "higher first;\n"
     "      --check-finite: tell which outputs have NaN or infinity"},
    {"bench", cli_bench,
     "--model NAME [--requests N | --seconds S] [--concurrency C] [--input [INPUT=]FILE.npy]... "
     "[--json]\n"
     "       [--shared-memory] [--async N]",
     "measure latency and throughput, with random inputs unless some are given; --shared-memory: "
     "tensors\n"
     "      lie where a local daemon reads them; --async: each of C threads has N requests under "
     "way"},
    {"stats", cli_stats, "[--json]",
     "what the daemons have counted since their start: requests, times, use of the devices"},
};
#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static kaena_client_options how = {.size = sizeof how, .fail_fast = 1};

static void print_usage(FILE *to)
{
    fprintf(to, "usage: kaena-cli [--address A[,A]...] [--tls-ca FILE [--tls-cert FILE --tls-key "
                "FILE] [--tls-name HOST]]\n                 COMMAND ...\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %s %s\n      %s\n", commands[i].name, commands[i].arguments,
                commands[i].help);
    fprintf(to, "\nAn address is unix:PATH or HOST:PORT. Without --address: KAENA_KRTD_ADDRESS, "
                "the file KAENA_CONFIG\n"
                "names, /etc/kaena/krtd.json, or the default socket. --tls-ca (KAENA_TLS_CA, "
                "KAENA_TLS_CERT,\nKAENA_TLS_KEY in the environment): HOST:PORT speaks TLS.\n");
}

int cli_fail(const kaena_err *err)
{
    fprintf(stderr, "kaena-cli: %s\n",
            err->what[0] ? err->what : kaena_status_name((kaena_status)err->code));
    if (err->hint[0])
        fprintf(stderr, "  %s\n", err->hint);
    if (err->request_id[0])
        fprintf(stderr, "  request %s\n", err->request_id);
    return CLI_FAILED;
}

int cli_misused(const cli_command *self, const char *problem)
{
    if (problem)
        fprintf(stderr, "kaena-cli %s: %s\n", self->name, problem);
    fprintf(stderr, "usage: kaena-cli %s %s\n", self->name, self->arguments);
    return CLI_USAGE;
}

static void hear(void *user, const char *text)
{
    (void)user;
    fprintf(stderr, "kaena-cli: %s\n", text);
}

kaena_client *cli_connect_sharing(void)
{
    kaena_client *client = NULL;
    kaena_err err;
    how.log = hear;
    if (kaena_client_open(&how, &client, &err) == KAENA_OK)
        return client;
    (void)cli_fail(&err);
    return NULL;
}

kaena_client *cli_connect(void)
{
    how.no_shared_memory = 1;
    return cli_connect_sharing();
}

/* gRPC allocates every answer anew. Memory that goes back to the kernel in between comes back as
 * page faults, which take longer than the copy of a large tensor; a program that runs for seconds
 * can keep it. */
static void keep_memory(void)
{
    const int size = 256 << 20;
    (void)mallopt(M_MMAP_THRESHOLD, size);
    (void)mallopt(M_TRIM_THRESHOLD, size);
    (void)mallopt(M_TOP_PAD, 64 << 20);
    (void)mallopt(M_ARENA_MAX, 2);
}

int main(int argc, char **argv)
{
    keep_memory();
    static const struct option options[] = {
        {"address", required_argument, NULL, 'a'},  {"tls-ca", required_argument, NULL, 'c'},
        {"tls-cert", required_argument, NULL, 'C'}, {"tls-key", required_argument, NULL, 'K'},
        {"tls-name", required_argument, NULL, 'N'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},        {0},
    };
    /* "+": what follows the command belongs to the command. */
    for (int c; (c = getopt_long(argc, argv, "+a:hV", options, NULL)) != -1;) {
        switch (c) {
        case 'a':
            how.address = optarg;
            break;
        case 'c':
            how.tls_ca = optarg;
            break;
        case 'C':
            how.tls_cert = optarg;
            break;
        case 'K':
            how.tls_key = optarg;
            break;
        case 'N':
            how.tls_name = optarg;
            break;
        case 'h':
            print_usage(stdout);
            return CLI_OK;
        case 'V':
            printf("kaena-cli %s\n", KAENA_VERSION);
            return CLI_OK;
        default:
            print_usage(stderr);
            return CLI_USAGE;
        }
    }
    if (optind == argc) {
        print_usage(stderr);
        return CLI_USAGE;
    }
    int first = optind;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(argv[first], commands[i].name) == 0) {
            optind = 0; /* getopt begins anew, in the command's arguments */
            int status = commands[i].run(&commands[i], argc - first, argv + first);
            if (fflush(stdout) != 0) {
                fprintf(stderr, "kaena-cli: cannot write the output\n");
                return CLI_FAILED;
            }
            return status;
        }
    }
    fprintf(stderr, "kaena-cli: there is no command '%s'\n\n", argv[first]);
    print_usage(stderr);
    return CLI_USAGE;
}

/* kaena-cli: what the daemons hold, and running a model from the shell. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const cli_command commands[] = {
    {"devices", cli_devices, "[--json]", "the devices of the daemons, and what lives on them"},
    {"models", cli_models, "[--json]", "the loaded models"},
    {"load", cli_load, "FILE.neff [--name NAME] [--by-path] [--queue-depth N]",
     "load a compiled model; --by-path: the daemon reads the file below its --model-dir"},
    {"unload", cli_unload, "NAME", "unload a model"},
    {"infer", cli_infer,
     "--model NAME --input [INPUT=]FILE.npy... [--output-dir DIR] [--print] [--timeout MS]",
     "run a model once; writes DIR/<output>.npy, prints the largest values"},
    {"bench", cli_bench,
     "--model NAME [--requests N | --seconds S] [--concurrency C] [--input [INPUT=]FILE.npy]... "
     "[--json]",
     "measure latency and throughput, with random inputs unless some are given"},
};
#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static const char *address;

static void print_usage(FILE *to)
{
    fprintf(to, "usage: kaena-cli [--address A[,A]...] COMMAND ...\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %s %s\n      %s\n", commands[i].name, commands[i].arguments,
                commands[i].help);
    fprintf(to, "\nAn address is unix:PATH or HOST:PORT. Without --address: KAENA_KRTD_ADDRESS, "
                "the file KAENA_CONFIG\n"
                "names, /etc/kaena/krtd.json, or the default socket.\n");
}

int cli_fail(const kaena_err *err)
{
    fprintf(stderr, "kaena-cli: %s\n",
            err->what[0] ? err->what : kaena_status_name((kaena_status)err->code));
    if (err->hint[0])
        fprintf(stderr, "  %s\n", err->hint);
    return CLI_FAILED;
}

int cli_misused(const cli_command *self, const char *problem)
{
    if (problem)
        fprintf(stderr, "kaena-cli %s: %s\n", self->name, problem);
    fprintf(stderr, "usage: kaena-cli %s %s\n", self->name, self->arguments);
    return CLI_USAGE;
}

kaena_client *cli_connect(void)
{
    kaena_client_options options = {.size = sizeof options, .fail_fast = 1, .address = address};
    kaena_client *client = NULL;
    kaena_err err;
    if (kaena_client_open(&options, &client, &err) == KAENA_OK)
        return client;
    (void)cli_fail(&err);
    return NULL;
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
        {"address", required_argument, NULL, 'a'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0},
    };
    /* "+": what follows the command belongs to the command. */
    for (int c; (c = getopt_long(argc, argv, "+a:hV", options, NULL)) != -1;) {
        switch (c) {
        case 'a':
            address = optarg;
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

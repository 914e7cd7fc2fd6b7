/* How long requests take through libkaena, one at a time, of a model that takes x and gives y:
 * float32[N].
 *
 * client_latency ADDRESS MODEL N PAUSE_US bytes|shared
 *
 * Between two requests it pauses. "shared": inputs and outputs lie in the library's memory, which
 * it shares with the daemon where it can; else everything goes through the socket. Each line
 * "SECONDS" on its standard input is answered with "<p50> <p99> <requests>", microseconds. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kaena/client.h"

#define MAX_SAMPLES 1000000

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void die(const char *what)
{
    (void)fprintf(stderr, "client_latency: %s\n", what);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        die("usage: client_latency ADDRESS MODEL N PAUSE_US bytes|shared");
    size_t n = strtoull(argv[3], NULL, 10);
    useconds_t pause_us = (useconds_t)strtoul(argv[4], NULL, 10);
    bool shared = strcmp(argv[5], "shared") == 0;
    double *samples = malloc(sizeof *samples * MAX_SAMPLES), seconds;
    kaena_client_options options = {
        .size = sizeof options, .address = argv[1], .no_shared_memory = !shared};
    kaena_client *client;
    kaena_err err;
    if (!n || !samples)
        die("no elements, or no memory");
    if (kaena_client_open(&options, &client, &err) != KAENA_OK)
        die(err.what);
    kaena_tensor in = {.name = "x",
                       .dtype = KAENA_F32,
                       .rank = 1,
                       .shape = {(int64_t)n},
                       .bytes = n * sizeof(float)};
    kaena_tensor out = {.name = "y"}; /* what has no name cannot be asked to lie somewhere */
    if (kaena_tensor_alloc(client, in.bytes, &in, &err) != KAENA_OK ||
        kaena_tensor_alloc(client, in.bytes, &out, &err) != KAENA_OK)
        die(err.what);
    memset(in.data, 0, in.bytes);
    for (char line[64]; fgets(line, sizeof line, stdin) && (seconds = strtod(line, NULL)) > 0;) {
        size_t got = 0;
        for (double to = now() + seconds; (now() < to || !got) && got < MAX_SAMPLES;) {
            kaena_infer_call call = {.size = sizeof call,
                                     .model = argv[2],
                                     .inputs = &in,
                                     .input_count = 1,
                                     .outputs = &out,
                                     .output_count = 1};
            double t = now();
            if (kaena_infer(client, &call, &err) != KAENA_OK)
                die(err.what);
            samples[got++] = (now() - t) * 1e6;
            if (pause_us)
                (void)usleep(pause_us);
        }
        qsort(samples, got, sizeof *samples, by_value);
        (void)printf("%.1f %.1f %zu\n", samples[got / 2], samples[got * 99 / 100], got);
        (void)fflush(stdout);
    }
    kaena_tensor_free(&in);
    kaena_tensor_free(&out);
    kaena_client_close(client);
    free(samples);
    return 0;
}

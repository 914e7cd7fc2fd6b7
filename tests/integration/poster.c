/* Posted requests through libkaena, for tests of what becomes of them:
 *
 *     poster ADDRESS MODEL.neff NAME
 *
 * loads the model, an identity of float32[2], on all daemons, and does as standard input says, a
 * line each; the answer is a line, too:
 *
 *     post VALUE         "posted I D" (I: to wait for it, from 0; D: the daemon's position)
 *     wait I MS          "answer VALUE"
 *     poll I             "answer VALUE" or "not yet"
 *
 * or "error CODE REASON TEXT". */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kaena/client.h>

#define MAX_POSTS 256

static kaena_client *client;
static kaena_model *model;
static kaena_cookie cookies[MAX_POSTS];
static size_t n_posted;

static void say_error(kaena_status status, const kaena_err *err)
{
    printf("error %s %d %s\n", kaena_status_name(status), (int)err->reason, err->what);
}

static void post(float value)
{
    float x[2] = {value, 0};
    kaena_tensor in = {
        .name = "x", .dtype = KAENA_F32, .rank = 1, .shape = {2}, .data = x, .bytes = sizeof x};
    kaena_tensor out = {.name = NULL};
    const kaena_infer_call call = {
        .size = sizeof call, .inputs = &in, .input_count = 1, .outputs = &out, .output_count = 1};
    kaena_err err;
    kaena_status status = n_posted < MAX_POSTS
                              ? kaena_model_post(model, &call, &cookies[n_posted], &err)
                              : KAENA_RESOURCE_EXHAUSTED;
    if (status != KAENA_OK) {
        say_error(status, &err);
        return;
    }
    printf("posted %zu %" PRIu32 "\n", n_posted, cookies[n_posted].daemon);
    n_posted++;
}

static void fetch(size_t i, bool wait, int64_t timeout_ms)
{
    float y[2] = {0, 0};
    kaena_tensor out = {.data = y, .bytes = sizeof y};
    kaena_infer_call call = {
        .size = sizeof call, .outputs = &out, .output_count = 1, .timeout_ms = timeout_ms};
    kaena_err err;
    int done = 1;
    kaena_status status = wait ? kaena_wait(client, &cookies[i], &call, &err)
                               : kaena_poll(client, &cookies[i], &call, &done, &err);
    if (status != KAENA_OK)
        say_error(status, &err);
    else if (!done)
        puts("not yet");
    else
        printf("answer %g\n", (double)y[0]);
}

static void die(const kaena_err *err)
{
    fprintf(stderr, "poster: %s\n", err->what);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const kaena_client_options options = {.size = sizeof options, .address = argv[1]};
    const kaena_load_options load = {.size = sizeof load, .name = argv[3], .daemons = KAENA_ALL};
    kaena_err err;
    if (kaena_client_open(&options, &client, &err) != KAENA_OK ||
        kaena_model_open(client, argv[2], &load, &model, &err) != KAENA_OK)
        die(&err);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (char line[128]; fgets(line, sizeof line, stdin);) {
        float value;
        size_t i;
        int64_t ms;
        if (sscanf(line, "post %f", &value) == 1)
            post(value);
        else if (sscanf(line, "wait %zu %" SCNd64, &i, &ms) == 2 && i < n_posted)
            fetch(i, true, ms);
        else if (sscanf(line, "poll %zu", &i) == 1 && i < n_posted)
            fetch(i, false, 0);
        else
            puts("what?");
    }
    kaena_model_close(model);
    kaena_client_close(client);
    return 0;
}

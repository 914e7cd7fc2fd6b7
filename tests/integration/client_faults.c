/* libkaena while its allocations fail, one after the other:
 *
 *     client_faults ADDRESS MODEL.neff
 *
 * Counts the allocations of a scenario, then runs it once for each of them, which fails. Every run
 * has to end: with success, or with RESOURCE_EXHAUSTED and a message. The last line says how often.
 * With AddressSanitizer the program fails when anything leaked. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc_fault.h"
#include "kaena/client.h"

#define VALUES 20000 /* 80 kB: shared, where that is possible */
#define REQUESTS 4

static uint64_t runs, failures;

/* True: the scenario goes on. */
static bool good(const char *what, kaena_status status, const kaena_err *err)
{
    if (status == KAENA_OK)
        return true;
    if (status != KAENA_RESOURCE_EXHAUSTED || !err->what[0]) {
        fprintf(stderr, "client_faults: run %" PRIu64 ", %s: %s: %s\n", runs, what,
                kaena_status_name(status), err->what);
        exit(1);
    }
    failures++;
    return false;
}

static float x[VALUES], y[REQUESTS][VALUES];

static void check_answer(const float *data)
{
    if (data && memcmp(data, x, sizeof x) == 0)
        return;
    fprintf(stderr, "client_faults: run %" PRIu64 ": a wrong answer\n", runs);
    exit(1);
}

static void prepare(kaena_infer_call *call, kaena_tensor *in, kaena_tensor *out, float *to)
{
    *in = (kaena_tensor){.name = "x",
                         .dtype = KAENA_F32,
                         .rank = 1,
                         .shape = {VALUES},
                         .data = x,
                         .bytes = sizeof x};
    *out = (kaena_tensor){.data = to, .bytes = to ? sizeof x : 0};
    *call = (kaena_infer_call){.size = sizeof *call,
                               .model = "m",
                               .inputs = in,
                               .input_count = 1,
                               .outputs = out,
                               .output_count = 1};
}

static void ask(kaena_client *client, kaena_model *model)
{
    kaena_infer_call call;
    kaena_tensor in, out;
    kaena_err err;
    prepare(&call, &in, &out, y[0]);
    if (good("infer by name", kaena_infer(client, &call, &err), &err))
        check_answer(y[0]);
    kaena_cookie cookie;
    if (good("post", kaena_model_post(model, &call, &cookie, &err), &err) &&
        good("wait", kaena_wait(client, &cookie, &call, &err), &err))
        check_answer(y[0]);
    prepare(&call, &in, &out, NULL);
    if (good("infer", kaena_model_infer(model, &call, &err), &err))
        check_answer(out.data);
    kaena_tensor_free(&out);
    if (good("alloc", kaena_tensor_alloc(client, sizeof x, &out, &err), &err))
        kaena_tensor_free(&out);
}

static void submit(kaena_model *model)
{
    kaena_infer_call calls[REQUESTS];
    kaena_tensor in[REQUESTS], out[REQUESTS];
    kaena_request *requests[REQUESTS] = {NULL};
    kaena_err err;
    for (size_t i = 0; i < REQUESTS; i++) {
        prepare(&calls[i], &in[i], &out[i], y[i]);
        (void)good("submit", kaena_model_submit(model, &calls[i], NULL, NULL, &requests[i], &err),
                   &err);
    }
    for (size_t i = 0; i < REQUESTS; i++) {
        if (!requests[i])
            continue;
        (void)kaena_request_wait(requests[i], -1);
        if (good("request", kaena_request_status(requests[i], &err), &err))
            check_answer(y[i]);
        kaena_request_release(requests[i]);
    }
}

static void list(kaena_client *client)
{
    kaena_model_list *models;
    kaena_device_list *devices;
    kaena_model_info *info;
    kaena_err err;
    if (good("models", kaena_model_list_get(client, &models, &err), &err))
        kaena_model_list_free(models);
    if (good("devices", kaena_device_list_get(client, &devices, &err), &err))
        kaena_device_list_free(devices);
    if (good("model", kaena_model_info_get(client, "m", &info, &err), &err))
        kaena_model_info_free(info);
}

static void run(const char *address, const char *path)
{
    const kaena_client_options options = {.size = sizeof options, .address = address};
    const kaena_load_options load = {.size = sizeof load, .name = "m"};
    kaena_client *client;
    kaena_model *model;
    kaena_err err;
    runs++;
    if (!good("open", kaena_client_open(&options, &client, &err), &err))
        return;
    if (good("load", kaena_model_open(client, path, &load, &model, &err), &err)) {
        ask(client, model);
        submit(model);
        list(client);
        kaena_model_close(model);
    }
    kaena_client_close(client);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    for (size_t i = 0; i < VALUES; i++)
        x[i] = (float)i;
    uint64_t before = alloc_fault_count();
    run(argv[1], argv[2]);
    uint64_t most = alloc_fault_count() - before;
    if (failures) {
        fprintf(stderr, "client_faults: it fails by itself\n");
        return 1;
    }
    uint64_t hit = 0;
    for (uint64_t nth = 1; nth <= most; nth++) {
        alloc_fault_arm(nth, 1);
        run(argv[1], argv[2]);
        hit += alloc_fault_failed();
        alloc_fault_arm(0, 0);
    }
    run(argv[1], argv[2]);
    printf("%" PRIu64 " allocations failed in turn, %" PRIu64 " calls told\n", hit, failures);
    return 0;
}

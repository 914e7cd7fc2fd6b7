/* The whole line in one process: the compiler after the import, a NEFF in a temporary file, and
 * emulated devices that run its plan. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compile.h"
#include "conformance.h"
#include "dev.h"
#include "neff.h"

/* What a request tells when it is done. */
typedef struct answer {
    kaena_arena *arena;
    const kop_tensor *got; /* the device's; valid until |done| returns */
    kop_tensor *out;
    uint32_t n_out;
    kaena_status status;
    kaena_err *err;
} answer;

static void on_done(dev_request *request, kaena_status status, const kaena_err *err)
{
    answer *a = request->user;
    a->status = status;
    if (err)
        *a->err = *err;
    for (uint32_t i = 0; status == KAENA_OK && i < a->n_out; i++)
        (void)kop_copy(a->arena, &a->got[i], &a->out[i]); /* an arena without a quota */
}

static kaena_status run_neff(kaena_arena *arena, const char *path, const kop_tensor *in,
                             kop_tensor *out, kaena_err *err)
{
    neff_file *file;
    dev_system *sys = NULL;
    dev_model *model = NULL;
    KAENA_TRY(neff_open(path, &file, err));
    const dev_config config = {.n_chips = 1, .threads = 1};
    kaena_status status = dev_system_create(&config, &sys, err);
    if (status == KAENA_OK)
        status = dev_model_load(sys, path, file, &model, err);
    if (status == KAENA_OK) {
        uint32_t n_out = neff_n_outputs(file);
        uint64_t items;
        kop_tensor *got = KAENA_NEW_N(arena, kop_tensor, n_out);
        answer a = {.arena = arena,
                    .got = got,
                    .out = out,
                    .n_out = n_out,
                    .status = KAENA_UNAVAILABLE,
                    .err = err};
        dev_request request = {.in_tensor = in, .out_tensor = got, .done = on_done, .user = &a};
        status = dev_model_check(model, in, &items, err);
        if (status == KAENA_OK) {
            (void)dev_run(model, &request);
            status = a.status;
        }
    }
    dev_model_unload(model);
    if (sys)
        dev_system_destroy(sys);
    neff_unref(file);
    return status;
}

kaena_status conf_execute_device(kaena_arena *arena, kgr_graph *g, uint32_t num_tpbs,
                                 const kop_tensor *in, kop_tensor *out, uint32_t *device_nodes,
                                 kaena_err *err)
{
    char path[] = "/tmp/onnx-conformance-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no temporary file in /tmp");
    (void)close(fd);
    kcc_compilation c = {.model = "",
                         .output = path,
                         .graph = g,
                         .info = {.framework = "ONNX"},
                         .opt = {.cast = KCC_CAST_NONE, .num_tpbs = num_tpbs},
                         .arena = arena};
    kaena_status status = kcc_compile(&c, "write", err);
    if (status == KAENA_OK)
        status = run_neff(arena, path, in, out, err);
    if (status == KAENA_OK)
        *device_nodes = c.n_device_nodes;
    (void)unlink(path);
    return status;
}

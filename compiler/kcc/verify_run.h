/* The two sides of `--verify`: the model as imported, evaluated; the compiled model on emulated
 * devices. Private to this folder. */
#ifndef KCC_VERIFY_RUN_H
#define KCC_VERIFY_RUN_H

#include "compile.h"

typedef struct kcc_values {
    kop_tensor *list;
    uint32_t n;
} kcc_values;

/* Evaluates the model of |c| for its set of shapes |variant| on seeded inputs, which it makes up,
 * and gives the outputs; or, with |names| [n], these values of the imported graph instead, without
 * data where there is none of that name. Everything lives in |arena|. */
kaena_status kcc_run_reference(const kcc_compilation *c, uint32_t variant, kaena_arena *arena,
                               const char *const *names, uint32_t n, kcc_values *in,
                               kcc_values *out, kaena_err *err) KAENA_CHECKED;

/* Runs the file |path| once on |in|, on devices of its own; outputs are copied into |arena|. */
kaena_status kcc_run_neff(kaena_arena *arena, const char *path, const kcc_values *in,
                          kcc_values *out, kaena_err *err) KAENA_CHECKED;

#endif

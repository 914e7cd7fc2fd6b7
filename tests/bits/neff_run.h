/* Runs the plan of a NEFF directly on emulated TPBs, in a way of the caller's choice: for
 * comparing the bits of different ways. */
#ifndef NEFF_RUN_H
#define NEFF_RUN_H

#include "ker.h"
#include "neff.h"
#include "ops.h"

typedef struct neff_way {
    ker_level level;
    bool stepped;     /* unfused, instruction by instruction, TPBs taking turns */
    uint32_t threads; /* that help with a run; 1 when stepped */
    uint8_t rubbish;  /* every byte of the memories before the run */
} neff_way;

/* |in| in the order of the NEFF's inputs; |out| gets type, shape and data, in |arena|.
 * OUT_OF_RANGE: an index was; others as host steps report them. */
kaena_status neff_run(kaena_arena *arena, const neff_file *file, const neff_way *way,
                      const kop_tensor *in, kop_tensor *out, kaena_err *err) KAENA_CHECKED;

#endif

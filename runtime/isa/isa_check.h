/* What the parts of verification share. */
#ifndef KISA_CHECK_H
#define KISA_CHECK_H

#include "isa.h"

/* Where verification stands in one program. */
typedef struct kisa_check {
    const kisa_limits *limits;
    uint32_t n_tpbs;
    uint32_t tpb, index; /* instruction in the program */
    const kisa_op_row *op;
    uint32_t turns[KISA_MAX_LOOPS], depth; /* enclosing loops, outermost first */
    const kisa_ldw *tile;                  /* the stationary tile in force, or NULL */
    kaena_err *err;
} kisa_check;

/* Fails: "tpb 2: instruction 17: MATMUL: <text>". */
kaena_status kisa_refuse(const kisa_check *c, const char *fmt, ...) KAENA_PRINTF(2, 3);

/* Every operand by itself: space, type, counts, alignment, extent, then the operands that are
 * written against the others (access.c). */
kaena_status kisa_check_access(const kisa_check *c, kisa_inst *inst) KAENA_CHECKED;

/* The rules of the instruction's format: what isa.def says about how its operands fit together
 * (rules.c). Every operand has passed. */
kaena_status kisa_check_rules(const kisa_check *c, const kisa_inst *inst) KAENA_CHECKED;
/* Names, separated by blanks, of the operands that may be the same memory as the destination,
 * element by element; "" for none. */
const char *kisa_in_place(kisa_format format);

/* Semaphores of all programs, run symbolically (semaphores.c). The programs have passed otherwise.
 */
kaena_status kisa_check_semaphores(const kisa_program *programs, uint32_t n_tpbs,
                                   kaena_err *err) KAENA_CHECKED;

#endif

/* Recurrent layers on a TPB: what recurrent.c prepares before layout and recurrent_steps.c emits.
 */
#ifndef KCC_RECURRENT_H
#define KCC_RECURRENT_H

#include "lower.h"

/* What one direction remembers between steps, and its work: [batch][hidden] each. */
typedef struct kcc_recurrent_dir {
    kcc_buffer *h;     /* the state as the product reads it */
    kcc_buffer *wide;  /* GRU: the state in float32; the same as |h| where the product is */
    kcc_buffer *c;     /* LSTM: the cell, float32 */
    kcc_buffer *gates; /* [batch][gates * hidden], float32 */
    kcc_buffer *reset; /* GRU: the state behind the reset gate, as the product reads it */
    kcc_buffer *mask;  /* [steps][batch], float32: 1 where a step counts; NULL: all do */
    kcc_buffer *lengths;
    const kgr_value *part[2]; /* rows of R: all gates but the last, the last; RNN: [0] alone */
} kcc_recurrent_dir;

typedef struct kcc_recurrent {
    const kgr_node *node;
    kop_recurrent p;
    bool linear_before_reset, input_forget;
    kaena_dtype type;         /* of the operands of the recurrent product */
    const kgr_value *product; /* of all steps' inputs, biases added: X's leading dimensions, then
                                 [directions * gates * hidden], float32 */
    kcc_recurrent_dir dir[2];
    struct kcc_recurrent *next;
} kcc_recurrent;

#endif

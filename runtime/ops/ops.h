/* The canonical operator set: names, attributes, shape inference and reference evaluation.
 *
 * Semantics are those of the newest ONNX operator set that an operator's row in ops.def names;
 * importers translate older forms (attributes that became inputs, renamed operators) into it, so
 * nothing here knows about versions.
 *
 * eval has three users: constant folding in the compiler, host steps in the runtime, expected
 * values in tests. It runs with the default MXCSR, accumulates float sums in double, and works for
 * every element type the specification gives the operator. */
#ifndef KAENA_OPS_H
#define KAENA_OPS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "act.h"
#include "arena.h"
#include "dtype.h"
#include "err.h"
#include "shape.h"

#define KOP_MAX_INPUTS 256 /* of one call: Concat, Sum, Max take many */
#define KOP_MAX_OUTPUTS 64 /* Split */
/* Of a node with bodies, operands and results, which never are one call's. */
#define KOP_MAX_BODY_OPERANDS 16384

typedef enum kop_op {
    KOP_NONE = 0,
#define KOP(name, min_in, max_in, min_out, max_out, infer, eval) KOP_##name,
#include "ops.def"
#undef KOP
    KOP_COUNT
} kop_op;

typedef enum kop_attr_type {
    KOP_ATTR_INT = 1,
    KOP_ATTR_FLOAT,
    KOP_ATTR_STRING,
    KOP_ATTR_INTS,
    KOP_ATTR_FLOATS,
    KOP_ATTR_TENSOR,
    KOP_ATTR_STRINGS,
} kop_attr_type;

/* What a value is. ONNX nests no deeper than this. */
typedef enum kop_form {
    KOP_FORM_TENSOR,
    KOP_FORM_SEQUENCE,          /* of tensors */
    KOP_FORM_OPTIONAL,          /* a tensor or nothing */
    KOP_FORM_OPTIONAL_SEQUENCE, /* a sequence of tensors or nothing */
    KOP_FORM_COUNT
} kop_form;

/* A value; of form KOP_FORM_TENSOR (the zero) a dense row-major tensor: |data| is NULL where only
 * type and shape are known (inference); KAENA_STRING tensors hold kaena_string elements. |data| is
 * aligned to its element; whoever holds the tensor says who owns it.
 *
 * Of any other form dtype, shape and unranked say what is common to all tensors inside, which may
 * be less than they are: unknown dimensions, no rank, an empty sequence's dtype NONE. |data| is
 * NULL in inference, else |count| kop_tensors: of a sequence its elements, of an optional one or
 * none, whose form is a tensor or (of an optional sequence) a sequence. Elements and what they
 * point at have the owner of |data|. Constants of a graph and attributes are always tensors. */
typedef struct kop_tensor {
    kaena_dtype dtype;
    kaena_shape shape; /* dimensions may be KAENA_DIM_UNKNOWN only where data is NULL */
    void *data;
    size_t count;  /* of |data|, where the form is not a tensor; else 0 */
    bool unranked; /* not even the rank is known; shape is meaningless */
    uint8_t form;  /* kop_form */
} kop_tensor;

typedef struct kop_attr {
    const char *name;
    kop_attr_type type;
    uint32_t n; /* elements of ints, floats, strings */
    union {
        int64_t i;
        float f;
        const char *s;
        const int64_t *ints;
        const float *floats;
        const char *const *strings;
        const kop_tensor *tensor;
    } u;
} kop_attr;

/* Where eval's outputs and temporaries live, and when it must stop. */
typedef struct kop_env {
    kaena_arena *arena;      /* its quota bounds the evaluation: RESOURCE_EXHAUSTED */
    const atomic_bool *stop; /* polled per node and per outer loop turn; may be NULL: CANCELLED */
} kop_env;

/* One application of an operator. Inputs that are absent (optional) are NULL. */
typedef struct kop_call {
    kop_op op;
    const char *name; /* of the node, for messages */
    const kop_attr *attr;
    uint32_t n_attr;
    uint32_t n_in, n_out;
    const kop_tensor *const *in;
    kop_tensor *out;
    kop_env *env; /* eval only; NULL in inference */
    kaena_err *err;
} kop_call;

/* Sets dtype and shape of every output from types, shapes and, where present, data of the inputs.
 * What cannot be known yet is KAENA_DIM_UNKNOWN or unranked. INVALID_ARGUMENT: the operator does
 * not accept these inputs or attributes. */
typedef kaena_status (*kop_infer_fn)(kop_call *call);

/* Computes the outputs. On entry dtype and shape of each output are inferred and its data is
 * allocated, except where the inferred shape has unknown dimensions: then eval allocates through
 * kop_output. */
typedef kaena_status (*kop_eval_fn)(kop_call *call);

typedef struct kop_row {
    const char *name; /* the ONNX name */
    uint16_t min_in, max_in, min_out, max_out;
    kop_infer_fn infer;
    kop_eval_fn eval;
    bool any_form; /* takes sequences and optionals too; the others get tensors only */
} kop_row;

/* The row of |op|, never NULL for a valid operator. */
const kop_row *kop_row_of(kop_op op);
/* The operator of that ONNX name, or KOP_NONE. */
kop_op kop_find(const char *name);

/* Checks the number of inputs and runs the row's inference. */
kaena_status kop_infer(kop_call *call) KAENA_CHECKED;
/* Infers, allocates, evaluates; then applies the epilogue (below) if the call carries one. The
 * float environment is the default one. */
kaena_status kop_eval(kop_call *call) KAENA_CHECKED;

/* Attribute look-ups; the default where it is absent or has another type. */
const kop_attr *kop_attr_find(const kop_call *call, const char *name);
int64_t kop_attr_int(const kop_call *call, const char *name, int64_t otherwise);
float kop_attr_float(const kop_call *call, const char *name, float otherwise);
const char *kop_attr_string(const kop_call *call, const char *name, const char *otherwise);
/* Number of ints, 0 where absent; |out| points into the attribute. */
uint32_t kop_attr_ints(const kop_call *call, const char *name, const int64_t **out);

/* Gives output |i| its type, shape and zeroed storage from the environment's arena. */
kaena_status kop_output(kop_call *call, uint32_t i, kaena_dtype dtype,
                        const kaena_shape *shape) KAENA_CHECKED;
/* Temporary storage; NULL when the quota is reached (the error is set). */
void *kop_alloc(kop_call *call, size_t n, size_t size);
/* CANCELLED when the environment says stop. */
kaena_status kop_poll(kop_call *call) KAENA_CHECKED;

/* Elements of a tensor whose shape is known; 0 of other forms. */
size_t kop_elements(const kop_tensor *t);
/* The tensors (or the sequence) inside a value of another form; NULL in inference. */
static inline const kop_tensor *kop_items(const kop_tensor *t)
{
    return t->form == KOP_FORM_TENSOR ? NULL : t->data;
}
/* The form of these. */
static inline uint8_t kop_item_form(uint8_t form)
{
    return form == KOP_FORM_OPTIONAL_SEQUENCE ? KOP_FORM_SEQUENCE : KOP_FORM_TENSOR;
}
/* "tensor", "sequence", "optional", "optional_sequence": as the text form of a graph has it. */
const char *kop_form_name(uint8_t form);
/* Copies |from| with all it points at; false, |to| untouched, when the arena's quota is reached. */
bool kop_copy(kaena_arena *arena, const kop_tensor *from, kop_tensor *to);
/* Bytes that kop_copy would take, roughly: each element's and each list's. */
size_t kop_bytes(const kop_tensor *t);
/* The most that can be said of both of two types, data aside; false when their forms or element
 * types differ (NONE, not known, is the same as any). */
bool kop_join_types(const kop_tensor *a, const kop_tensor *b, kop_tensor *out);
/* Element |i| of a numeric tensor as double or int64. */
double kop_get_float(const kop_tensor *t, size_t i);
int64_t kop_get_int(const kop_tensor *t, size_t i);
void kop_set_float(kop_tensor *t, size_t i, double v);
void kop_set_int(kop_tensor *t, size_t i, int64_t v);

/* Normalises a possibly negative axis; false when it is out of [-rank, rank). */
bool kop_axis(int64_t axis, int32_t rank, int32_t *out);

/* --- Epilogue: what the compiler fuses behind Conv, Gemm, MatMul and elementwise nodes
 * -----------------------------------------------
 *
 * Attributes "kaena.act" (string, a name of base/act.def), "kaena.act_alpha", "kaena.act_beta"
 * (floats) and "kaena.residual" (int: 1 = added before the activation, 2 = after). With
 * kaena.residual the last input of the call is the residual, of a shape that broadcasts to the
 * output's; the row's own infer and eval never see it. kop_eval applies: y = act(x [+ r]) [+ r].
 *
 * MatMul takes a bias, one number per column, as a third input, and a float attribute
 * "kaena.scale": x = scale * product + bias. No framework has these: importers
 * refuse a third input. */

/* --- Quantised products: what the compiler fuses behind them ---
 *
 * Attributes "kaena.low" and "kaena.high" (ints) of QLinearConv and QLinearMatMul: the result is
 * not below or above, in the numbers of its own type. QLinearMatMul's input 8 is an int32 bias, one
 * per column, as QLinearConv has it. */

/* The function in double precision; NaN in, NaN out. */
double kop_act_eval(kaena_act act, double x, float alpha, float beta);

/* --- Window geometry shared by inference, evaluation and lowering
 * ------------------------------------------------------------------------ */

#define KOP_MAX_SPATIAL 3

/* A convolution's or pooling's geometry in canonical form: defaults filled in, auto_pad resolved.
 */
typedef struct kop_window {
    int32_t spatial; /* 1..3 */
    int64_t kernel[KOP_MAX_SPATIAL], stride[KOP_MAX_SPATIAL], dilation[KOP_MAX_SPATIAL];
    int64_t pad_begin[KOP_MAX_SPATIAL], pad_end[KOP_MAX_SPATIAL];
    int64_t in[KOP_MAX_SPATIAL], out[KOP_MAX_SPATIAL];
    int64_t group;
} kop_window;

/* Fills |out| for Conv, MaxPool, AveragePool or LpPool from its input shapes (all dimensions known)
 * and attributes. */
kaena_status kop_window_of(const kop_call *call, kop_window *out) KAENA_CHECKED;
/* The same for ConvTranspose: |in| is the data, |out| the result, padding what is cut off it. */
kaena_status kop_transposed_window_of(const kop_call *call, kop_window *out) KAENA_CHECKED;

/* --- Recurrent layers ---
 */

typedef struct kop_recurrent_fn {
    uint32_t row;  /* of the operator's own table */
    kaena_act act; /* KAENA_ACT_COUNT: a function that base/act.def has not */
    float alpha, beta;
} kop_recurrent_fn;

/* An RNN, GRU or LSTM in canonical form: defaults filled in. */
typedef struct kop_recurrent {
    int64_t gates;  /* rows of W in units of the hidden size */
    uint32_t n_fns; /* activations of one direction */
    int64_t dirs;   /* 1 or 2 */
    bool reverse_first, batch_first;
    int64_t seq, batch, input, hidden; /* or unknown */
    kop_recurrent_fn fn[2][3];
    double clip; /* infinite: none */
} kop_recurrent;

kaena_status kop_recurrent_of(const kop_call *call, kop_recurrent *out) KAENA_CHECKED;

#endif

/* From a partitioned, cast graph to instructions: the module that lowering and scheduling share,
 * and the lowering interface.
 *
 * A module is one device step of the plan. Its life, in the order of kcc.c's pipeline:
 *   kcc_layout  every value of the step gets a view: a strided picture of a buffer (channels-last
 * for convolutions, halos, concatenation in place) kcc_place   nodes go to TPBs: all of them, by
 * parts (shard), or one each (pipeline); epochs between barriers kcc_plan    buffers get addresses
 * (compiler/schedule) kcc_emit    instructions of every TPB, packed weights
 */
#ifndef KCC_LOWER_H
#define KCC_LOWER_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "err.h"
#include "graph.h"
#include "isa.h"
#include "options.h"
#include "paged.h"

typedef struct kcc_buffer kcc_buffer;

/* Neighbouring nodes that run item by item, in a loop around them all; of several TPBs each has its
 * own items and waits for no other in between. */
typedef struct kcc_section {
    uint32_t first, end; /* nodes [first, end) */
    int32_t axis;        /* of the items: 0, a batch's; 1, the matrices' of one, such as heads */
    int64_t items;       /* a multiple of the TPBs */
    /* Holds the buffers of one item, once per TPB; NULL: none. */
    kcc_buffer *frame;
    uint64_t frame_bytes; /* of one TPB */
    struct kcc_section *next;
} kcc_section;

/* Storage of one or more views. */
struct kcc_buffer {
    uint32_t id;
    uint64_t bytes;
    uint8_t space;              /* kisa_space; KISA_NONE until planned */
    uint16_t tensor;            /* KISA_IO: which */
    uint64_t offset;            /* in its space */
    int32_t first, last;        /* time steps of first write and last use; -1: never */
    int32_t tpb;                /* the only TPB that touches it, or -1 */
    bool halo_done;             /* the instructions that fill its halo have been emitted */
    const kcc_section *section; /* it lies in this one's frame, with room for one item; or NULL */
};

/* A value in memory: element at sum of index * stride from |offset|. |before| and |after| are the
 * halo: elements that lie around the valid range and hold zero. */
typedef struct kcc_view {
    kcc_buffer *buf; /* NULL: not in device memory */
    kaena_dtype dtype;
    kaena_shape shape;              /* the graph's */
    int64_t stride[KAENA_MAX_RANK]; /* bytes */
    int64_t offset;                 /* bytes into the buffer, of element 0 */
    int64_t before[KAENA_MAX_RANK], after[KAENA_MAX_RANK];
    uint8_t fill;     /* what a halo of bytes holds: the zero point */
    int64_t per_turn; /* bytes from one turn of a section's loop to the next */
} kcc_view;

/* Instructions of one TPB under construction. */
typedef struct kcc_code {
    kisa_inst *inst;
    uint32_t n, capacity;
    uint32_t depth;                      /* open loops */
    uint64_t weights_first, weights_end; /* the part of WEIGHTS it names */
} kcc_code;

/* The WEIGHTS section under construction: shared by all device steps of a model. */
typedef struct kcc_weights kcc_weights;

/* Memory that a node needs for itself while it runs. */
typedef struct kcc_workspace {
    const kgr_node *node;
    kcc_buffer *buf;
    struct kcc_workspace *next;
} kcc_workspace;

/* Where the instructions of a node stand, for reports and the DEBUG section. */
typedef struct kcc_layer {
    const kgr_node *node;
    uint32_t tpb, first, end; /* instructions [first, end) */
    uint32_t turns;           /* of the section's loop around them */
    double flops;
    uint64_t weight_bytes;
} kcc_layer;

typedef struct kcc_module {
    kaena_arena *arena;
    const kcc_options *opt;
    kgr_graph *graph;
    uint32_t n_tpbs;
    kgr_node **node; /* the step's, in topological order; layout inserts copies */
    uint32_t n_nodes, cap_nodes;
    kcc_paged view; /* of kcc_view, by value id */
    kcc_buffer **buffer;
    uint32_t n_buffers, cap_buffers;
    kgr_value **io; /* tensors of space IO: inputs of the step, then outputs */
    bool *io_written;
    uint32_t n_io;
    int32_t *stage; /* per node: its TPB in a pipeline, -1: all TPBs by parts */
    uint32_t *time; /* per node: its step of time; a barrier stands between times when sharded */
    kcc_section *sections; /* in order */
    kcc_code *code;        /* per TPB */
    kcc_weights *weights;
    kaena_arena *weights_arena;       /* packed data; lives until the NEFF is written */
    struct kcc_packed_entry **packed; /* pack.c's table */
    kcc_workspace *workspace;
    struct kcc_recurrent *recurrent; /* recurrent.c's list */
    struct kcc_integer *integer;     /* quantised.c's list */
    kcc_layer *layer;
    uint32_t n_layers, cap_layers;
    uint64_t sb_bytes, scratch_bytes; /* after kcc_plan */
    uint64_t lower_bound_bytes;       /* of live buffers at the worst moment */
} kcc_module;

/* --- The table of lowerings
 * -----------------------------------------------------------------------------------------------------------------
 */

/* The node can run on a TPB; if not, |*reason| says why, for the report. Shapes and types are
 * inferred, constants folded. */
bool kcc_lowerable(const kgr_node *n, const char **reason);

/* What lowering wants of a node's operands. */
typedef enum kcc_order {
    KCC_ORDER_ANY,   /* as it comes */
    KCC_ORDER_CL,    /* channels-last */
    KCC_ORDER_ROW,   /* row-major */
    KCC_ORDER_AXIS,  /* attribute "axis" innermost */
    KCC_ORDER_DENSE, /* row-major without gaps */
    KCC_ORDER_PERM,  /* of a value whose reader transposes it: row-major for that reader */
} kcc_order;

typedef enum kcc_kind {
    KCC_COMPUTE, /* reads its inputs, writes its output */
    KCC_MOVE,   /* output is the input's data in another arrangement: a view where strides allow it,
                   else a copy */
    KCC_CONCAT, /* inputs are written into the output's buffer where possible */
} kcc_kind;

/* Of which dimensions an emitter takes the extent from the views: bit |axis| of a section that it
 * may be part of. */
typedef enum kcc_items {
    KCC_WHOLE = 0,
    KCC_BY_ITEM = 1 << 0,
    KCC_BY_MATRIX = 1 << 1,
    KCC_BY_EITHER = KCC_BY_ITEM | KCC_BY_MATRIX,
} kcc_items;

/* Writes part |part| of |parts| of node |n| into the program of |tpb|. */
typedef kaena_status kcc_emit_fn(kcc_module *m, const kgr_node *n, uint32_t tpb, uint32_t part,
                                 uint32_t parts, kaena_err *err);

typedef struct kcc_row {
    kop_op op;
    kcc_kind kind;
    kcc_order in, out;
    /* NULL: any float type and known shapes will do. */
    bool (*lowerable)(const kgr_node *n, const char **reason);
    kcc_emit_fn *emit;
    kcc_items items;
} kcc_row;

const kcc_row *kcc_row_of(kop_op op); /* NULL: host only */

/* The axis that a node works along and needs contiguous in its first input, or -1. */
int32_t kcc_inner_axis(const kgr_node *n);

/* --- Passes over the module
 * ---------------------------------------------------------------------------------------------------------------------
 */

/* Makes the module of one device step: |nodes| in topological order, |inputs| and |outputs| are
 * what crosses its boundary. */
kcc_module *kcc_module_create(kaena_arena *arena, const kcc_options *opt, kgr_graph *g,
                              kgr_node *const *nodes, uint32_t n_nodes, kgr_value *const *inputs,
                              uint32_t n_inputs, kgr_value *const *outputs, uint32_t n_outputs,
                              kcc_weights *weights);

/* Requires: types cast. Establishes: m->view for every value of the step; copies where a consumer
 * cannot read what its producer writes. */
kaena_status kcc_layout(kcc_module *m, kaena_err *err) KAENA_CHECKED;
/* Requires: planned buffers. Establishes: m->code, m->layer; WEIGHTS pieces. */
kaena_status kcc_emit(kcc_module *m, kaena_err *err) KAENA_CHECKED;

/* --- For lowerings (emit_*.c, lower_*.c)
 * --------------------------------------------------------------------------------------------------------
 */

kcc_buffer *kcc_buffer_add(kcc_module *m, uint64_t bytes);
/* A buffer that lives while node |n| runs; before kcc_place. */
kcc_buffer *kcc_workspace_add(kcc_module *m, const kgr_node *n, uint64_t bytes);
/* A rearrangement among the matrices of |s|: of views alone, without instructions, and perhaps of
 * other dimensions than theirs. */
static inline bool kcc_is_silent(const kcc_section *s, const kgr_node *n)
{
    return s->axis == 1 && kcc_row_of(n->op)->kind == KCC_MOVE;
}

/* The view of value |v|, or an absent one (buf NULL). */
const kcc_view *kcc_view_of(const kcc_module *m, const kgr_value *v);
void kcc_view_set(kcc_module *m, const kgr_value *v, const kcc_view *view);

/* The fused epilogue of a node (ops.h). */
typedef struct kcc_epilogue {
    kaena_act act;
    float alpha, beta;
    float scale;               /* of the product, before its bias */
    const kgr_value *residual; /* NULL: none */
    bool residual_after;
    uint32_t n_in; /* inputs of the node without the residual */
} kcc_epilogue;
kcc_epilogue kcc_epilogue_of(const kgr_node *n);

/* An operand of an unary elementwise operator: the ACT function that computes |n|, with its
 * parameters. False: none. */
bool kcc_act_of(const kgr_node *n, kaena_act *act, float *alpha, float *beta);

/* Output |k| of a KCC_MOVE node as a view of its input's buffer; false where strides cannot express
 * it (some Reshapes). The view has no halo. */
bool kcc_move_view(const kgr_node *n, uint32_t k, const kcc_view *in, kcc_view *out);
/* |in| seen with another shape of the same number of elements; false when its strides do not allow
 * it. */
bool kcc_reshape_view(const kcc_view *in, const kaena_shape *shape, kcc_view *out);

/* On a Cast that layout puts in: its result lies in panels, as LDW reads them. */
#define KCC_PANELS "kaena.panels"

/* Appends an instruction to the program of |tpb|, zeroed but for the opcode. Valid until the next
 * append. */
kisa_inst *kcc_inst(kcc_module *m, uint32_t tpb, kisa_op op);
void kcc_loop(kcc_module *m, uint32_t tpb, uint32_t count);
void kcc_end(kcc_module *m, uint32_t tpb);

/* An operand at the start of a view's element 0, with counts 1; the caller fills counts, strides
 * and advances. Notes the part of WEIGHTS it may touch as the buffer's whole. */
kisa_operand kcc_operand(kcc_module *m, uint32_t tpb, const kcc_view *v);

/* [lo, hi): part |part| of |parts| of |extent|, cut at multiples of |unit|. May be empty. */
void kcc_part(int64_t extent, int64_t unit, uint32_t part, uint32_t parts, int64_t *lo,
              int64_t *hi);

/* A constant's data as a view in WEIGHTS, row-major, converted to |dtype|; the same constant is
 * stored once. */
kaena_status kcc_const_view(kcc_module *m, const kgr_value *v, kaena_dtype dtype, kcc_view *out,
                            kaena_err *err) KAENA_CHECKED;
/* |bytes| of |data| (arena's or mapped, borrowed, final) as a buffer in WEIGHTS, aligned to 64. */
kcc_buffer *kcc_weights_add(kcc_module *m, const void *data, uint64_t bytes);

typedef struct kcc_piece {
    uint64_t offset, size;
    const void *data;
} kcc_piece;
kcc_weights *kcc_weights_create(kaena_arena *arena);
const kcc_piece *kcc_weights_pieces(const kcc_weights *w, uint32_t *n, uint64_t *bytes);

/* The value's view, from device memory or as a constant. */
kaena_status kcc_input_view(kcc_module *m, const kgr_value *v, kcc_view *out,
                            kaena_err *err) KAENA_CHECKED;

/* A loop nest over up to KAENA_MAX_RANK dimensions that several operands walk together: dimensions
 * of 1 go, neighbours that every operand walks evenly merge, the innermost is the one with the
 * least stride of operand 0 (the destination); what does not fit in four dimensions becomes LOOPs.
 */
#define KCC_NEST_OPERANDS 5
typedef struct kcc_nest {
    uint32_t n; /* operands */
    const kcc_view *view[KCC_NEST_OPERANDS];
    int64_t stride[KCC_NEST_OPERANDS][KAENA_MAX_RANK];
    int32_t rank;
    int64_t dim[KAENA_MAX_RANK];
    int64_t start[KCC_NEST_OPERANDS]; /* bytes added to the view's offset */
} kcc_nest;

/* A nest over |shape|; operand i is views[i] broadcast to it (numpy's rule). */
void kcc_nest_init(kcc_nest *nest, const kaena_shape *shape, const kcc_view *const *views,
                   uint32_t n);
/* Sorts and merges; |columns|: keep the innermost dimension of the shape (index |column_axis|)
 * apart as the last. Pass -1 to let it choose. */
void kcc_nest_normalise(kcc_nest *nest, int32_t column_axis);
/* Rows of a few columns become a few rows of many, whose elements do not follow each other: for
 * elementwise instructions, which take a row about as fast as an element. After normalising. */
void kcc_nest_lengthen(kcc_nest *nest);
/* Restricts the nest to a part; the longest outer dimension is cut. Returns false when the part is
 * empty. */
bool kcc_nest_part(kcc_nest *nest, uint32_t part, uint32_t parts);
/* Opens the loops that are needed and fills |operand[i]| (n of them); returns the number of loops
 * to close with kcc_end. */
uint32_t kcc_nest_open(kcc_module *m, uint32_t tpb, const kcc_nest *nest, kisa_operand *operand);

/* Fills the halo of the view's buffer (once per buffer), part 0 only. */
void kcc_fill_halo(kcc_module *m, uint32_t tpb, const kcc_view *v);

/* dst = cast(src), both of one shape, any strides. */
void kcc_emit_copy(kcc_module *m, uint32_t tpb, uint32_t part, uint32_t parts, const kcc_view *src,
                   const kcc_view *dst);

/* Emitters, one per family; the table in lower.c names them. */
kcc_emit_fn kcc_emit_conv, kcc_emit_matmul, kcc_emit_unary, kcc_emit_binary, kcc_emit_variadic,
    kcc_emit_batch_norm, kcc_emit_cast, kcc_emit_pool, kcc_emit_global_pool, kcc_emit_softmax,
    kcc_emit_lrn, kcc_emit_resize, kcc_emit_reduce, kcc_emit_move, kcc_emit_concat, kcc_emit_blocks,
    kcc_emit_pad, kcc_emit_panels, kcc_emit_norm, kcc_emit_gather, kcc_emit_recurrent,
    kcc_emit_integer_conv, kcc_emit_integer_matmul, kcc_emit_quantise, kcc_emit_dynamic_quantise;

/* Recurrent layers: whether the engines have all they need, and, at the start of layout, the
 * product of their inputs as a node of its own. */
bool kcc_recurrent_lowerable(const kgr_node *n, const char **reason);
kaena_status kcc_expand_recurrent(kcc_module *m, kaena_err *err) KAENA_CHECKED;

/* Quantised operators: products of bytes, QuantizeLinear and DequantizeLinear,
 * DynamicQuantizeLinear. */
bool kcc_integer_lowerable(const kgr_node *n, const char **reason);
bool kcc_scaling_lowerable(const kgr_node *n, const char **reason);
bool kcc_dynamic_scaling_lowerable(const kgr_node *n, const char **reason);
/* Their memory, at the start of layout. */
void kcc_expand_quantised(kcc_module *m);
/* What a convolution reads around its input, of bytes: the zero point. */
uint8_t kcc_halo_fill(const kgr_node *n);

/* A reduction of |src| into |dst|, both of src's rank (at most KISA_DIMS); dst has dimension 1
 * where |reduced|. */
void kcc_emit_reduction(kcc_module *m, uint32_t tpb, uint32_t part, uint32_t parts,
                        const kcc_view *src, const kcc_view *dst, const bool *reduced,
                        kisa_reduce_kind kind, float scale);

#endif

/* What several passes need. Private to this folder. */
#ifndef KCC_PASS_UTIL_H
#define KCC_PASS_UTIL_H

#include "passes.h"

/* Puts |v| in the place of |n|'s only result and removes |n|; false, with nothing done, where |n|
 * gives the model an output that |v| cannot be. */
bool kcc_bypass(kgr_graph *g, kgr_node *n, kgr_value *v);

/* The number that all elements of a constant of known type are; false where there is none. */
bool kcc_uniform(const kgr_value *v, double *out);
/* The same, equal to |want|. */
bool kcc_uniform_is(const kgr_value *v, double want);
/* Ints of an integer constant of at most |most| elements; the count, or -1. */
int32_t kcc_const_ints(const kgr_value *v, int64_t *out, int32_t most);

/* A node of one computed result, inferred, that stands before |before|. */
kaena_status kcc_insert(kgr_graph *g, kgr_node *before, kop_op op, const char *name,
                        kgr_value *const *in, uint32_t n_in, kgr_node **out,
                        kaena_err *err) KAENA_CHECKED;

/* A constant of the graph's type |dtype| made of doubles. */
kgr_value *kcc_const_floats(kgr_graph *g, const char *name, kaena_dtype dtype,
                            const kaena_shape *shape, const double *v);

static inline bool kcc_known(const kgr_value *v)
{
    return v && v->t.form == KOP_FORM_TENSOR && v->t.dtype && !v->t.unranked &&
           kaena_shape_known(&v->t.shape);
}

static inline bool kcc_same_shape(const kgr_value *a, const kgr_value *b)
{
    return kcc_known(a) && kcc_known(b) && kaena_shape_equal(&a->t.shape, &b->t.shape);
}

/* The node that computes |v| by |op| and may be merged with others, or NULL. */
static inline kgr_node *kcc_made_by(const kgr_value *v, kop_op op)
{
    kgr_node *p = v ? v->producer : NULL;
    return p && p->op == op && p->device != KGR_HOST ? p : NULL;
}

#endif

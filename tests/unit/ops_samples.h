/* The rows of ops_samples.def, and how to make a call of one. */
#ifndef OPS_SAMPLES_H
#define OPS_SAMPLES_H

#include "ops_fixture.h"
#include "ops_impl.h"

#define BYTES (KOP_T(KAENA_I8) | KOP_T(KAENA_U8))
#define HALF_FLOAT (KOP_T(KAENA_F32) | KOP_T(KAENA_F16) | KOP_T(KAENA_BF16))
#define WIDE_INT (KOP_T_INDEX | KOP_T(KAENA_U32) | KOP_T(KAENA_U64))

typedef struct ops_sample {
    kop_op op;
    uint32_t types; /* a set of KOP_T */
    uint32_t n_out;
    const char *attrs, *in;
} ops_sample;

static const ops_sample ops_samples[] = {
#define OPS_SAMPLE(OP, TYPES, OUTPUTS, ATTRS, IN) {KOP_##OP, TYPES, OUTPUTS, ATTRS, IN},
#include "ops_samples.def"
#undef OPS_SAMPLE
};

#define OPS_N_SAMPLES (sizeof ops_samples / sizeof *ops_samples)

/* |text| with every "T[" naming |type|. */
static inline void ops_with_type(const char *text, kaena_dtype type, char *out, size_t size)
{
    size_t n = 0;
    for (const char *s = text; *s; s++) {
        if (s[0] == 'T' && s[1] == '[')
            n += (size_t)snprintf(out + n, size - n, "%s", kaena_dtype_name(type));
        else
            out[n++] = *s;
        cr_assert(n + 32 < size);
    }
    out[n] = '\0';
}

/* Fills |c| with the call of |s| in type |type|, outputs counted, the environment set. The caller
 * ends c->arena. */
static inline void ops_sample_call(ops_call *c, const ops_sample *s, kaena_dtype type)
{
    char attrs[512], in[512];
    ops_with_type(s->attrs, type, attrs, sizeof attrs);
    ops_with_type(s->in, type, in, sizeof in);
    ops_prepare(c, s->op, attrs, in);
    c->call.n_out = s->n_out;
    c->call.env = &c->env;
}

#endif

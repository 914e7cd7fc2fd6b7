/* The frameworks whose models kcc takes. */
#ifndef KCC_FRAMEWORK_H
#define KCC_FRAMEWORK_H

#include "census.h"
#include "err.h"
#include "ops.h"
#include "strbuf.h"

typedef struct kcc_compilation kcc_compilation;

typedef struct kcc_framework {
    const char *name; /* as --framework says it */
    /* Reads c->model, with what c->io says, into c->graph and c->info. */
    kaena_status (*import)(kcc_compilation *c, kaena_err *err);
    /* Counts the operators of c->model, whether or not it can be imported. */
    kaena_status (*census)(const kcc_compilation *c, kcc_census *out, kaena_err *err);
    /* Operator |i| in its own words and where it goes: the canonical operator whose place is its
     * place, KOP_NONE if nothing is left of it in a compiled model. False behind the last. */
    bool (*operator_at)(uint32_t i, const char **name, kop_op *canonical);
} kcc_framework;

/* Row |i|, NULL behind the last. */
const kcc_framework *kcc_framework_at(uint32_t i);
/* NULL where there is none of that name. */
const kcc_framework *kcc_framework_find(const char *name);
/* "MXNET, ONNX or TENSORFLOW", for messages. */
void kcc_framework_names(kaena_strbuf *out);

#endif

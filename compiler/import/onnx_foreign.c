/* Applies the table of other domains' operators. */
#include <string.h>

#include "onnx_import.h"
#include "onnx_internal.h"

typedef struct row {
    const char *domain, *op;
    const char *full; /* domain.op */
    kop_op name;
    kaena_status (*function)(onnx_xlat *x); /* NULL: the same */
} row;

static const row rows[] = {
#define ONNX_SAME(DOMAIN, OP, NAME) {DOMAIN, #OP, DOMAIN "." #OP, KOP_##NAME, NULL},
#define ONNX_FORM(DOMAIN, OP, NAME, FUNCTION)                                                      \
    {DOMAIN, #OP, DOMAIN "." #OP, KOP_##NAME, onnx_foreign_##FUNCTION},
#include "onnx_foreign.def"
#undef ONNX_SAME
#undef ONNX_FORM
};

static const row *find(const char *domain, const char *op)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].op, op) == 0 && strcmp(rows[i].domain, domain) == 0)
            return &rows[i];
    }
    return NULL;
}

bool onnx_foreign_knows(const char *domain, const char *op)
{
    return find(domain, op) != NULL;
}

kaena_status onnx_foreign(onnx_xlat *x, const char *domain)
{
    const row *r = find(domain, x->op);
    if (!r)
        return KAENA_FAIL(x->imp->err, UNIMPLEMENTED, "operator %s of domain '%s' is not supported",
                          x->op, domain);
    x->op = kop_row_of(r->name)->name;
    if (r->function)
        KAENA_TRY(r->function(x));
    return x->done ? KAENA_OK : onnx_xlat_finish(x, r->name);
}

bool kcc_onnx_foreign_operator(uint32_t i, const char **name, kop_op *canonical)
{
    if (i >= sizeof rows / sizeof rows[0])
        return false;
    *name = rows[i].full;
    *canonical = rows[i].name;
    return true;
}

/* Checks of META by itself: names, types, shapes, indices, sizes. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "ops.h"
#include "neff_file.h"

/* Length of the UTF-8 sequence at |s|, 0 when it is none (overlong forms and surrogates too). */
static size_t utf8_length(const unsigned char *s)
{
    static const struct {
        unsigned char least, most, second_least, second_most, length;
    } forms[] = {
        {0x20, 0x7e, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (s[0] < forms[i].least || s[0] > forms[i].most)
            continue;
        size_t n = forms[i].length;
        if (n > 1 && (s[1] < forms[i].second_least || s[1] > forms[i].second_most))
            return 0;
        for (size_t k = 2; k < n; k++)
            if (s[k] < 0x80 || s[k] > 0xbf)
                return 0;
        return n;
    }
    return 0;
}

/* Printable UTF-8 of at most NEFF_MAX_NAME bytes. */
static bool is_text(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    while (*p) {
        size_t n = utf8_length(p);
        if (n == 0 || (size_t)(p - (const unsigned char *)s) + n > NEFF_MAX_NAME)
            return false;
        p += n;
    }
    return true;
}

static kaena_status check_text(const char *what, const char *s, bool may_be_empty, kaena_err *err)
{
    if (!is_text(s))
        return KAENA_FAIL(err, DATA_LOSS, "META: %s is not printable text of at most %d bytes",
                          what, NEFF_MAX_NAME);
    if (!*s && !may_be_empty)
        return KAENA_FAIL(err, DATA_LOSS, "META: %s is empty", what);
    return KAENA_OK;
}

static kaena_status check_value(const Kaena__V1__NeffValue *v, uint32_t i, neff_tensor *out,
                                kaena_err *err)
{
    const Kaena__V1__TensorSpec *s = v->spec;
    if (!s)
        return KAENA_FAIL(err, DATA_LOSS, "META: value %u has no type", i);
    KAENA_TRY_WRAP(err, check_text("a value's name", s->name, false, err), "value %u", i);
    kaena_dtype dtype = (kaena_dtype)s->dtype;
    size_t size = kaena_dtype_size(dtype);
    if (size == 0)
        return KAENA_FAIL(err, DATA_LOSS, "META: value '%s': unknown element type %d", s->name,
                          (int)s->dtype);
    if (s->n_shape > KAENA_MAX_RANK)
        return KAENA_FAIL(err, DATA_LOSS, "META: value '%s': rank %zu, more than %d", s->name,
                          s->n_shape, KAENA_MAX_RANK);
    if ((uint32_t)s->kind >= KOP_FORM_COUNT)
        return KAENA_FAIL(err, DATA_LOSS, "META: value '%s': unknown kind %d", s->name,
                          (int)s->kind);
    neff_tensor t = {.name = s->name,
                     .dtype = dtype,
                     .dynamic = v->dynamic != 0,
                     .any_rank = s->any_rank != 0,
                     .form = (uint8_t)s->kind};
    /* A scalar's shape is never unknown: minor 0 wrote every dynamic value without one. */
    t.any_rank = t.any_rank || (t.dynamic && s->n_shape == 0 && t.form == KOP_FORM_TENSOR);
    if ((t.any_rank || t.form != KOP_FORM_TENSOR) && !t.dynamic)
        return KAENA_FAIL(err, DATA_LOSS, "META: value '%s' has no shape, but is not dynamic",
                          s->name);
    if (t.any_rank && s->n_shape)
        return KAENA_FAIL(err, DATA_LOSS, "META: value '%s': any rank, and one of %zu", s->name,
                          s->n_shape);
    t.shape.rank = (int32_t)s->n_shape;
    for (size_t d = 0; d < s->n_shape; d++) {
        t.shape.dim[d] = s->shape[d];
        if (s->shape[d] < 0 && !(v->dynamic && s->shape[d] == KAENA_DIM_UNKNOWN))
            return KAENA_FAIL(err, DATA_LOSS, "META: value '%s': dimension %zu is %" PRId64,
                              s->name, d, s->shape[d]);
    }
    int64_t elements;
    uint64_t bytes = 0;
    if (!v->dynamic &&
        (!kaena_shape_elements(&t.shape, &elements) ||
         !kaena_mul_u64((uint64_t)elements, size, &bytes) || bytes > NEFF_MAX_VALUE_BYTES))
        return KAENA_FAIL(err, DATA_LOSS, "META: value '%s' is too large", s->name);
    t.bytes = v->dynamic || dtype == KAENA_STRING ? 0 : bytes;
    *out = t;
    return KAENA_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static kaena_status check_values(neff_file *f, kaena_err *err)
{
    const Kaena__V1__NeffMeta *m = f->meta;
    if (m->n_values > NEFF_MAX_VALUES)
        return KAENA_FAIL(err, DATA_LOSS, "META: %zu values, more than %d", m->n_values,
                          NEFF_MAX_VALUES);
    f->value = KAENA_NEW_N(&f->arena, neff_tensor, m->n_values);
    if (!f->value)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for values");
    for (uint32_t i = 0; i < m->n_values; i++)
        KAENA_TRY(check_value(m->values[i], i, &f->value[i], err));
    return KAENA_OK;
}

static kaena_status check_unique(const char **names, size_t n, kaena_err *err)
{
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            return KAENA_FAIL(err, DATA_LOSS, "META: two values are named '%s'", names[i]);
    return KAENA_OK;
}

/* Names are unique, but for an output that hands an input on under the same name: outputs are
 * apart. Requires checked lists. */
static kaena_status check_names(neff_file *f, kaena_err *err)
{
    const Kaena__V1__NeffMeta *m = f->meta;
    const char **names = KAENA_NEW_N(&f->arena, const char *, m->n_values);
    bool *is_output = KAENA_NEW_N(&f->arena, bool, m->n_values);
    if (!names || !is_output)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for names");
    for (size_t i = 0; i < m->n_outputs; i++)
        is_output[m->outputs[i]] = true;
    size_t n = 0;
    for (size_t i = 0; i < m->n_values; i++)
        if (!is_output[i])
            names[n++] = f->value[i].name;
    KAENA_TRY(check_unique(names, n, err));
    n = 0;
    for (size_t i = 0; i < m->n_values; i++)
        if (is_output[i])
            names[n++] = f->value[i].name;
    return check_unique(names, n, err);
}

/* Inputs or outputs: indices of values, each once. */
static kaena_status check_list(const neff_file *f, const char *what, const uint32_t *list, size_t n,
                               kaena_err *err)
{
    uint8_t *seen = calloc(f->meta->n_values + 1, 1);
    if (!seen)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    kaena_status status = KAENA_OK;
    for (size_t i = 0; i < n && status == KAENA_OK; i++) {
        if (list[i] >= f->meta->n_values)
            status = KAENA_FAIL(err, DATA_LOSS, "META: %s %zu: no value %u", what, i, list[i]);
        else if (seen[list[i]]++)
            status = KAENA_FAIL(err, DATA_LOSS, "META: %s '%s' is listed twice", what,
                                f->value[list[i]].name);
    }
    free(seen);
    return status;
}

static bool is_io(const neff_file *f, const uint32_t *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(f->value[list[i]].name, name) == 0)
            return true;
    return false;
}

static kaena_status check_signatures(const neff_file *f, kaena_err *err)
{
    const Kaena__V1__NeffMeta *m = f->meta;
    for (size_t i = 0; i < m->n_signatures; i++) {
        const Kaena__V1__NeffSignature *s = m->signatures[i];
        KAENA_TRY(check_text("a signature's name", s->name, false, err));
        for (size_t k = 0; k < s->n_inputs; k++)
            if (!is_io(f, m->inputs, m->n_inputs, s->inputs[k]))
                return KAENA_FAIL(err, DATA_LOSS,
                                  "META: signature '%s' names an input that is none", s->name);
        for (size_t k = 0; k < s->n_outputs; k++)
            if (!is_io(f, m->outputs, m->n_outputs, s->outputs[k]))
                return KAENA_FAIL(err, DATA_LOSS,
                                  "META: signature '%s' names an output that is none", s->name);
    }
    return KAENA_OK;
}

static bool is_amount(double v)
{
    return isfinite(v) && v >= 0;
}

/* What is only shown: texts and amounts. */
static kaena_status check_report(const neff_file *f, kaena_err *err)
{
    const Kaena__V1__NeffMeta *m = f->meta;
    const char *texts[] = {m->model_name, m->compiler, m->framework,
                           m->cast_mode,  m->optimize, m->advice};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        KAENA_TRY(check_text("a description", texts[i], true, err));
    for (size_t i = 0; i < m->n_layers; i++) {
        const Kaena__V1__NeffLayer *l = m->layers[i];
        KAENA_TRY(check_text("a layer's name", l->name, false, err));
        KAENA_TRY(check_text("a layer's operator", l->operator_name, true, err));
        KAENA_TRY(check_text("a layer's engine", l->engine, true, err));
        bool amounts = is_amount(l->flops) && is_amount(l->estimated_us);
        for (size_t k = 0; k < l->n_engine_us; k++)
            amounts = amounts && is_amount(l->engine_us[k]);
        if (!amounts)
            return KAENA_FAIL(err, DATA_LOSS, "META: layer '%s': impossible amounts", l->name);
    }
    for (size_t i = 0; i < m->n_estimates; i++) {
        const Kaena__V1__NeffEstimate *e = m->estimates[i];
        KAENA_TRY(check_text("a bottleneck", e->bottleneck, true, err));
        if (!is_amount(e->latency_us) || !is_amount(e->throughput_per_s) ||
            !is_amount(e->tpb_utilisation) || !is_amount(e->items_per_s) ||
            !is_amount(e->dram_utilisation))
            return KAENA_FAIL(err, DATA_LOSS, "META: estimate %zu: impossible amounts", i);
    }
    for (size_t i = 0; i < m->n_choices; i++) {
        const Kaena__V1__NeffChoice *c = m->choices[i];
        KAENA_TRY(check_text("a bottleneck", c->bottleneck, true, err));
        if (!is_amount(c->throughput_per_s) || !is_amount(c->dram_bytes))
            return KAENA_FAIL(err, DATA_LOSS, "META: choice %zu: impossible amounts", i);
    }
    for (size_t i = 0; i < m->n_host_operators; i++)
        KAENA_TRY(check_text("a host operator", m->host_operators[i], true, err));
    return KAENA_OK;
}

static kaena_status check_sizes(const neff_file *f, kaena_err *err)
{
    const Kaena__V1__NeffMeta *m = f->meta;
    if (m->num_tpbs != f->header.n_tpbs)
        return KAENA_FAIL(err, DATA_LOSS, "META: %u TPBs, the header says %u", m->num_tpbs,
                          f->header.n_tpbs);
    if (m->contexts < 1 || m->contexts > NEFF_MAX_CONTEXTS)
        return KAENA_FAIL(err, DATA_LOSS, "META: %u contexts, not 1 to %d", m->contexts,
                          NEFF_MAX_CONTEXTS);
    if (m->sb_bytes > KISA_SB_BYTES)
        return KAENA_FAIL(err, DATA_LOSS, "META: %" PRIu64 " bytes of SB, a TPB has %u",
                          m->sb_bytes, KISA_SB_BYTES);
    if (m->scratch_bytes > NEFF_MAX_VALUE_BYTES)
        return KAENA_FAIL(err, DATA_LOSS, "META: %" PRIu64 " bytes of SCRATCH", m->scratch_bytes);
    if (m->n_weight_ranges != 0 && m->n_weight_ranges != m->num_tpbs)
        return KAENA_FAIL(err, DATA_LOSS, "META: %zu weight ranges for %u TPBs", m->n_weight_ranges,
                          m->num_tpbs);
    for (size_t i = 0; i < m->n_weight_ranges; i++)
        if (!kaena_range_inside(m->weight_ranges[i]->offset, m->weight_ranges[i]->size,
                                f->weights_bytes))
            return KAENA_FAIL(err, DATA_LOSS, "META: weight range of TPB %zu is not inside WEIGHTS",
                              i);
    return KAENA_OK;
}

static kaena_status check_batch_list(const neff_file *f, const char *what, const uint32_t *at,
                                     size_t n, const uint32_t *list, size_t n_list, kaena_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (at[i] >= n_list)
            return KAENA_FAIL(err, DATA_LOSS, "META: dynamic batch: no %s %u", what, at[i]);
        if (i > 0 && at[i] <= at[i - 1])
            return KAENA_FAIL(err, DATA_LOSS, "META: dynamic batch: %ss are not in order", what);
        const neff_tensor *t = &f->value[list[at[i]]];
        if (t->form != KOP_FORM_TENSOR || t->any_rank || t->shape.rank < 1)
            return KAENA_FAIL(err, DATA_LOSS, "META: dynamic batch: '%s' has no axis 0", t->name);
    }
    return KAENA_OK;
}

static kaena_status check_batch(const neff_file *f, kaena_err *err)
{
    const Kaena__V1__NeffMeta *m = f->meta;
    const Kaena__V1__NeffDynamicBatch *b = m->dynamic_batch;
    if (!b)
        return KAENA_OK;
    if (b->n_inputs == 0)
        return KAENA_FAIL(err, DATA_LOSS, "META: dynamic batch: of no input");
    KAENA_TRY(check_batch_list(f, "input", b->inputs, b->n_inputs, m->inputs, m->n_inputs, err));
    return check_batch_list(f, "output", b->outputs, b->n_outputs, m->outputs, m->n_outputs, err);
}

static uint64_t features_of_steps(const Kaena__V1__NeffPlan *plan)
{
    uint64_t features = 0;
    for (size_t i = 0; i < plan->n_steps; i++)
        switch (plan->steps[i]->kind_case) {
        case KAENA__V1__NEFF_STEP__KIND_BRANCH:
        case KAENA__V1__NEFF_STEP__KIND_LOOP:
            features |= NEFF_FEATURE_CONTROL;
            break;
        case KAENA__V1__NEFF_STEP__KIND_SELECT:
            features |= NEFF_FEATURE_SELECT;
            break;
        case KAENA__V1__NEFF_STEP__KIND_DEVICE:
        case KAENA__V1__NEFF_STEP__KIND_HOST:
        case KAENA__V1__NEFF_STEP__KIND__NOT_SET:
        case _KAENA__V1__NEFF_STEP__KIND__CASE_IS_INT_SIZE:
            break;
        }
    return features;
}

uint64_t neff_features_of(const Kaena__V1__NeffMeta *m)
{
    uint64_t features = m->dynamic_batch ? NEFF_FEATURE_BATCH : 0;
    for (size_t i = 0; i < m->n_bodies; i++)
        features |= features_of_steps(m->bodies[i]);
    if (m->plan)
        features |= features_of_steps(m->plan);
    for (size_t i = 0; i < m->n_values; i++)
        if (m->values[i]->spec && m->values[i]->spec->kind)
            features |= NEFF_FEATURE_VALUES;
    for (size_t i = 0; i < m->n_inputs; i++)
        if (m->inputs[i] < m->n_values && m->values[m->inputs[i]]->dynamic)
            features |= NEFF_FEATURE_VALUES;
    return features;
}

kaena_status neff_check_meta(neff_file *f, kaena_err *err)
{
    const Kaena__V1__NeffMeta *m = f->meta;
    KAENA_TRY(check_sizes(f, err));
    KAENA_TRY(check_values(f, err));
    KAENA_TRY(check_list(f, "input", m->inputs, m->n_inputs, err));
    KAENA_TRY(check_list(f, "output", m->outputs, m->n_outputs, err));
    KAENA_TRY(check_names(f, err));
    KAENA_TRY(check_batch(f, err));
    if (neff_features_of(m) & ~f->header.features)
        return KAENA_FAIL(err, DATA_LOSS,
                          "META: needs features 0x%" PRIx64 ", the header says 0x%" PRIx64,
                          neff_features_of(m), f->header.features);
    KAENA_TRY(check_signatures(f, err));
    return check_report(f, err);
}

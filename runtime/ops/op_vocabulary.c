/* Look-ups in lists that are attributes: LabelEncoder, TfIdfVectorizer. Elements of any type are
 * first turned into 64-bit keys: of strings, their places in the list. */
#include "ops_impl.h"

#include <math.h>

/* --- Hash tables: they hold numbers of things, the caller compares --- */

typedef struct table {
    uint32_t *slot; /* 1 + the number, 0: empty */
    size_t mask;
} table;

static kaena_status table_init(kop_call *call, table *t, size_t n)
{
    size_t size = 16;
    while (size < 2 * n)
        size *= 2;
    *t = (table){kop_alloc(call, size, sizeof *t->slot), size - 1};
    return t->slot ? KAENA_OK : KAENA_RESOURCE_EXHAUSTED;
}

static uint64_t hash_bytes(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h ^ (h >> 29);
}

#define HASH_SEED UINT64_C(0xcbf29ce484222325)

/* Whether thing |number| of the list |ctx| is |key|. */
typedef bool (*equal_fn)(const void *ctx, uint32_t number, const void *key);

/* The number of |key|; where it is not there it gets |fresh|, unless that is UINT32_MAX. */
static uint32_t look_up(table *t, uint64_t hash, equal_fn equal, const void *ctx, const void *key,
                        uint32_t fresh)
{
    for (size_t i = hash & t->mask;; i = (i + 1) & t->mask) {
        if (t->slot[i] && equal(ctx, t->slot[i] - 1, key))
            return t->slot[i] - 1;
        if (t->slot[i])
            continue;
        if (fresh != UINT32_MAX)
            t->slot[i] = fresh + 1;
        return fresh;
    }
}

/* --- Lists of keys --- */

/* A list of strings or numbers, in which a key is looked up. */
typedef struct key_list {
    const char *const *strings; /* or */
    const int64_t *ints;
    uint32_t n;
    table table;
} key_list;

static bool string_equal(const void *ctx, uint32_t number, const void *key)
{
    const kaena_string *s = key;
    const char *text = ((const key_list *)ctx)->strings[number];
    return strlen(text) == s->size && (s->size == 0 || memcmp(text, s->data, s->size) == 0);
}

static bool int_equal(const void *ctx, uint32_t number, const void *key)
{
    return ((const key_list *)ctx)->ints[number] == *(const int64_t *)key;
}

static uint32_t string_number(key_list *list, kaena_string s, uint32_t fresh)
{
    return look_up(&list->table, hash_bytes(HASH_SEED, s.data, s.size), string_equal, list, &s,
                   fresh);
}

static uint32_t int_number(key_list *list, int64_t v, uint32_t fresh)
{
    return look_up(&list->table, hash_bytes(HASH_SEED, &v, sizeof v), int_equal, list, &v, fresh);
}

static kaena_status key_list_init(kop_call *call, key_list *list)
{
    KAENA_TRY(table_init(call, &list->table, list->n));
    for (uint32_t i = 0; i < list->n; i++) {
        if (list->strings)
            (void)string_number(list, (kaena_string){list->strings[i], strlen(list->strings[i])},
                                i);
        else
            (void)int_number(list, list->ints[i], i);
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- LabelEncoder ---------------------------------------------------------------------------- */

#define LABEL_TYPES (KOP_T(KAENA_STRING) | KOP_T(KAENA_I64) | KOP_T(KAENA_F32))

/* The attribute keys_* or values_*, and the type its elements have. */
static const kop_attr *labels_of(const kop_call *call, const char *which, kaena_dtype *type)
{
    static const struct {
        const char *suffix;
        kop_attr_type attr;
        kaena_dtype dtype;
    } kinds[] = {{"strings", KOP_ATTR_STRINGS, KAENA_STRING},
                 {"int64s", KOP_ATTR_INTS, KAENA_I64},
                 {"floats", KOP_ATTR_FLOATS, KAENA_F32}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%s_%s", which, kinds[i].suffix);
        const kop_attr *a = kop_attr_find(call, name);
        if (a && a->type == kinds[i].attr) {
            *type = kinds[i].dtype;
            return a;
        }
    }
    return NULL;
}

kaena_status kop_infer_label_encoder(kop_call *call)
{
    kaena_dtype from, to;
    const kop_attr *keys = labels_of(call, "keys", &from);
    const kop_attr *values = labels_of(call, "values", &to);
    KAENA_TRY(kop_need(call, 0, LABEL_TYPES));
    if (!keys || !values || keys->n != values->n)
        return KOP_BAD(call, "the attributes keys_* and values_* are required, with one length");
    if (kop_in_type(call, 0) && kop_in_type(call, 0) != from)
        return KOP_BAD(call, "the keys are %s and the input is %s", kaena_dtype_name(from),
                       kaena_dtype_name(kop_in_type(call, 0)));
    call->out[0] = *call->in[0];
    call->out[0].data = NULL;
    call->out[0].dtype = to;
    return KAENA_OK;
}

/* A float as a key: numbers that are equal have one key, and all NaNs. */
static int64_t float_key(float v)
{
    return isnan(v) ? INT64_MAX : v == 0 ? 0 : (int64_t)kaena_f32_bits(v);
}

static void put_label(const kop_call *call, size_t i, const kop_attr *values, uint32_t number)
{
    void *out = call->out[0].data;
    bool found = number != UINT32_MAX;
    if (values->type == KOP_ATTR_STRINGS) {
        const char *s =
            found ? values->u.strings[number] : kop_attr_string(call, "default_string", "_Unused");
        ((kaena_string *)out)[i] = (kaena_string){s, strlen(s)};
    } else if (values->type == KOP_ATTR_INTS) {
        ((int64_t *)out)[i] =
            found ? values->u.ints[number] : kop_attr_int(call, "default_int64", -1);
    } else {
        ((float *)out)[i] =
            found ? values->u.floats[number] : kop_attr_float(call, "default_float", -0.0f);
    }
}

kaena_status kop_eval_label_encoder(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kaena_dtype from, to;
    const kop_attr *keys = labels_of(call, "keys", &from);
    const kop_attr *values = labels_of(call, "values", &to);
    key_list list = {.n = keys->n};
    if (from == KAENA_STRING) {
        list.strings = keys->u.strings;
    } else if (from == KAENA_I64) {
        list.ints = keys->u.ints;
    } else {
        int64_t *copy = kop_alloc(call, keys->n, sizeof *copy);
        if (!copy)
            return KAENA_RESOURCE_EXHAUSTED;
        for (uint32_t i = 0; i < keys->n; i++)
            copy[i] = float_key(keys->u.floats[i]);
        list.ints = copy;
    }
    KAENA_TRY(key_list_init(call, &list));
    for (size_t i = 0; i < kop_elements(x); i++) {
        uint32_t number;
        if (from == KAENA_STRING)
            number = string_number(&list, ((const kaena_string *)x->data)[i], UINT32_MAX);
        else if (from == KAENA_I64)
            number = int_number(&list, ((const int64_t *)x->data)[i], UINT32_MAX);
        else
            number = int_number(&list, float_key(((const float *)x->data)[i]), UINT32_MAX);
        put_label(call, i, values, number);
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- TfIdfVectorizer: counts n-grams of a list --- */

typedef struct ngrams {
    const int64_t *pool; /* keys */
    uint32_t n_pool;
    const int64_t *counts; /* [n_counts] where in |pool| the n-grams of length i + 1 begin */
    uint32_t n_counts;
    const int64_t *index; /* [n] where in the output an n-gram is counted */
    uint32_t n;
    const float *weights; /* [n], or NULL */
    int64_t min, max, skip, width;
    bool counted, weighted;
} ngrams;

static kaena_status ngrams_of(const kop_call *call, ngrams *out)
{
    const kop_attr *strings = kop_attr_find(call, "pool_strings");
    const kop_attr *weights = kop_attr_find(call, "weights");
    ngrams g = {.min = kop_attr_int(call, "min_gram_length", 1),
                .max = kop_attr_int(call, "max_gram_length", 1),
                .skip = kop_attr_int(call, "max_skip_count", 0)};
    g.n_pool = strings && strings->type == KOP_ATTR_STRINGS
                   ? strings->n
                   : kop_attr_ints(call, "pool_int64s", &g.pool);
    g.n_counts = kop_attr_ints(call, "ngram_counts", &g.counts);
    g.n = kop_attr_ints(call, "ngram_indexes", &g.index);
    if (weights && weights->type == KOP_ATTR_FLOATS)
        g.weights = weights->u.floats;
    const char *mode = kop_attr_string(call, "mode", "");
    g.counted = strcmp(mode, "TF") == 0 || strcmp(mode, "TFIDF") == 0;
    g.weighted = strcmp(mode, "IDF") == 0 || strcmp(mode, "TFIDF") == 0;
    if (!g.counted && !g.weighted)
        return KOP_BAD(call, "mode must be TF, IDF or TFIDF");
    if (g.min < 1 || g.max < g.min || g.skip < 0)
        return KOP_BAD(call, "there are no n-grams of such lengths and skips");
    if (g.weights && weights->n != g.n)
        return KOP_BAD(call, "there must be one weight for each n-gram");
    uint64_t total = 0;
    for (uint32_t i = 0; i < g.n_counts; i++) {
        int64_t from = g.counts[i], to = i + 1 < g.n_counts ? g.counts[i + 1] : g.n_pool;
        if (from < 0 || to < from || to > g.n_pool || (to - from) % (i + 1))
            return KOP_BAD(call, "ngram_counts does not divide the pool into n-grams");
        total += (uint64_t)(to - from) / (i + 1);
    }
    if (total != g.n)
        return KOP_BAD(call, "there must be one of ngram_indexes for each n-gram");
    for (uint32_t i = 0; i < g.n; i++) {
        if (g.index[i] < 0 || g.index[i] >= KOP_SIZE_LIMIT)
            return KOP_BAD(call, "the n-gram index %" PRId64 " is not possible", g.index[i]);
        g.width = g.index[i] >= g.width ? g.index[i] + 1 : g.width;
    }
    *out = g;
    return KAENA_OK;
}

kaena_status kop_infer_tf_idf(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    const kop_attr *strings = kop_attr_find(call, "pool_strings");
    ngrams g;
    KAENA_TRY(kop_need(call, 0, KOP_T(KAENA_STRING) | KOP_T_INDEX));
    KAENA_TRY(ngrams_of(call, &g));
    if (kop_in_type(call, 0) && (kop_in_type(call, 0) == KAENA_STRING) != (strings != NULL))
        return KOP_BAD(call, "the pool and the input must be both of strings or both of integers");
    if (x->unranked) {
        kop_out_unranked(call, 0, KAENA_F32);
        return KAENA_OK;
    }
    if (x->shape.rank < 1 || x->shape.rank > 2)
        return KOP_BAD(call, "the input must be [C] or [N,C]");
    kaena_shape shape = x->shape;
    shape.dim[shape.rank - 1] = g.width;
    kop_out(call, 0, KAENA_F32, &shape);
    return KAENA_OK;
}

/* An n-gram whose elements are |step| apart. */
typedef struct gram {
    const int64_t *at;
    int64_t n, step;
} gram;

/* The n-grams of the pool: where each begins, and how long it is. */
typedef struct gram_list {
    gram *list;
    table table;
} gram_list;

static bool gram_equal(const void *ctx, uint32_t number, const void *key)
{
    const gram *a = &((const gram_list *)ctx)->list[number], *b = key;
    bool equal = a->n == b->n;
    for (int64_t i = 0; i < a->n && equal; i++)
        equal = a->at[i * a->step] == b->at[i * b->step];
    return equal;
}

static uint32_t gram_number(gram_list *g, const gram *key, uint32_t fresh)
{
    uint64_t hash = HASH_SEED;
    for (int64_t i = 0; i < key->n; i++)
        hash = hash_bytes(hash, &key->at[i * key->step], sizeof *key->at);
    return look_up(&g->table, hash, gram_equal, g, key, fresh);
}

/* Keys of the input, and of the pool. */
static kaena_status read_keys(kop_call *call, ngrams *g, int64_t *keys)
{
    const kop_tensor *x = call->in[0];
    size_t n = kop_elements(x);
    const kop_attr *strings = kop_attr_find(call, "pool_strings");
    if (!strings) {
        if (n)
            kop_load_i64(x, 0, n, keys);
        return KAENA_OK;
    }
    key_list list = {.strings = strings->u.strings, .n = strings->n};
    int64_t *pool = kop_alloc(call, strings->n, sizeof *pool);
    if (!pool)
        return KAENA_RESOURCE_EXHAUSTED;
    KAENA_TRY(key_list_init(call, &list));
    for (uint32_t i = 0; i < list.n; i++)
        pool[i] = string_number(&list, (kaena_string){list.strings[i], strlen(list.strings[i])},
                                UINT32_MAX);
    for (size_t i = 0; i < n; i++) {
        uint32_t number = string_number(&list, ((const kaena_string *)x->data)[i], UINT32_MAX);
        keys[i] = number == UINT32_MAX ? -1 : (int64_t)number;
    }
    g->pool = pool;
    return KAENA_OK;
}

static kaena_status count_row(kop_call *call, const ngrams *g, gram_list *known,
                              const int64_t *keys, int64_t n, double *count)
{
    for (int64_t length = g->min; length <= g->max && length <= (int64_t)g->n_counts; length++) {
        /* Elements of one n-gram stand up to |skip| others apart; of one element there is nothing
         * apart. */
        for (int64_t step = 1; step - 1 <= (length > 1 ? g->skip : 0); step++) {
            int64_t last = (length - 1) * step;
            if (last >= n)
                break;
            for (int64_t i = 0; i + last < n; i++) {
                gram key = {keys + i, length, step};
                uint32_t number = gram_number(known, &key, UINT32_MAX);
                if (number != UINT32_MAX)
                    count[number]++;
            }
            KAENA_TRY(kop_poll(call));
        }
    }
    return KAENA_OK;
}

kaena_status kop_eval_tf_idf(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    float *out = call->out[0].data;
    ngrams g;
    gram_list known;
    KAENA_TRY(ngrams_of(call, &g));
    size_t elements = kop_elements(x);
    int64_t n = x->shape.dim[x->shape.rank - 1], rows = x->shape.rank == 2 ? x->shape.dim[0] : 1;
    int64_t *keys = kop_alloc(call, elements, sizeof *keys);
    double *count = keys ? kop_alloc(call, g.n, sizeof *count) : NULL;
    known.list = count ? kop_alloc(call, g.n, sizeof *known.list) : NULL;
    if (!known.list)
        return KAENA_RESOURCE_EXHAUSTED;
    KAENA_TRY(table_init(call, &known.table, g.n));
    KAENA_TRY(read_keys(call, &g, keys));
    for (uint32_t i = 0, number = 0; i < g.n_counts; i++) {
        int64_t to = i + 1 < g.n_counts ? g.counts[i + 1] : g.n_pool;
        for (int64_t at = g.counts[i]; at < to; at += i + 1, number++) {
            known.list[number] = (gram){g.pool + at, i + 1, 1};
            (void)gram_number(&known, &known.list[number], number);
        }
        KAENA_TRY(kop_poll(call));
    }
    for (int64_t row = 0; row < rows; row++) {
        memset(count, 0, g.n * sizeof *count);
        KAENA_TRY(count_row(call, &g, &known, keys + row * n, n, count));
        for (uint32_t i = 0; i < g.n; i++) {
            double v = g.counted ? count[i] : count[i] > 0;
            if (g.weighted && g.weights)
                v *= (double)g.weights[i];
            if (v != 0)
                out[row * g.width + g.index[i]] = (float)v;
        }
    }
    return KAENA_OK;
}

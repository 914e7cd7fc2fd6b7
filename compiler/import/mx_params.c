#include "mx_params.h"

#include <inttypes.h>
#include <string.h>

#define LIST_MAGIC 0x112u
#define MAGIC_1 0xF993FAC8u
#define MAGIC_2 0xF993FAC9u
#define MAGIC_3 0xF993FACAu
#define MAX_NAME 4096
/* The least an array and a name take: what bounds the list by the file's size. */
#define LEAST_ARRAY 4u

typedef struct reader {
    const uint8_t *at, *end;
    kaena_err *err;
} reader;

static kaena_status truncated(const reader *r)
{
    return KAENA_FAIL(r->err, INVALID_ARGUMENT, "the file ends too early");
}

static kaena_status take(reader *r, void *out, size_t n)
{
    if ((size_t)(r->end - r->at) < n)
        return truncated(r);
    memcpy(out, r->at, n);
    r->at += n;
    return KAENA_OK;
}

kaena_dtype mx_dtype_of(int64_t number)
{
    static const kaena_dtype types[] = {KAENA_F32, KAENA_F64, KAENA_F16,  KAENA_U8,  KAENA_I32,
                                        KAENA_I8,  KAENA_I64, KAENA_BOOL, KAENA_I16, KAENA_U16,
                                        KAENA_U32, KAENA_U64, KAENA_BF16};
    return number >= 0 && number < (int64_t)(sizeof types / sizeof *types) ? types[number]
                                                                           : KAENA_DTYPE_NONE;
}

static kaena_status take_shape(reader *r, int32_t rank, bool wide, kaena_shape *out)
{
    if (rank < 0 || rank > KAENA_MAX_RANK)
        return KAENA_FAIL(r->err, INVALID_ARGUMENT, "%d dimensions; at most %d are supported", rank,
                          KAENA_MAX_RANK);
    kaena_shape s = {.rank = rank};
    for (int32_t i = 0; i < rank; i++) {
        uint32_t narrow = 0;
        if (wide) {
            KAENA_TRY(take(r, &s.dim[i], sizeof s.dim[i]));
        } else {
            KAENA_TRY(take(r, &narrow, sizeof narrow));
            s.dim[i] = narrow;
        }
        if (s.dim[i] < 0)
            return KAENA_FAIL(r->err, INVALID_ARGUMENT, "a dimension of %" PRId64, s.dim[i]);
    }
    *out = s;
    return KAENA_OK;
}

static kaena_status take_storage(reader *r)
{
    int32_t storage = 0;
    KAENA_TRY(take(r, &storage, sizeof storage));
    if (storage == 0)
        return KAENA_OK;
    if (storage != 1 && storage != 2)
        return KAENA_FAIL(r->err, INVALID_ARGUMENT, "storage type %d does not exist", storage);
    (void)KAENA_FAIL(r->err, UNIMPLEMENTED, "it is sparse (%s), only dense arrays are supported",
                     storage == 1 ? "row_sparse" : "csr");
    kaena_err_hint(r->err, "save it as dense: array.tostype('default')");
    return KAENA_UNIMPLEMENTED;
}

static kaena_status take_elements(reader *r, mx_param *p)
{
    int32_t device[2] = {0}, type = 0;
    int64_t n = 0;
    KAENA_TRY(take(r, device, sizeof device));
    KAENA_TRY(take(r, &type, sizeof type));
    p->dtype = mx_dtype_of(type);
    if (p->dtype == KAENA_DTYPE_NONE)
        return KAENA_FAIL(r->err, UNIMPLEMENTED, "element type %d is not supported", type);
    if (!kaena_shape_elements(&p->shape, &n) ||
        (uint64_t)n > (size_t)(r->end - r->at) / kaena_dtype_size(p->dtype)) {
        char text[KAENA_SHAPE_TEXT];
        return KAENA_FAIL(
            r->err, INVALID_ARGUMENT, "%s %s are more elements than the file has bytes for",
            kaena_shape_print(&p->shape, text, sizeof text), kaena_dtype_name(p->dtype));
    }
    p->data = r->at;
    p->bytes = (size_t)n * kaena_dtype_size(p->dtype);
    r->at += p->bytes;
    return KAENA_OK;
}

static kaena_status take_array(reader *r, mx_param *p)
{
    uint32_t magic = 0;
    int32_t rank = 0;
    KAENA_TRY(take(r, &magic, sizeof magic));
    bool versioned = magic >= MAGIC_1 && magic <= MAGIC_3;
    if (!versioned && magic > KAENA_MAX_RANK)
        return KAENA_FAIL(r->err, INVALID_ARGUMENT,
                          "0x%08x is neither a number of dimensions nor a known format", magic);
    if (magic == MAGIC_2 || magic == MAGIC_3)
        KAENA_TRY(take_storage(r));
    if (versioned)
        KAENA_TRY(take(r, &rank, sizeof rank));
    else
        rank = (int32_t)magic;
    if (rank == 0 && magic != MAGIC_3)
        return KAENA_OK; /* no array */
    if (rank == -1 && magic == MAGIC_3)
        return KAENA_OK;
    KAENA_TRY(take_shape(r, rank, versioned, &p->shape));
    return take_elements(r, p);
}

static kaena_status take_name(kaena_arena *arena, reader *r, const char **out)
{
    uint64_t size = 0;
    KAENA_TRY(take(r, &size, sizeof size));
    if (size > (size_t)(r->end - r->at))
        return truncated(r);
    if (size > MAX_NAME || memchr(r->at, 0, (size_t)size))
        return KAENA_FAIL(r->err, INVALID_ARGUMENT, "it is too long or has a NUL byte inside");
    const char *name = kaena_arena_printf(arena, "%.*s", (int)size, (const char *)r->at);
    if (!name)
        return KAENA_FAIL(r->err, RESOURCE_EXHAUSTED, "no memory for the names");
    r->at += size;
    bool prefixed = strncmp(name, "arg:", 4) == 0 || strncmp(name, "aux:", 4) == 0;
    *out = prefixed ? name + 4 : name;
    return KAENA_OK;
}

static kaena_status take_names(kaena_arena *arena, reader *r, mx_params *p)
{
    uint64_t n = 0;
    KAENA_TRY(take(r, &n, sizeof n));
    if (n != 0 && n != p->n)
        return KAENA_FAIL(r->err, INVALID_ARGUMENT, "%" PRIu64 " names for %u arrays", n, p->n);
    p->named = n != 0;
    for (uint32_t i = 0; i < p->n; i++) {
        mx_param *e = &p->list[i];
        if (p->named)
            KAENA_TRY_WRAP(r->err, take_name(arena, r, &e->name), "name %u", i);
        else
            e->name = kaena_arena_printf(arena, "%u", i);
        switch (e->name ? kcc_name_add(&p->names, e->name, i) : KCC_NAME_NO_MEMORY) {
        case KCC_NAME_ADDED:
            break;
        case KCC_NAME_EXISTS:
            return KAENA_FAIL(r->err, INVALID_ARGUMENT, "parameter '%s' stands twice", e->name);
        case KCC_NAME_NO_MEMORY:
            return KAENA_FAIL(r->err, RESOURCE_EXHAUSTED, "no memory for the names");
        }
    }
    return KAENA_OK;
}

kaena_status mx_params_parse(kaena_arena *arena, const void *data, size_t size, mx_params *out,
                             kaena_err *err)
{
    uint64_t head[3] = {0};
    reader r = {data, (const uint8_t *)data + size, err};
    if (size < sizeof head)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%zu bytes are no MXNet parameters", size);
    KAENA_TRY(take(&r, head, sizeof head));
    if (head[0] != LIST_MAGIC)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "not MXNet parameters: the file does not begin with 0x112");
    if (head[2] > (size_t)(r.end - r.at) / LEAST_ARRAY || head[2] > INT32_MAX)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%" PRIu64 " arrays do not fit in %zu bytes",
                          head[2], size);
    mx_params p = {.n = (uint32_t)head[2], .names = {.arena = arena}};
    p.list = KAENA_NEW_N(arena, mx_param, p.n);
    if (!p.list)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for %u arrays", p.n);
    for (uint32_t i = 0; i < p.n; i++)
        KAENA_TRY_WRAP(err, take_array(&r, &p.list[i]), "array %u", i);
    KAENA_TRY(take_names(arena, &r, &p));
    if (r.at != r.end)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%zu bytes follow after the last name",
                          (size_t)(r.end - r.at));
    *out = p;
    return KAENA_OK;
}

const mx_param *mx_params_find(const mx_params *p, const char *name)
{
    uint32_t i;
    return kcc_name_find(&p->names, name, &i) ? &p->list[i] : NULL;
}

/* Values that are not tensors: copying, and what is common to two types. */
#include "ops_impl.h"

const char *kop_form_name(uint8_t form)
{
    static const char *const names[KOP_FORM_COUNT] = {
        [KOP_FORM_TENSOR] = "tensor",
        [KOP_FORM_SEQUENCE] = "sequence",
        [KOP_FORM_OPTIONAL] = "optional",
        [KOP_FORM_OPTIONAL_SEQUENCE] = "optional_sequence",
    };
    return form < KOP_FORM_COUNT ? names[form] : "none";
}

static bool copy_tensor(kaena_arena *arena, kop_tensor *t)
{
    size_t n = kop_elements(t);
    kaena_string *strings;
    t->data = kaena_arena_memdup(arena, t->data, n * kaena_dtype_size(t->dtype));
    strings = t->dtype == KAENA_STRING ? t->data : NULL;
    for (size_t i = 0; strings && i < n; i++)
        if (!(strings[i].data = kaena_arena_memdup(arena, strings[i].data, strings[i].size)))
            return false;
    return t->data != NULL;
}

/* Deep by the forms, so at most three levels. */
static bool copy_in_place(kaena_arena *arena, kop_tensor *t)
{
    if (t->form == KOP_FORM_TENSOR)
        return copy_tensor(arena, t);
    kop_tensor *items = KAENA_NEW_N(arena, kop_tensor, t->count);
    if (!items)
        return false;
    if (t->count)
        memcpy(items, t->data, t->count * sizeof *items);
    t->data = items;
    for (size_t i = 0; i < t->count; i++)
        if (!copy_in_place(arena, &items[i]))
            return false;
    return true;
}

bool kop_copy(kaena_arena *arena, const kop_tensor *from, kop_tensor *to)
{
    kop_tensor copy = *from;
    if (copy.data && !copy_in_place(arena, &copy))
        return false;
    *to = copy;
    return true;
}

size_t kop_bytes(const kop_tensor *t)
{
    size_t n = kop_elements(t), bytes = n * kaena_dtype_size(t->dtype) + 64;
    const kop_tensor *items = kop_items(t);
    if (t->form == KOP_FORM_TENSOR && t->dtype == KAENA_STRING && t->data)
        for (size_t i = 0; i < n; i++)
            bytes += ((const kaena_string *)t->data)[i].size + 64;
    for (size_t i = 0; items && i < t->count; i++)
        bytes += sizeof *items + kop_bytes(&items[i]);
    return bytes;
}

bool kop_join_types(const kop_tensor *a, const kop_tensor *b, kop_tensor *out)
{
    if (a->form != b->form || (a->dtype && b->dtype && a->dtype != b->dtype))
        return false;
    kop_tensor t = {.form = a->form, .dtype = a->dtype && b->dtype ? a->dtype : KAENA_DTYPE_NONE};
    t.unranked = a->unranked || b->unranked || a->shape.rank != b->shape.rank;
    if (!t.unranked) {
        t.shape = a->shape;
        for (int32_t i = 0; i < t.shape.rank; i++)
            if (a->shape.dim[i] != b->shape.dim[i])
                t.shape.dim[i] = KAENA_DIM_UNKNOWN;
    }
    *out = t;
    return true;
}

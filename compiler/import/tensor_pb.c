#include "tensor_pb.h"

#include <inttypes.h>
#include <string.h>

#include "checked.h"
#include "external_data.h"
#include "file.h"
#include "pb_unpack.h"

/* Element types that ONNX has and dtype.def has not. */
static const struct {
    int32_t number;
    const char *name;
} missing_types[] = {
    {14, "complex64"},      {15, "complex128"}, {17, "float8e4m3fn"},
    {18, "float8e4m3fnuz"}, {19, "float8e5m2"}, {20, "float8e5m2fnuz"},
    {21, "uint4"},          {22, "int4"},       {23, "float4e2m1"},
};

kaena_status kcc_dtype_of_pb(int32_t number, kaena_dtype *out, kaena_err *err)
{
    if (number > 0 && kaena_dtype_size((kaena_dtype)number) > 0) {
        *out = (kaena_dtype)number;
        return KAENA_OK;
    }
    for (size_t i = 0; i < sizeof missing_types / sizeof missing_types[0]; i++) {
        if (missing_types[i].number == number)
            return KAENA_FAIL(err, UNIMPLEMENTED, "element type %s is not supported",
                              missing_types[i].name);
    }
    return KAENA_FAIL(err, INVALID_ARGUMENT, "element type %d does not exist", number);
}

static kaena_status shape_of_dims(const Onnx__TensorProto *pb, kaena_shape *out, kaena_err *err)
{
    if (pb->n_dims > KAENA_MAX_RANK)
        return KAENA_FAIL(err, UNIMPLEMENTED, "%zu dimensions; at most %d are supported",
                          pb->n_dims, KAENA_MAX_RANK);
    kaena_shape s = {.rank = (int32_t)pb->n_dims};
    for (size_t i = 0; i < pb->n_dims; i++) {
        if (pb->dims[i] < 0)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "dimension %zu is %" PRId64, i, pb->dims[i]);
        s.dim[i] = pb->dims[i];
    }
    *out = s;
    return KAENA_OK;
}

/* The typed field that belongs to an element type. */
typedef struct typed_field {
    const char *name;
    const void *data;
    size_t n;
    size_t element; /* bytes of one element of the field */
} typed_field;

static typed_field typed_field_of(const Onnx__TensorProto *pb, kaena_dtype dtype)
{
    switch (dtype) {
    case KAENA_F32:
        return (typed_field){"float_data", pb->float_data, pb->n_float_data, 4};
    case KAENA_F64:
        return (typed_field){"double_data", pb->double_data, pb->n_double_data, 8};
    case KAENA_I64:
        return (typed_field){"int64_data", pb->int64_data, pb->n_int64_data, 8};
    case KAENA_U32:
    case KAENA_U64:
        return (typed_field){"uint64_data", pb->uint64_data, pb->n_uint64_data, 8};
    case KAENA_STRING:
        return (typed_field){"string_data", pb->string_data, pb->n_string_data,
                             sizeof(ProtobufCBinaryData)};
    case KAENA_I8:
    case KAENA_U8:
    case KAENA_I16:
    case KAENA_U16:
    case KAENA_I32:
    case KAENA_BOOL:
    case KAENA_F16:
    case KAENA_BF16:
    case KAENA_DTYPE_NONE:
        break;
    }
    return (typed_field){"int32_data", pb->int32_data, pb->n_int32_data, 4};
}

/* Elements from the typed field: borrowed where it has the tensor's representation, else narrowed.
 */
static kaena_status from_typed(kaena_arena *arena, const typed_field *f, kop_tensor *t, size_t n,
                               kaena_err *err)
{
    if (f->n != n)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%s has %zu elements, the shape asks for %zu",
                          f->name, f->n, n);
    size_t size = kaena_dtype_size(t->dtype);
    if (t->dtype != KAENA_STRING && size == f->element) {
        t->data = (void *)(uintptr_t)f->data;
        return KAENA_OK;
    }
    uint8_t *data = kaena_arena_array(arena, n, size);
    if (!data)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for %zu elements", n);
    t->data = data;
    if (t->dtype == KAENA_STRING) {
        const ProtobufCBinaryData *from = f->data;
        kaena_string *to = t->data;
        for (size_t i = 0; i < n; i++)
            to[i] = (kaena_string){(const char *)from[i].data, from[i].len};
        return KAENA_OK;
    }
    /* Little-endian: the low bytes are the narrow number, be it an integer or the bits of a 16-bit
     * float. */
    const uint8_t *from = f->data;
    for (size_t i = 0; i < n; i++)
        memcpy(data + i * size, from + i * f->element, size);
    return KAENA_OK;
}

static kaena_status from_raw(const ProtobufCBinaryData *raw, kop_tensor *t, size_t bytes,
                             kaena_err *err)
{
    if (t->dtype == KAENA_STRING)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "strings cannot be in raw_data");
    if (raw->len != bytes)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "raw_data has %zu bytes, shape and type ask for %zu", raw->len, bytes);
    t->data = raw->data;
    return KAENA_OK;
}

kaena_status kcc_tensor_of_pb(kaena_arena *arena, Onnx__TensorProto *pb, const char *dir,
                              kop_tensor *out, kaena_err *err)
{
    kop_tensor t = {0};
    KAENA_TRY(kcc_dtype_of_pb(pb->data_type, &t.dtype, err));
    KAENA_TRY(shape_of_dims(pb, &t.shape, err));
    if (pb->segment)
        return KAENA_FAIL(err, UNIMPLEMENTED, "tensors in segments are not supported");
    int64_t elements;
    uint64_t bytes;
    if (!kaena_shape_elements(&t.shape, &elements) ||
        !kaena_mul_u64((uint64_t)elements, kaena_dtype_size(t.dtype), &bytes) || bytes > INT64_MAX)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "the shape has too many elements");
    typed_field typed = typed_field_of(pb, t.dtype);
    if (pb->data_location == 1 || pb->n_external_data > 0)
        KAENA_TRY(kcc_external_read(arena, pb, dir, bytes, &t, err));
    else if (pb->has_raw_data && (pb->raw_data.len > 0 || typed.n == 0))
        KAENA_TRY(from_raw(&pb->raw_data, &t, bytes, err));
    else
        KAENA_TRY(from_typed(arena, &typed, &t, (size_t)elements, err));
    if (!t.data) {
        /* Data marks a constant, so an empty tensor has an address too. */
        t.data = kaena_arena_alloc(arena, 0);
        if (!t.data)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    }
    if (t.dtype == KAENA_BOOL) {
        uint8_t *b = t.data;
        for (size_t i = 0; i < bytes; i++)
            b[i] = b[i] != 0;
    }
    *out = t;
    return KAENA_OK;
}

static kaena_status from_sequence(kaena_arena *arena, const Onnx__SequenceProto *pb,
                                  kop_tensor *out, kaena_err *err)
{
    if (pb->elem_type > 1)
        return KAENA_FAIL(err, UNIMPLEMENTED, "sequences of what is no tensor are not supported");
    kop_tensor *items = KAENA_NEW_N(arena, kop_tensor, pb->n_tensor_values);
    if (!items)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    kop_tensor t = {.form = KOP_FORM_SEQUENCE, .unranked = true};
    for (size_t i = 0; i < pb->n_tensor_values; i++) {
        KAENA_TRY_WRAP(err, kcc_tensor_of_pb(arena, pb->tensor_values[i], NULL, &items[i], err),
                       "element %zu", i);
        kop_tensor common = items[i];
        if (i && !kop_join_types(&t, &items[i], &common))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "element %zu has another type", i);
        t = (kop_tensor){.dtype = common.dtype, .shape = common.shape, .unranked = common.unranked};
    }
    t.form = KOP_FORM_SEQUENCE;
    t.data = items;
    t.count = pb->n_tensor_values;
    *out = t;
    return KAENA_OK;
}

static kaena_status from_optional(kaena_arena *arena, const Onnx__OptionalProto *pb, uint8_t form,
                                  kop_tensor *out, kaena_err *err)
{
    kop_tensor *item = KAENA_NEW(arena, kop_tensor);
    if (!item)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    bool sequence = form == KOP_FORM_OPTIONAL_SEQUENCE;
    bool there = sequence ? pb->sequence_value != NULL : pb->tensor_value != NULL;
    item->unranked = true;
    if (there && sequence)
        KAENA_TRY(from_sequence(arena, pb->sequence_value, item, err));
    else if (there)
        KAENA_TRY(kcc_tensor_of_pb(arena, pb->tensor_value, NULL, item, err));
    *out = (kop_tensor){.form = form,
                        .dtype = item->dtype,
                        .shape = item->shape,
                        .unranked = item->unranked,
                        .data = item,
                        .count = there};
    return KAENA_OK;
}

static const ProtobufCMessageDescriptor *descriptor_of(uint8_t form)
{
    return form == KOP_FORM_TENSOR     ? &onnx__tensor_proto__descriptor
           : form == KOP_FORM_SEQUENCE ? &onnx__sequence_proto__descriptor
                                       : &onnx__optional_proto__descriptor;
}

static kaena_status value_of_pb(kaena_arena *arena, ProtobufCMessage *m, uint8_t form,
                                kop_tensor *out, const char **name, kaena_err *err)
{
    if (form == KOP_FORM_SEQUENCE) {
        *name = ((Onnx__SequenceProto *)m)->name;
        return from_sequence(arena, (const Onnx__SequenceProto *)m, out, err);
    }
    if (form != KOP_FORM_TENSOR) {
        *name = ((Onnx__OptionalProto *)m)->name;
        return from_optional(arena, (const Onnx__OptionalProto *)m, form, out, err);
    }
    *name = ((Onnx__TensorProto *)m)->name;
    return kcc_tensor_of_pb(arena, (Onnx__TensorProto *)m, /* dir= */ NULL, out, err);
}

kaena_status kcc_value_read(kaena_arena *arena, const char *path, uint8_t form, kop_tensor *out,
                            const char **name, kaena_err *err)
{
    kaena_file file;
    KAENA_TRY(kaena_file_open(path, &file, err));
    ProtobufCMessage *m;
    const char *own = NULL;
    kaena_status s = kcc_pb_unpack(arena, descriptor_of(form), file.data, file.size, &m, err);
    kaena_file_close(&file);
    if (s == KAENA_OK)
        s = value_of_pb(arena, m, form, out, &own, err);
    if (s == KAENA_OK && name)
        *name = own ? own : "";
    return s == KAENA_OK ? s : kaena_err_wrap(err, s, "%s '%s'", kop_form_name(form), path);
}

kaena_status kcc_tensor_read(kaena_arena *arena, const char *path, kop_tensor *out,
                             const char **name, kaena_err *err)
{
    return kcc_value_read(arena, path, KOP_FORM_TENSOR, out, name, err);
}

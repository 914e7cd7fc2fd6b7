/* --io-config as kaena.v1.IoConfig in protobuf's text form. */
#include <string.h>

#include "io_config.h"
#include "kaena/v1/neff.pb-c.h"
#include "name_table.h"
#include "pb_text.h"

static kaena_status convert_input(const Kaena__V1__TensorSpec *pb, kcc_io_input *out,
                                  kaena_err *err)
{
    kcc_io_input in = {.name = pb->name, .dtype = (kaena_dtype)pb->dtype};
    if (pb->dtype != KAENA__V1__DATA_TYPE__DATA_TYPE_UNSPECIFIED && kaena_dtype_size(in.dtype) == 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "an element type such as FLOAT32 expected, not %d",
                          (int)pb->dtype);
    if (pb->n_shape > KAENA_MAX_RANK)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "%zu dimensions; at most %d are supported",
                          pb->n_shape, KAENA_MAX_RANK);
    in.shape.rank = (int32_t)pb->n_shape;
    for (size_t i = 0; i < pb->n_shape; i++) {
        in.shape.dim[i] = pb->shape[i];
        if (pb->shape[i] < 0)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "a dimension is a whole number from 0 up");
    }
    *out = in;
    return KAENA_OK;
}

static kaena_status no_memory(kaena_err *err)
{
    return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
}

static kaena_status convert(kaena_arena *arena, const Kaena__V1__IoConfig *pb, kcc_io_config *out,
                            kaena_err *err)
{
    kcc_name_table inputs = {.arena = arena}, outputs = {.arena = arena};
    kcc_io_config c = {.inputs = KAENA_NEW_N(arena, kcc_io_input, pb->n_inputs),
                       .outputs = KAENA_NEW_N(arena, const char *, pb->n_outputs)};
    if (!c.inputs || !c.outputs)
        return no_memory(err);
    for (size_t i = 0; i < pb->n_inputs; i++) {
        const char *name = pb->inputs[i]->name;
        if (!*name)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "input number %zu has no name", i);
        KAENA_TRY_WRAP(err, convert_input(pb->inputs[i], &c.inputs[c.n_inputs++], err),
                       "input '%s'", name);
        kcc_name_result r = kcc_name_add(&inputs, name, 0);
        if (r == KCC_NAME_EXISTS)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "input '%s' is named twice", name);
        if (r == KCC_NAME_NO_MEMORY)
            return no_memory(err);
    }
    for (size_t i = 0; i < pb->n_outputs; i++) {
        c.outputs[c.n_outputs++] = pb->outputs[i];
        kcc_name_result r = kcc_name_add(&outputs, pb->outputs[i], 0);
        if (r == KCC_NAME_EXISTS)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "output '%s' is named twice", pb->outputs[i]);
        if (r == KCC_NAME_NO_MEMORY)
            return no_memory(err);
    }
    *out = c;
    return KAENA_OK;
}

kaena_status kcc_io_config_parse_pbtxt(kaena_arena *arena, const char *text, size_t size,
                                       kcc_io_config *out, kaena_err *err)
{
    ProtobufCMessage *m;
    KAENA_TRY_WRAP(err,
                   kcc_pb_text_parse(arena, &kaena__v1__io_config__descriptor, text, size,
                                     KCC_PB_REFUSE_UNKNOWN, &m, err),
                   "io-config");
    KAENA_TRY_WRAP(err, convert(arena, (const Kaena__V1__IoConfig *)m, out, err), "io-config");
    return KAENA_OK;
}

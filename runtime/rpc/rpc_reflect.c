/* grpc.reflection, v1 and v1alpha: the messages are the same. */
#include <grpc/byte_buffer.h>
#include <stdlib.h>
#include <string.h>

#include "grpc/reflection/v1/reflection.pb-c.h"
#include "rpc_internal.h"
#include "rpc_pb.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest request_message;
typedef Grpc__Reflection__V1__ServerReflectionResponse response_message;

static const krpc_descriptor_file *file_by_name(const krpc_descriptors *d, const char *name)
{
    for (size_t i = 0; i < d->n_files; i++)
        if (strcmp(d->files[i].name, name) == 0)
            return &d->files[i];
    return NULL;
}

static int compare_symbol(const void *name, const void *symbol)
{
    return strcmp(name, ((const krpc_descriptor_symbol *)symbol)->name);
}

static const krpc_descriptor_file *file_by_symbol(const krpc_descriptors *d, const char *name)
{
    const krpc_descriptor_symbol *s =
        bsearch(name, d->symbols, d->n_symbols, sizeof *d->symbols, compare_symbol);
    return s ? &d->files[s->file] : NULL;
}

/* The file and all it needs. */
static void answer_file(const krpc_descriptors *d, const krpc_descriptor_file *file,
                        response_message *r, kaena_arena *arena)
{
    size_t n = 0;
    while (file->imports[n] != UINT16_MAX)
        n++;
    Grpc__Reflection__V1__FileDescriptorResponse *f =
        KAENA_NEW(arena, Grpc__Reflection__V1__FileDescriptorResponse);
    grpc__reflection__v1__file_descriptor_response__init(f);
    f->file_descriptor_proto = KAENA_NEW_N(arena, ProtobufCBinaryData, n);
    f->n_file_descriptor_proto = n;
    for (size_t i = 0; i < n; i++) {
        const krpc_descriptor_file *part = &d->files[file->imports[i]];
        f->file_descriptor_proto[i] =
            (ProtobufCBinaryData){.len = part->size, .data = (uint8_t *)(uintptr_t)part->data};
    }
    r->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    r->file_descriptor_response = f;
}

static void answer_services(const krpc_descriptors *d, response_message *r, kaena_arena *arena)
{
    Grpc__Reflection__V1__ListServiceResponse *l =
        KAENA_NEW(arena, Grpc__Reflection__V1__ListServiceResponse);
    grpc__reflection__v1__list_service_response__init(l);
    l->service = KAENA_NEW_N(arena, Grpc__Reflection__V1__ServiceResponse *, d->n_symbols);
    for (size_t i = 0; i < d->n_symbols; i++) {
        if (!d->symbols[i].is_service)
            continue;
        Grpc__Reflection__V1__ServiceResponse *s =
            KAENA_NEW(arena, Grpc__Reflection__V1__ServiceResponse);
        grpc__reflection__v1__service_response__init(s);
        s->name = (char *)(uintptr_t)d->symbols[i].name;
        l->service[l->n_service++] = s;
    }
    r->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    r->list_services_response = l;
}

static void answer_error(kaena_status code, const char *text, response_message *r,
                         kaena_arena *arena)
{
    Grpc__Reflection__V1__ErrorResponse *e = KAENA_NEW(arena, Grpc__Reflection__V1__ErrorResponse);
    grpc__reflection__v1__error_response__init(e);
    e->error_code = (int32_t)code;
    e->error_message = (char *)(uintptr_t)text;
    r->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    r->error_response = e;
}

static void answer_request(const krpc_descriptors *d, request_message *q, response_message *r,
                           kaena_arena *arena)
{
    const krpc_descriptor_file *file = NULL;
    switch (q->message_request_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        answer_services(d, r, arena);
        return;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        file = file_by_name(d, q->file_by_filename);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        file = file_by_symbol(d, q->file_containing_symbol);
        break;
    /* proto3 messages have no extensions */
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST__NOT_SET:
    case _GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST__CASE_IS_INT_SIZE:
        answer_error(KAENA_INVALID_ARGUMENT, "the request asks nothing", r, arena);
        return;
    }
    if (file)
        answer_file(d, file, r, arena);
    else
        answer_error(KAENA_NOT_FOUND, "not known to this server", r, arena);
}

static void on_message(krpc_call *call, grpc_byte_buffer *message, void *arg);

static void on_sent(krpc_call *call, bool ok, void *arg)
{
    if (ok)
        krpc_call_read(call, on_message, arg);
    else
        krpc_finish(call);
}

static void on_message(krpc_call *call, grpc_byte_buffer *message, void *arg)
{
    const krpc_descriptors *d = krpc_call_server(call)->options.descriptors;
    if (!message) {
        krpc_finish(call);
        return;
    }
    kaena_arena in, out;
    kaena_arena_init(&in, KRPC_PB_QUOTA);
    kaena_arena_init(&out, 0);
    ProtobufCMessage *m;
    kaena_err err;
    kaena_status st = krpc_pb_parse(
        message, &grpc__reflection__v1__server_reflection_request__descriptor, &in, &m, &err);
    grpc_byte_buffer_destroy(message);
    if (st == KAENA_OK) {
        response_message r = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
        request_message *q = (request_message *)m;
        r.valid_host = q->host;
        r.original_request = q;
        answer_request(d, q, &r, &out);
        krpc_call_send(call, krpc_pb_pack(&r.base), on_sent, arg);
    } else {
        krpc_fail(call, &err);
    }
    kaena_arena_fini(&in);
    kaena_arena_fini(&out);
}

static void info(krpc_call *call, void *user)
{
    krpc_call_read(call, on_message, user);
}

const krpc_method krpc_reflect_methods[2] = {
    {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", KRPC_BIDI, info},
    {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", KRPC_BIDI, info},
};

/* Reads protobuf's text form by a message's descriptor.
 *
 * https://protobuf.dev/reference/protobuf/textformat-spec: comments, both brackets of messages,
 * lists, strings in pieces with all escapes, numbers in all bases, names of enum values. */
#ifndef KCC_PB_TEXT_H
#define KCC_PB_TEXT_H

#include <protobuf-c/protobuf-c.h>

#include "arena.h"
#include "err.h"

typedef enum kcc_pb_unknown {
    KCC_PB_REFUSE_UNKNOWN, /* a field that the descriptor lacks is an error that names it */
    KCC_PB_SKIP_UNKNOWN,   /* it is skipped: our schemas leave out what we do not need */
} kcc_pb_unknown;

/* |*message| begins with what |descriptor| describes; everything lives in |arena|, which takes at
 * most kcc_pb_budget's multiple of |size|. A field that is not repeated takes its last value.
 *
 * INVALID_ARGUMENT    malformed; the message has line and column
 * RESOURCE_EXHAUSTED  expands beyond the bound, or the arena is full */
kaena_status kcc_pb_text_parse(kaena_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                               const char *text, size_t size, kcc_pb_unknown unknown,
                               ProtobufCMessage **message, kaena_err *err) KAENA_CHECKED;

#endif

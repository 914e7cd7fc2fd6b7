/* --io-config: what the user says about a model's inputs and outputs. */
#ifndef KCC_IO_CONFIG_H
#define KCC_IO_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "dtype.h"
#include "err.h"
#include "shape.h"

typedef struct kcc_io_input {
    const char *name;
    kaena_shape shape; /* every dimension known */
    kaena_dtype dtype; /* NONE: the model's */
} kcc_io_input;

/* All zero: nothing is said. */
typedef struct kcc_io_config {
    kcc_io_input *inputs; /* names are unique */
    uint32_t n_inputs;
    const char **outputs; /* empty: the model's own; names are unique */
    uint32_t n_outputs;
} kcc_io_config;

/* Parses |text|: JSON if it begins with '{', else the path or file:// URI of a file with JSON or,
 * when it is named *.pbtxt, with a kaena.v1.IoConfig in protobuf's text form. Everything lives in
 * |arena|.
 *
 *     {"inputs": {"x:0": [[1,224,224,3], "float16"]}, "outputs": ["y:0"]}
 *
 * INVALID_ARGUMENT  malformed: the message has line and column, or names the entry
 * NOT_FOUND         no such file */
kaena_status kcc_io_config_parse(kaena_arena *arena, const char *text, kcc_io_config *out,
                                 kaena_err *err) KAENA_CHECKED;

/* The two forms by themselves; |text| has |size| bytes and needs no terminator. */
kaena_status kcc_io_config_parse_json(kaena_arena *arena, const char *text, size_t size,
                                      kcc_io_config *out, kaena_err *err) KAENA_CHECKED;
kaena_status kcc_io_config_parse_pbtxt(kaena_arena *arena, const char *text, size_t size,
                                       kcc_io_config *out, kaena_err *err) KAENA_CHECKED;

/* What |c| says about input |name|, or NULL. */
const kcc_io_input *kcc_io_config_input(const kcc_io_config *c, const char *name);

#endif

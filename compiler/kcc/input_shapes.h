/* What the wrappers' users say about inputs: {"x:0": [4,224,224,3]}, or a numpy file whose shape
 * and type are meant. */
#ifndef KCC_INPUT_SHAPES_H
#define KCC_INPUT_SHAPES_H

#include "io_config.h"

/* Parses |text|: JSON if it begins with '{', else the path of a file with it. A value is a list of
 * dimensions or the path of a .npy file. Everything lives in |arena|, which has no quota.
 * INVALID_ARGUMENT names the input. */
kaena_status kcc_input_shapes_parse(kaena_arena *arena, const char *text, kcc_io_config *out,
                                    kaena_err *err) KAENA_CHECKED;

#endif

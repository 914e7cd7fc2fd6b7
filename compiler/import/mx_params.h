/* .params: a list of named arrays, as MXNet's nd.save writes it.
 *
 *     u64 0x112, u64 0, u64 n, n arrays, u64 m, m names (u64 length, bytes)      little-endian
 *
 * An array of version 0 (MXNet < 0.12) is u32 rank, u32 dimensions; of version 1 a magic number,
 * u32 rank, i64 dimensions; versions 2 and 3 have an i32 storage type before the rank. Then follow
 * the device (two i32), the element type (i32) and the elements. Rank 0 is "no array", and ends
 * there, but a scalar in version 3. */
#ifndef KCC_MX_PARAMS_H
#define KCC_MX_PARAMS_H

#include "name_table.h"
#include "ops.h"

/* One array; |data| points into the file and is not aligned. */
typedef struct mx_param {
    const char *name; /* without "arg:" or "aux:"; made up ("0", "1") where the list has no names */
    kaena_dtype dtype; /* NONE: there is no array, only the name */
    kaena_shape shape;
    const void *data;
    size_t bytes;
} mx_param;

typedef struct mx_params {
    mx_param *list;
    uint32_t n;
    kcc_name_table names;
    bool named;
} mx_params;

/* Parses [size] bytes at |data|, which must outlive |out|. Takes memory for what is there, never
 * for what is claimed. INVALID_ARGUMENT  not a parameter file, or damaged; the message has the
 * array's number UNIMPLEMENTED     sparse arrays, element types we do not have */
kaena_status mx_params_parse(kaena_arena *arena, const void *data, size_t size, mx_params *out,
                             kaena_err *err) KAENA_CHECKED;

/* NULL when there is none. */
const mx_param *mx_params_find(const mx_params *p, const char *name);

/* The element type of MXNet's number for it (also in attributes); NONE where there is none. */
kaena_dtype mx_dtype_of(int64_t number);

#endif

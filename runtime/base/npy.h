/* Reading and writing of numpy's .npy files (format 1.0 to 3.0, C order). */
#ifndef KAENA_BASE_NPY_H
#define KAENA_BASE_NPY_H

#include "dtype.h"
#include "err.h"
#include "shape.h"

/* A tensor with its own storage: free with kaena_npy_free. Strings (S and U; U becomes UTF-8) are
 * kaena_string, their bytes behind them in the same storage. */
typedef struct kaena_npy {
    kaena_dtype dtype;
    kaena_shape shape;
    void *data; /* row-major, kaena_dtype_size(dtype) * elements bytes; free() gives it back */
    size_t bytes;
} kaena_npy;

/* Reads |path|. Big-endian and Fortran-order arrays are converted. INVALID_ARGUMENT names the file
 * and what is wrong. */
kaena_status kaena_npy_read(const char *path, kaena_npy *out, kaena_err *err) KAENA_CHECKED;
/* The same from memory. */
kaena_status kaena_npy_parse(const void *file, size_t size, kaena_npy *out,
                             kaena_err *err) KAENA_CHECKED;
void kaena_npy_free(kaena_npy *npy);

/* Writes a tensor; bfloat16 is written as float32, strings (|data| is an array of kaena_string) as
 * S<longest>. */
kaena_status kaena_npy_write(const char *path, kaena_dtype dtype, const kaena_shape *shape,
                             const void *data, kaena_err *err) KAENA_CHECKED;

#endif

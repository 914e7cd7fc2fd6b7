/* Looks for NaN and infinity. */
#ifndef NOT_FINITE_H
#define NOT_FINITE_H

#include <stdbool.h>
#include <stddef.h>

#include "dtype.h"

/* Whether none of the |bytes| bytes of elements of |dtype| is NaN or infinite; true of all that are
 * no floating-point numbers. */
bool krt_all_finite(kaena_dtype dtype, const void *data, size_t bytes);

#endif

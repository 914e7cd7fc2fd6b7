/* A growing string. */
#ifndef KAENA_BASE_STRBUF_H
#define KAENA_BASE_STRBUF_H

#include <stddef.h>

#include "err.h"

/* |data| is NULL while empty, else terminated. Running out of memory ends the process: for tools
 * and reports. */
typedef struct kaena_strbuf {
    char *data;
    size_t size, capacity;
} kaena_strbuf;

void kaena_strbuf_fini(kaena_strbuf *b);
void kaena_strbuf_add(kaena_strbuf *b, const void *data, size_t size);
void kaena_strbuf_printf(kaena_strbuf *b, const char *fmt, ...) KAENA_PRINTF(2, 3);

#endif

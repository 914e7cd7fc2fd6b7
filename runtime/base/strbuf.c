#include "strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kaena_strbuf_fini(kaena_strbuf *b)
{
    free(b->data);
    *b = (kaena_strbuf){0};
}

static void reserve(kaena_strbuf *b, size_t more)
{
    size_t need = b->size + more + 1;
    if (need <= b->capacity)
        return;
    size_t capacity = b->capacity ? b->capacity * 2 : 256;
    if (capacity < need)
        capacity = need;
    char *data = realloc(b->data, capacity);
    if (!data) {
        (void)fprintf(stderr, "kaena: out of memory (%zu bytes asked for)\n", capacity);
        exit(70);
    }
    b->data = data;
    b->capacity = capacity;
}

void kaena_strbuf_add(kaena_strbuf *b, const void *data, size_t size)
{
    reserve(b, size);
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = 0;
}

void kaena_strbuf_printf(kaena_strbuf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0) {
        reserve(b, (size_t)n);
        (void)vsnprintf(b->data + b->size, (size_t)n + 1, fmt, again);
        b->size += (size_t)n;
    }
    va_end(again);
}

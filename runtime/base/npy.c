#include "npy.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "file.h"

/* numpy's type characters: kind and bytes. */
static const struct {
    char kind;
    uint8_t bytes;
    kaena_dtype type;
} npy_types[] = {
    {'f', 4, KAENA_F32}, {'f', 8, KAENA_F64}, {'f', 2, KAENA_F16}, {'i', 1, KAENA_I8},
    {'i', 2, KAENA_I16}, {'i', 4, KAENA_I32}, {'i', 8, KAENA_I64}, {'u', 1, KAENA_U8},
    {'u', 2, KAENA_U16}, {'u', 4, KAENA_U32}, {'u', 8, KAENA_U64}, {'b', 1, KAENA_BOOL},
};

typedef struct header {
    kaena_dtype dtype;
    kaena_shape shape;
    size_t width; /* bytes of an element in the file */
    bool big_endian, fortran, utf32;
} header;

#define MAX_STRING_WIDTH (1ul << 28)

/* The value after 'key': in the header's Python dictionary, or NULL. */
static const char *value_of(const char *text, const char *key)
{
    const char *p = strstr(text, key);
    if (!p)
        return NULL;
    p += strlen(key);
    while (*p == ' ')
        p++;
    if (*p++ != ':')
        return NULL;
    while (*p == ' ')
        p++;
    return p;
}

static kaena_status parse_header(const char *text, header *out, kaena_err *err)
{
    header h = {0};
    const char *descr = value_of(text, "'descr'"), *order = value_of(text, "'fortran_order'"),
               *shape = value_of(text, "'shape'");
    if (!descr || !order || !shape || *descr != '\'' || *shape != '(')
        return KAENA_FAIL(err, INVALID_ARGUMENT, "npy header lacks descr, fortran_order or shape");
    h.big_endian = descr[1] == '>';
    char *end;
    unsigned long bytes = strtoul(descr + 3, &end, 10);
    for (size_t i = 0; i < sizeof npy_types / sizeof *npy_types; i++)
        if (npy_types[i].kind == descr[2] && npy_types[i].bytes == bytes &&
            strchr("<>|=", descr[1]))
            h.dtype = npy_types[i].type;
    h.width = bytes;
    if ((descr[2] == 'S' || descr[2] == 'U') && strchr("<>|=", descr[1]) &&
        bytes <= MAX_STRING_WIDTH) {
        h.dtype = KAENA_STRING;
        h.utf32 = descr[2] == 'U';
        h.width = h.utf32 ? 4 * bytes : bytes;
    }
    if (h.dtype == KAENA_DTYPE_NONE)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "npy type '%.8s' is not supported", descr + 1);
    h.fortran = strncmp(order, "True", 4) == 0;
    const char *p = shape + 1;
    for (;;) {
        while (*p == ' ' || *p == ',')
            p++;
        if (*p == ')')
            break;
        if (!isdigit((unsigned char)*p) || h.shape.rank == KAENA_MAX_RANK)
            return KAENA_FAIL(err, INVALID_ARGUMENT, "npy shape is not a tuple of at most %d sizes",
                              KAENA_MAX_RANK);
        h.shape.dim[h.shape.rank++] = strtoll(p, &end, 10);
        p = end;
    }
    *out = h;
    return KAENA_OK;
}

static void swap_bytes(uint8_t *data, size_t n, size_t width)
{
    for (size_t i = 0; i < n; i++)
        for (size_t a = 0, b = width - 1; a < b; a++, b--) {
            uint8_t t = data[i * width + a];
            data[i * width + a] = data[i * width + b];
            data[i * width + b] = t;
        }
}

/* Copies |src|, first index fastest, into |dst|, last index fastest. */
static void from_fortran(uint8_t *dst, const uint8_t *src, const kaena_shape *s, size_t n,
                         size_t width)
{
    int64_t index[KAENA_MAX_RANK] = {0};
    for (size_t i = 0; i < n; i++) {
        int64_t at = 0;
        for (int32_t d = s->rank; d-- > 0;)
            at = at * s->dim[d] + index[d];
        memcpy(dst + i * width, src + (size_t)at * width, width);
        for (int32_t d = s->rank; d-- > 0 && ++index[d] == s->dim[d];)
            index[d] = 0;
    }
}

/* UTF-8 of a code point; what is none becomes the replacement character. At most four bytes. */
static size_t put_utf8(char *to, uint32_t c)
{
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        c = 0xfffd;
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6)
        to[i] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | c);
    return n;
}

/* |raw| is |n| elements of h->width bytes, padded with NUL; NULL: no memory. */
static void *make_strings(const header *h, const uint8_t *raw, size_t n)
{
    size_t head = n * sizeof(kaena_string);
    kaena_string *strings = malloc(head + n * h->width + 1);
    char *text = (char *)strings + head;
    for (size_t i = 0; strings && i < n; i++) {
        const uint8_t *from = raw + i * h->width;
        char *start = text;
        size_t used = h->width;
        while (used && !from[used - 1])
            used--;
        if (!h->utf32) {
            memcpy(text, from, used);
            text += used;
        }
        for (size_t k = 0; h->utf32 && k < used; k += 4) {
            uint32_t c = (uint32_t)from[k] | (uint32_t)from[k + 1] << 8 |
                         (uint32_t)from[k + 2] << 16 | (uint32_t)from[k + 3] << 24;
            text += put_utf8(text, c);
        }
        strings[i] = (kaena_string){.data = start, .size = (size_t)(text - start)};
    }
    return strings;
}

kaena_status kaena_npy_parse(const void *file, size_t size, kaena_npy *out, kaena_err *err)
{
    const uint8_t *p = file;
    if (size < 10 || memcmp(p, "\x93NUMPY", 6) != 0)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "not an npy file");
    size_t start = p[6] == 1 ? 10 : 12;
    if (size < start)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "npy header is cut off");
    size_t length = (size_t)p[8] | (size_t)p[9] << 8;
    if (p[6] > 1)
        length |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    char text[4096];
    if (length >= sizeof text || !kaena_range_inside(start, length, size))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "npy header of %zu bytes is cut off or too long",
                          length);
    memcpy(text, p + start, length);
    text[length] = 0;
    header h;
    KAENA_TRY(parse_header(text, &h, err));
    int64_t n;
    uint64_t bytes;
    size_t width = h.width, data = start + length;
    if (!kaena_shape_elements(&h.shape, &n) || !kaena_mul_u64((uint64_t)n, width, &bytes) ||
        bytes != size - data)
        return KAENA_FAIL(err, INVALID_ARGUMENT,
                          "npy data is %zu bytes, its shape asks for another size", size - data);
    uint8_t *copy = malloc(bytes ? (size_t)bytes : 1);
    if (!copy)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for %" PRIu64 " bytes", bytes);
    if (h.fortran && h.shape.rank > 1)
        from_fortran(copy, p + data, &h.shape, (size_t)n, width);
    else
        memcpy(copy, p + data, (size_t)bytes);
    if (h.big_endian && h.utf32)
        swap_bytes(copy, (size_t)bytes / 4, 4);
    else if (h.big_endian && h.dtype != KAENA_STRING)
        swap_bytes(copy, (size_t)n, width);
    if (h.dtype == KAENA_STRING) {
        void *strings = make_strings(&h, copy, (size_t)n);
        free(copy);
        if (!strings)
            return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for %" PRId64 " strings", n);
        *out = (kaena_npy){h.dtype, h.shape, strings, (size_t)n * sizeof(kaena_string)};
        return KAENA_OK;
    }
    *out = (kaena_npy){h.dtype, h.shape, copy, (size_t)bytes};
    return KAENA_OK;
}

kaena_status kaena_npy_read(const char *path, kaena_npy *out, kaena_err *err)
{
    kaena_file f;
    KAENA_TRY(kaena_file_open(path, &f, err));
    kaena_status s = kaena_npy_parse(f.data, f.size, out, err);
    kaena_file_close(&f);
    return s == KAENA_OK ? s : kaena_err_wrap(err, s, "'%s'", path);
}

void kaena_npy_free(kaena_npy *npy)
{
    free(npy->data);
    *npy = (kaena_npy){0};
}

/* numpy has strings of one length, padded with NUL, of at least one byte. */
static size_t longest_string(const kaena_string *strings, size_t n)
{
    size_t longest = 1;
    for (size_t i = 0; i < n; i++)
        if (strings[i].size > longest)
            longest = strings[i].size;
    return longest;
}

static void put_strings(uint8_t *to, const kaena_string *strings, size_t n, size_t width)
{
    memset(to, 0, n * width);
    for (size_t i = 0; i < n; i++)
        if (strings[i].size)
            memcpy(to + i * width, strings[i].data, strings[i].size);
}

kaena_status kaena_npy_write(const char *path, kaena_dtype dtype, const kaena_shape *shape,
                             const void *data, kaena_err *err)
{
    int64_t n;
    kaena_dtype stored = dtype == KAENA_BF16 ? KAENA_F32 : dtype;
    char kind = dtype == KAENA_STRING ? 'S' : 0;
    for (size_t i = 0; i < sizeof npy_types / sizeof *npy_types; i++)
        if (npy_types[i].type == stored)
            kind = npy_types[i].kind;
    if (!kind || !kaena_shape_elements(shape, &n))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s': %s cannot be written as npy", path,
                          kaena_dtype_name(dtype));
    size_t width =
        dtype == KAENA_STRING ? longest_string(data, (size_t)n) : kaena_dtype_size(stored);
    uint64_t bytes;
    if (!kaena_mul_u64((uint64_t)n, width, &bytes) || bytes > PTRDIFF_MAX - 4096)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "'%s': too large for npy", path);
    char dims[KAENA_SHAPE_TEXT], text[320];
    (void)kaena_shape_print(shape, dims, sizeof dims);
    dims[0] = '(';
    dims[strlen(dims) - 1] = 0;
    int length = snprintf(
        text, sizeof text, "{'descr': '%c%c%zu', 'fortran_order': False, 'shape': %s%s), }",
        width == 1 || kind == 'S' ? '|' : '<', kind, width, dims, shape->rank == 1 ? "," : "");
    size_t header_size = (size_t)kaena_align_up(10 + (size_t)length + 1, 64);
    uint8_t *file = malloc(header_size + bytes);
    if (!file)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for %zu bytes", header_size + bytes);
    memset(file, ' ', header_size);
    memcpy(file, "\x93NUMPY\x01\x00", 8);
    file[8] = (uint8_t)(header_size - 10);
    file[9] = (uint8_t)((header_size - 10) >> 8);
    memcpy(file + 10, text, (size_t)length);
    file[header_size - 1] = '\n';
    if (dtype == KAENA_STRING)
        put_strings(file + header_size, data, (size_t)n, width);
    else
        kaena_cast(file + header_size, stored, data, dtype, (size_t)n);
    kaena_status s = kaena_file_write(path, file, header_size + bytes, err);
    free(file);
    return s;
}

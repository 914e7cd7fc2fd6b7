/* The XML that S3 answers: lists of objects, and errors. */
#include <expat.h>
#include <stdlib.h>
#include <string.h>

#include "s3_internal.h"

#define MAX_DEPTH 16
#define MAX_TEXT 8192 /* of one element; keys have at most 1024 bytes */

/* What the parser collects: the text of the innermost element, and what to do at its end. */
typedef struct reader {
    XML_Parser xml;
    uint32_t depth;
    char parent[MAX_DEPTH][32]; /* names of the open elements */
    char text[MAX_TEXT];
    size_t n;
    bool failed;
    void (*end)(struct reader *r, const char *parent, const char *name);
    kaena_arena *arena;
    s3_list *list;
    char *code, *message;
    size_t code_size, message_size;
} reader;

static void fail(reader *r)
{
    r->failed = true;
    (void)XML_StopParser(r->xml, XML_FALSE);
}

static void XMLCALL on_start(void *data, const char *name, const char **attributes)
{
    reader *r = data;
    (void)attributes;
    if (r->depth == MAX_DEPTH) {
        fail(r);
        return;
    }
    (void)snprintf(r->parent[r->depth++], sizeof r->parent[0], "%s", name);
    r->n = 0;
}

static void XMLCALL on_text(void *data, const char *text, int size)
{
    reader *r = data;
    if (r->n + (size_t)size >= sizeof r->text) {
        fail(r);
        return;
    }
    memcpy(r->text + r->n, text, (size_t)size);
    r->n += (size_t)size;
}

static void XMLCALL on_end(void *data, const char *name)
{
    reader *r = data;
    r->text[r->n] = 0;
    r->depth--;
    r->end(r, r->depth ? r->parent[r->depth - 1] : "", name);
    r->n = 0;
}

static bool parse(reader *r, const char *xml, size_t size)
{
    r->xml = XML_ParserCreate(NULL);
    if (!r->xml)
        return false;
    XML_SetUserData(r->xml, r);
    XML_SetElementHandler(r->xml, on_start, on_end);
    XML_SetCharacterDataHandler(r->xml, on_text);
    bool whole = size <= INT32_MAX &&
                 XML_Parse(r->xml, xml, (int)size, XML_TRUE) == XML_STATUS_OK && !r->failed;
    XML_ParserFree(r->xml);
    return whole;
}

static bool grow(reader *r)
{
    s3_list *l = r->list;
    uint32_t capacity = l->capacity ? 2 * l->capacity : 64;
    const char **key = KAENA_NEW_N(r->arena, const char *, capacity);
    int64_t *size = KAENA_NEW_N(r->arena, int64_t, capacity);
    if (!key || !size)
        return false;
    if (l->n) {
        memcpy(key, l->key, l->n * sizeof *key);
        memcpy(size, l->size, l->n * sizeof *size);
    }
    l->key = key;
    l->size = size;
    l->capacity = capacity;
    return true;
}

static void end_of_list(reader *r, const char *parent, const char *name)
{
    s3_list *l = r->list;
    if (strcmp(parent, "Contents") == 0 && strcmp(name, "Key") == 0) {
        if (l->n == l->capacity && !grow(r)) {
            fail(r);
            return;
        }
        l->key[l->n++] = kaena_arena_strdup(r->arena, r->text);
        if (!l->key[l->n - 1])
            fail(r);
    } else if (strcmp(parent, "Contents") == 0 && strcmp(name, "Size") == 0 && l->n > 0) {
        l->size[l->n - 1] = strtoll(r->text, NULL, 10);
    } else if (strcmp(name, "NextContinuationToken") == 0) {
        l->next = kaena_arena_strdup(r->arena, r->text);
    }
}

kaena_status s3_list_parse(kaena_arena *arena, const char *xml, size_t size, s3_list *list,
                           kaena_err *err)
{
    reader *r = calloc(1, sizeof *r);
    if (!r)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    r->end = end_of_list;
    r->arena = arena;
    r->list = list;
    list->next = NULL;
    bool whole = parse(r, xml, size);
    free(r);
    return whole ? KAENA_OK
                 : KAENA_FAIL(err, INTERNAL, "the list of objects is not the XML it should be");
}

static void end_of_error(reader *r, const char *parent, const char *name)
{
    if (strcmp(parent, "Error") != 0)
        return;
    if (strcmp(name, "Code") == 0)
        (void)snprintf(r->code, r->code_size, "%s", r->text);
    else if (strcmp(name, "Message") == 0)
        (void)snprintf(r->message, r->message_size, "%s", r->text);
}

void s3_error_parse(const char *xml, size_t size, char *code, size_t code_size, char *message,
                    size_t message_size)
{
    reader *r = calloc(1, sizeof *r);
    code[0] = message[0] = 0;
    if (!r)
        return;
    *r = (reader){.end = end_of_error,
                  .code = code,
                  .message = message,
                  .code_size = code_size,
                  .message_size = message_size};
    (void)parse(r, xml, size);
    free(r);
}

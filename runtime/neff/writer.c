/* Writing: sizes and checksums first, then one pass through the file for the SHA-256. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY /* states on the stack */
#include <xxhash.h>

#include "checked.h"
#include "file.h"
#include "format.h"
#include "neff.h"

/* A section to be: either bytes or the pieces of WEIGHTS. */
typedef struct section {
    neff_disk_section disk;
    kaena_strbuf bytes;
    const void *data; /* of bytes, or the caller's */
    bool is_weights;
} section;

typedef struct writer {
    const neff_content *content;
    section *section;
    uint32_t n;
    int fd;
    EVP_MD_CTX *sha;
    uint64_t at; /* written so far */
} writer;

/* --- The sections
 * ------------------------------------------------------------------------------------------------------
 */

static section *add(writer *w, const char *name)
{
    section *s = &w->section[w->n++];
    (void)snprintf(s->disk.name, sizeof s->disk.name, "%s", name);
    return s;
}

static void add_bytes_done(section *s)
{
    s->data = s->bytes.data;
    s->disk.size = s->bytes.size;
}

/* Calls |visit| with WEIGHTS in order: pieces, and the zeros between them. */
static kaena_status walk_weights(const neff_content *c, void *user,
                                 kaena_status (*visit)(void *user, const void *data, size_t size,
                                                       kaena_err *err),
                                 kaena_err *err)
{
    static const uint8_t zeros[4096];
    uint64_t at = 0;
    for (uint32_t i = 0; i <= c->n_pieces; i++) {
        uint64_t next = i < c->n_pieces ? c->weights[i].offset : c->weights_bytes;
        for (; at < next; at += next - at < sizeof zeros ? next - at : sizeof zeros)
            KAENA_TRY(visit(user, zeros, next - at < sizeof zeros ? next - at : sizeof zeros, err));
        if (i < c->n_pieces) {
            KAENA_TRY(visit(user, c->weights[i].data, c->weights[i].size, err));
            at = next + c->weights[i].size;
        }
    }
    return KAENA_OK;
}

static kaena_status hash_piece(void *user, const void *data, size_t size, kaena_err *err)
{
    (void)err;
    (void)XXH64_update(user, data, size);
    return KAENA_OK;
}

static kaena_status check_pieces(const neff_content *c, kaena_err *err)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < c->n_pieces; i++) {
        if (c->weights[i].offset < at ||
            !kaena_range_inside(c->weights[i].offset, c->weights[i].size, c->weights_bytes))
            return KAENA_FAIL(err, INTERNAL, "piece %u of WEIGHTS overlaps or passes the end", i);
        at = c->weights[i].offset + c->weights[i].size;
    }
    return KAENA_OK;
}

static kaena_status make_sections(writer *w, kaena_err *err)
{
    const neff_content *c = w->content;
    char name[16];
    section *s = add(w, "META");
    uint8_t *packed = malloc(kaena__v1__neff_meta__get_packed_size(c->meta) + 1);
    if (!packed)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for META");
    kaena_strbuf_add(&s->bytes, packed, kaena__v1__neff_meta__pack(c->meta, packed));
    free(packed);
    add_bytes_done(s);
    for (uint32_t i = 0; i < c->meta->num_tpbs; i++) {
        (void)snprintf(name, sizeof name, "CODE%u", i);
        s = add(w, name);
        kisa_encode(&c->programs[i], &s->bytes);
        add_bytes_done(s);
    }
    for (uint32_t i = 0; i < c->n_graphs; i++) {
        (void)snprintf(name, sizeof name, "HOST%u", i);
        s = add(w, name);
        kgr_serialise(c->graphs[i], &s->bytes);
        add_bytes_done(s);
    }
    if (c->debug) {
        s = add(w, "DEBUG");
        s->data = c->debug;
        s->disk.size = c->debug_bytes;
    }
    s = add(w, "WEIGHTS");
    s->is_weights = true;
    s->disk.size = c->weights_bytes;
    KAENA_TRY(check_pieces(c, err));

    uint64_t at = sizeof(neff_disk_header) + w->n * sizeof(neff_disk_section);
    for (uint32_t i = 0; i < w->n; i++) {
        s = &w->section[i];
        at = kaena_align_up(at, s->is_weights ? NEFF_WEIGHTS_ALIGN : NEFF_ALIGN);
        s->disk.offset = at;
        at += s->disk.size;
        XXH64_state_t x;
        (void)XXH64_reset(&x, 0);
        if (s->is_weights)
            KAENA_TRY(walk_weights(c, &x, hash_piece, err));
        else if (s->disk.size)
            (void)XXH64_update(&x, s->data, s->disk.size);
        s->disk.xxh64 = XXH64_digest(&x);
    }
    return KAENA_OK;
}

/* --- The file
 * ----------------------------------------------------------------------------------------------------------
 */

static kaena_status put(void *user, const void *data, size_t size, kaena_err *err)
{
    writer *w = user;
    if (size && EVP_DigestUpdate(w->sha, data, size) != 1)
        return KAENA_FAIL(err, INTERNAL, "SHA-256 failed");
    const uint8_t *p = data;
    w->at += size;
    while (size) {
        ssize_t n = write(w->fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kaena_err_set(err, kaena_status_of_errno(errno), "%s", strerror(errno));
        p += n;
        size -= (size_t)n;
    }
    return KAENA_OK;
}

static kaena_status pad_to(writer *w, uint64_t offset, kaena_err *err)
{
    static const uint8_t zeros[NEFF_WEIGHTS_ALIGN];
    return put(w, zeros, offset - w->at, err);
}

static neff_disk_header make_header(const writer *w)
{
    const section *last = &w->section[w->n - 1];
    uint64_t features = neff_features_of(w->content->meta);
    neff_disk_header h = {.major = NEFF_FORMAT_MAJOR,
                          .minor = features ? 1 : 0,
                          .features = features,
                          .header_bytes = sizeof h,
                          .target = NEFF_TARGET,
                          .n_tpbs = w->content->meta->num_tpbs,
                          .n_sections = w->n,
                          .file_bytes = last->disk.offset + last->disk.size};
    memcpy(h.magic, NEFF_MAGIC, sizeof h.magic);
    (void)snprintf(h.compiler, sizeof h.compiler, "%s", w->content->meta->compiler);
    XXH64_state_t x;
    (void)XXH64_reset(&x, 0);
    (void)XXH64_update(&x, &h, sizeof h);
    for (uint32_t i = 0; i < w->n; i++)
        (void)XXH64_update(&x, &w->section[i].disk, sizeof w->section[i].disk);
    h.xxh64 = XXH64_digest(&x);
    return h;
}

static kaena_status write_file(writer *w, kaena_err *err)
{
    neff_disk_header h = make_header(w);
    if (!w->sha || EVP_DigestInit_ex(w->sha, EVP_sha256(), NULL) != 1)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    KAENA_TRY(put(w, &h, sizeof h, err));
    for (uint32_t i = 0; i < w->n; i++)
        KAENA_TRY(put(w, &w->section[i].disk, sizeof w->section[i].disk, err));
    for (uint32_t i = 0; i < w->n; i++) {
        const section *s = &w->section[i];
        KAENA_TRY(pad_to(w, s->disk.offset, err));
        if (s->is_weights)
            KAENA_TRY(walk_weights(w->content, w, put, err));
        else
            KAENA_TRY(put(w, s->data, s->disk.size, err));
    }
    uint8_t digest[EVP_MAX_MD_SIZE];
    if (EVP_DigestFinal_ex(w->sha, digest, NULL) != 1)
        return KAENA_FAIL(err, INTERNAL, "SHA-256 failed");
    if (pwrite(w->fd, digest, sizeof h.digest, offsetof(neff_disk_header, digest)) !=
            (ssize_t)sizeof h.digest ||
        fchmod(w->fd, 0644) != 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "%s", strerror(errno));
    return KAENA_OK;
}

static kaena_status write_and_verify(writer *w, const char *temp, const char *path, kaena_err *err)
{
    KAENA_TRY(make_sections(w, err));
    KAENA_TRY(write_file(w, err));
    neff_file *f;
    KAENA_TRY_WRAP(err, neff_open_fd(w->fd, path, &f, err), "what was written is not valid");
    f = neff_unref(f);
    if (rename(temp, path) != 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "%s", strerror(errno));
    return KAENA_OK;
}

kaena_status neff_write(const char *path, const neff_content *content, kaena_err *err)
{
    path = kaena_path_of_uri(path);
    char temp[PATH_MAX];
    if (content->meta->num_tpbs < 1 || content->meta->num_tpbs > KISA_MAX_TPBS ||
        content->n_graphs > NEFF_MAX_GRAPHS)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "write '%s': %u TPBs, %u host graphs", path,
                          content->meta->num_tpbs, content->n_graphs);
    writer w = {.content = content};
    KAENA_TRY(kaena_file_temp(path, temp, &w.fd, err));
    w.sha = EVP_MD_CTX_new();
    w.section = calloc(content->meta->num_tpbs + content->n_graphs + 3, sizeof *w.section);
    kaena_status status = w.section ? write_and_verify(&w, temp, path, err)
                                    : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    for (uint32_t i = 0; i < w.n; i++)
        kaena_strbuf_fini(&w.section[i].bytes);
    free(w.section);
    EVP_MD_CTX_free(w.sha);
    (void)close(w.fd);
    if (status == KAENA_OK)
        return KAENA_OK;
    (void)unlink(temp);
    return kaena_err_wrap(err, status, "write '%s'", path);
}

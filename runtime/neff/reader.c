/* Opening: header, section table, sections, then what is in them. Nothing but WEIGHTS is read
 * through a mapping, so a file that is truncated meanwhile is an error and no signal. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY /* states on the stack */
#include <xxhash.h>

#include "checked.h"
#include "fault.h"
#include "file.h"
#include "kaena/v1/runtime.pb-c.h"
#include "neff_file.h"

kaena_status neff_blame_file(kaena_status status, kaena_err *err)
{
    if (status == KAENA_DATA_LOSS && err)
        err->reason = KAENA__V1__ERROR_DETAIL__REASON__BAD_ARTIFACT;
    return status;
}

kaena_status neff_read_at(const neff_file *f, uint64_t offset, void *to, uint64_t size,
                          kaena_err *err)
{
    uint8_t *p = to;
    while (size) {
        ssize_t n = pread(f->fd, p, size < (1u << 30) ? size : 1u << 30, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kaena_err_set(err, kaena_status_of_errno(errno), "read: %s", strerror(errno));
        if (n == 0)
            return KAENA_FAIL(err, DATA_LOSS, "the file ends at byte %" PRIu64, offset);
        p += n;
        offset += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return KAENA_OK;
}

/* --- Header and section table
 * ------------------------------------------------------------------------------------------ */

static kaena_status refuse_version(const neff_disk_header *h, const char *what, kaena_err *err)
{
    char compiler[sizeof h->compiler + 1] = {0};
    memcpy(compiler, h->compiler, sizeof h->compiler);
    for (char *p = compiler; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
    (void)KAENA_FAIL(err, FAILED_PRECONDITION,
                     "%s; the file is format %u.%u, written by '%s', this reader is kaena "
                     "%s with format %u.%u",
                     what, h->major, h->minor, compiler, KAENA_VERSION, NEFF_FORMAT_MAJOR,
                     NEFF_FORMAT_MINOR);
    kaena_err_hint(err, "recompile the model with kcc %s", KAENA_VERSION);
    if (err)
        err->reason = KAENA__V1__ERROR_DETAIL__REASON__VERSION_MISMATCH;
    return KAENA_FAILED_PRECONDITION;
}

static bool is_padded_text(const char *s, size_t size)
{
    size_t n = strnlen(s, size);
    if (n == 0 || n == size)
        return false;
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' && s[i] != ' ')
            return false;
    for (size_t i = n; i < size; i++)
        if (s[i])
            return false;
    return true;
}

static kaena_status check_header(neff_file *f, uint64_t file_bytes, kaena_err *err)
{
    const neff_disk_header *h = &f->header;
    if (h->major != NEFF_FORMAT_MAJOR)
        return refuse_version(h, "another major version of the format", err);
    if (h->features & ~NEFF_FEATURES) {
        char what[96];
        (void)snprintf(what, sizeof what, "it needs features 0x%" PRIx64 " of the format",
                       h->features & ~NEFF_FEATURES);
        return refuse_version(h, what, err);
    }
    if (file_bytes < sizeof *h)
        return KAENA_FAIL(err, DATA_LOSS, "header: cut off at byte %" PRIu64, file_bytes);
    if (h->header_bytes != sizeof *h)
        return KAENA_FAIL(err, DATA_LOSS, "header: %u bytes, not %zu", h->header_bytes, sizeof *h);
    if (!is_padded_text(h->compiler, sizeof h->compiler))
        return KAENA_FAIL(err, DATA_LOSS, "header: the compiler's name is not text");
    if (strncmp(h->target, NEFF_TARGET, sizeof h->target) != 0)
        return KAENA_FAIL(err, DATA_LOSS, "header: compiled for target '%.16s', not '%s'",
                          h->target, NEFF_TARGET);
    if (h->n_tpbs < 1 || h->n_tpbs > KISA_MAX_TPBS)
        return KAENA_FAIL(err, DATA_LOSS, "header: %u TPBs, not 1 to %d", h->n_tpbs, KISA_MAX_TPBS);
    if (h->n_sections < 1 || h->n_sections > NEFF_MAX_SECTIONS)
        return KAENA_FAIL(err, DATA_LOSS, "header: %u sections, not 1 to %d", h->n_sections,
                          NEFF_MAX_SECTIONS);
    if (h->file_bytes != file_bytes)
        return KAENA_FAIL(err, DATA_LOSS,
                          "the file has %" PRIu64 " bytes, its header says %" PRIu64, file_bytes,
                          h->file_bytes);
    return KAENA_OK;
}

static kaena_status check_table(const neff_file *f, kaena_err *err)
{
    uint64_t at = sizeof f->header + f->header.n_sections * sizeof *f->section;
    for (uint32_t i = 0; i < f->header.n_sections; i++) {
        const neff_disk_section *s = &f->section[i];
        if (!is_padded_text(s->name, sizeof s->name))
            return KAENA_FAIL(err, DATA_LOSS, "section %u: its name is not text", i);
        uint64_t align = strcmp(s->name, "WEIGHTS") == 0 ? NEFF_WEIGHTS_ALIGN : NEFF_ALIGN;
        if (s->offset % align != 0)
            return KAENA_FAIL(err, DATA_LOSS,
                              "section %s: offset %" PRIu64 " is not a multiple of %" PRIu64,
                              s->name, s->offset, align);
        if (s->offset < at)
            return KAENA_FAIL(err, DATA_LOSS, "section %s: overlaps what stands before it",
                              s->name);
        if (!kaena_range_inside(s->offset, s->size, f->header.file_bytes))
            return KAENA_FAIL(err, DATA_LOSS, "section %s: ends past the end of the file", s->name);
        at = s->offset + s->size;
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(f->section[k].name, s->name) == 0)
                return KAENA_FAIL(err, DATA_LOSS, "section %s: there are two", s->name);
    }
    return KAENA_OK;
}

static kaena_status read_header(neff_file *f, kaena_err *err)
{
    struct stat st;
    if (fstat(f->fd, &st) != 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "%s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return KAENA_FAIL(err, INVALID_ARGUMENT, "not a regular file");
    uint64_t size = (uint64_t)st.st_size;
    neff_disk_header *h = &f->header;
    if (size < NEFF_PREFIX_BYTES)
        return KAENA_FAIL(err, DATA_LOSS, "not a NEFF: only %" PRIu64 " bytes", size);
    KAENA_TRY(neff_read_at(f, 0, h, size < sizeof *h ? size : sizeof *h, err));
    if (memcmp(h->magic, NEFF_MAGIC, sizeof h->magic) != 0)
        return KAENA_FAIL(err, DATA_LOSS, "not a NEFF: wrong magic number");
    KAENA_TRY(check_header(f, size, err));
    if (size < sizeof *h + h->n_sections * sizeof *f->section)
        return KAENA_FAIL(err, DATA_LOSS, "the section table ends past the end of the file");
    f->section = KAENA_NEW_N(&f->arena, neff_disk_section, h->n_sections);
    if (!f->section)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    size_t table = h->n_sections * sizeof *f->section;
    KAENA_TRY(neff_read_at(f, sizeof *h, f->section, table, err));

    neff_disk_header zeroed = *h;
    zeroed.xxh64 = 0;
    memset(zeroed.digest, 0, sizeof zeroed.digest);
    XXH64_state_t x;
    (void)XXH64_reset(&x, 0);
    (void)XXH64_update(&x, &zeroed, sizeof zeroed);
    (void)XXH64_update(&x, f->section, table);
    if (XXH64_digest(&x) != h->xxh64)
        return KAENA_FAIL(err, DATA_LOSS, "header: wrong checksum");
    for (size_t i = 0; i < sizeof h->digest; i++)
        (void)snprintf(f->digest + 2 * i, 3, "%02x", h->digest[i]);
    return check_table(f, err);
}

/* --- Sections
 * ----------------------------------------------------------------------------------------------------------
 */

static const neff_disk_section *find(const neff_file *f, const char *name)
{
    for (uint32_t i = 0; i < f->header.n_sections; i++)
        if (strcmp(f->section[i].name, name) == 0)
            return &f->section[i];
    return NULL;
}

/* A private copy, checksummed: what is checked later is what was read. */
static kaena_status copy_section(neff_file *f, const neff_disk_section *s, void **out,
                                 kaena_err *err)
{
    void *data = kaena_arena_alloc(&f->arena, s->size);
    if (!data)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "section %s: no memory for %" PRIu64 " bytes",
                          s->name, s->size);
    KAENA_TRY_WRAP(err, neff_read_at(f, s->offset, data, s->size, err), "section %s", s->name);
    if (XXH64(data, s->size, 0) != s->xxh64)
        return KAENA_FAIL(err, DATA_LOSS, "section %s: wrong checksum", s->name);
    *out = data;
    return KAENA_OK;
}

/* protobuf-c allocates through the quota of an arena; nesting is bounded because the schema is. */
static void *meta_alloc(void *arena, size_t size)
{
    return kaena_arena_alloc(arena, size);
}

static void meta_free(void *arena, void *p)
{
    (void)arena;
    (void)p;
}

static kaena_status read_meta(neff_file *f, kaena_err *err)
{
    const neff_disk_section *s = find(f, "META");
    if (!s)
        return KAENA_FAIL(err, DATA_LOSS, "no section META");
    if (s->size > NEFF_MAX_META_BYTES)
        return KAENA_FAIL(err, DATA_LOSS, "section META: longer than %u bytes",
                          NEFF_MAX_META_BYTES);
    void *data;
    KAENA_TRY(copy_section(f, s, &data, err));
    kaena_arena_init(&f->meta_arena, NEFF_MAX_META_MEMORY);
    ProtobufCAllocator alloc = {meta_alloc, meta_free, &f->meta_arena};
    f->meta = kaena__v1__neff_meta__unpack(&alloc, s->size, data);
    if (!f->meta)
        return KAENA_FAIL(err, DATA_LOSS, "section META: not a NeffMeta message, or too large");
    return KAENA_OK;
}

static kaena_status read_programs(neff_file *f, kaena_err *err)
{
    f->program = KAENA_NEW_N(&f->arena, kisa_program, f->header.n_tpbs);
    if (!f->program)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    for (uint32_t i = 0; i < f->header.n_tpbs; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "CODE%u", i);
        const neff_disk_section *s = find(f, name);
        if (!s)
            return KAENA_FAIL(err, DATA_LOSS, "no section %s", name);
        void *code;
        KAENA_TRY(copy_section(f, s, &code, err));
        KAENA_TRY_WRAP(err, kisa_decode(&f->arena, code, s->size, &f->program[i], err),
                       "section %s", name);
    }
    return KAENA_OK;
}

static kaena_status read_graphs(neff_file *f, kaena_err *err)
{
    char name[16];
    for (; f->n_graphs <= NEFF_MAX_GRAPHS; f->n_graphs++) {
        (void)snprintf(name, sizeof name, "HOST%u", f->n_graphs);
        if (!find(f, name))
            break;
    }
    if (f->n_graphs > NEFF_MAX_GRAPHS)
        return KAENA_FAIL(err, DATA_LOSS, "more than %d host graphs", NEFF_MAX_GRAPHS);
    f->graph = KAENA_NEW_N(&f->arena, kgr_graph *, f->n_graphs);
    if (!f->graph)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory");
    for (uint32_t i = 0; i < f->n_graphs; i++) {
        (void)snprintf(name, sizeof name, "HOST%u", i);
        const neff_disk_section *s = find(f, name);
        void *data;
        KAENA_TRY(copy_section(f, s, &data, err));
        kaena_status status = kgr_deserialise(&f->arena, data, s->size, &f->graph[i], err);
        if (status == KAENA_OK)
            status = kgr_check(f->graph[i], err);
        if (status != KAENA_OK && status != KAENA_RESOURCE_EXHAUSTED) {
            status = KAENA_DATA_LOSS;
            if (err)
                err->code = KAENA_DATA_LOSS;
        }
        KAENA_TRY_WRAP(err, status, "section %s", name);
    }
    return KAENA_OK;
}

static kaena_status map_weights(neff_file *f, kaena_err *err)
{
    const neff_disk_section *s = find(f, "WEIGHTS");
    f->weights_fault = -1;
    if (!s || s->size == 0)
        return KAENA_OK;
    void *p = mmap(NULL, s->size, PROT_READ, MAP_SHARED, f->fd, (off_t)s->offset);
    if (p == MAP_FAILED)
        return kaena_err_set(err, kaena_status_of_errno(errno), "section WEIGHTS: map: %s",
                             strerror(errno));
    f->weights = p;
    f->weights_bytes = s->size;
    f->weights_xxh64 = s->xxh64;
    kaena_fault_install();
    f->weights_fault = kaena_fault_add(p, s->size);
    if (f->weights_fault < 0)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "more than %d mappings are watched",
                          KAENA_FAULT_MAX);
    return KAENA_OK;
}

static kaena_status read_debug(neff_file *f, kaena_err *err)
{
    const neff_disk_section *s = find(f, "DEBUG");
    if (!s)
        return KAENA_OK;
    void *data;
    KAENA_TRY(copy_section(f, s, &data, err));
    f->debug = data;
    f->debug_bytes = s->size;
    return KAENA_OK;
}

static kaena_status read_all(neff_file *f, kaena_err *err)
{
    KAENA_TRY(read_header(f, err));
    KAENA_TRY(read_meta(f, err));
    KAENA_TRY(read_programs(f, err));
    KAENA_TRY(read_graphs(f, err));
    KAENA_TRY(map_weights(f, err));
    KAENA_TRY(read_debug(f, err));
    KAENA_TRY(neff_check_meta(f, err));
    return neff_check_plan(f, err);
}

/* --- Life
 * ------------------------------------------------------------------------------------------------------------------
 */

/* In pieces: nobody of the process can map anything while the kernel takes a mapping apart. */
static void unmap(const uint8_t *p, size_t bytes)
{
    const size_t piece = (size_t)2 << 20;
    for (size_t at = 0; at < bytes; at += piece)
        (void)munmap((void *)(uintptr_t)(p + at), bytes - at < piece ? bytes - at : piece);
}

static neff_file *destroy(neff_file *f)
{
    kaena_fault_remove(f->weights_fault);
    if (f->weights)
        unmap(f->weights, f->weights_bytes);
    (void)close(f->fd);
    kaena_arena_fini(&f->meta_arena);
    kaena_arena_fini(&f->arena);
    free(f);
    return NULL;
}

/* Takes |fd|. */
static kaena_status open_own(int fd, const char *name, neff_file **out, kaena_err *err)
{
    neff_file *f = calloc(1, sizeof *f);
    if (!f) {
        (void)close(fd);
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "open '%s': no memory", name);
    }
    atomic_init(&f->refs, 1);
    f->fd = fd;
    f->weights_fault = -1;
    kaena_arena_init(&f->arena, NEFF_MAX_MEMORY);
    f->name = kaena_arena_strdup(&f->arena, name);
    kaena_status status = read_all(f, err);
    if (status != KAENA_OK) {
        f = destroy(f);
        return kaena_err_wrap(err, neff_blame_file(status, err), "'%s'", name);
    }
    *out = f;
    return KAENA_OK;
}

kaena_status neff_open(const char *path, neff_file **out, kaena_err *err)
{
    path = kaena_path_of_uri(path);
    /* O_NONBLOCK: a FIFO must not hang us; for files it means nothing. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "open '%s': %s", path,
                             strerror(errno));
    return open_own(fd, path, out, err);
}

kaena_status neff_open_fd(int fd, const char *name, neff_file **out, kaena_err *err)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return kaena_err_set(err, kaena_status_of_errno(errno), "open '%s': %s", name,
                             strerror(errno));
    return open_own(own, name, out, err);
}

neff_file *neff_ref(neff_file *f)
{
    atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    return f;
}

neff_file *neff_unref(neff_file *f)
{
    if (f && atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1)
        return destroy(f);
    return NULL;
}

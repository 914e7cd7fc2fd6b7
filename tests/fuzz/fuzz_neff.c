/* Fuzz target: the NEFF reader with everything it verifies. Checksums are made right before, so
 * that a changed byte gets past them. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "checked.h"
#include "format.h"
#include "neff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Makes the checksums of sections and header those of their contents, and the size the file's. */
static void seal(uint8_t *file, size_t size)
{
    neff_disk_header h;
    if (size < sizeof h)
        return;
    memcpy(&h, file, sizeof h);
    if (h.n_sections > NEFF_MAX_SECTIONS ||
        size < sizeof h + h.n_sections * sizeof(neff_disk_section))
        return;
    h.file_bytes = size;
    h.xxh64 = 0;
    memset(h.digest, 0, sizeof h.digest);
    XXH64_state_t x;
    (void)XXH64_reset(&x, 0);
    (void)XXH64_update(&x, &h, sizeof h);
    for (uint32_t i = 0; i < h.n_sections; i++) {
        neff_disk_section s;
        uint8_t *at = file + sizeof h + i * sizeof s;
        memcpy(&s, at, sizeof s);
        if (kaena_range_inside(s.offset, s.size, size))
            s.xxh64 = XXH64(file + s.offset, s.size, 0);
        memcpy(at, &s, sizeof s);
        (void)XXH64_update(&x, &s, sizeof s);
    }
    h.xxh64 = XXH64_digest(&x);
    memcpy(file, &h, sizeof h);
}

static void use(const neff_file *f)
{
    kaena_err err;
    if (neff_check_weights(f, &err) != KAENA_OK)
        abort();
    kaena_strbuf text = {0};
    for (uint32_t t = 0; t < neff_meta(f)->num_tpbs; t++)
        kisa_print_program(neff_program(f, t), &text);
    kaena_strbuf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 << 18)
        return 0;
    uint8_t *file = malloc(size + 1);
    int fd = memfd_create("neff", MFD_CLOEXEC);
    if (!file || fd < 0)
        abort();
    memcpy(file, data, size);
    seal(file, size);
    if (write(fd, file, size) != (ssize_t)size)
        abort();
    neff_file *f;
    kaena_err err;
    kaena_err_init(&err);
    if (neff_open_fd(fd, "fuzz.neff", &f, &err) == KAENA_OK) {
        use(f);
        f = neff_unref(f);
    } else if (!err.what[0]) {
        abort();
    }
    (void)close(fd);
    free(file);
    return 0;
}

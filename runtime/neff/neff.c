/* An open NEFF as others see it: checks of the whole file, views of its parts. */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "fault.h"
#include "neff_file.h"

#define PIECE ((uint64_t)1 << 20)

static kaena_status keep_pace(const neff_file *f, const neff_pace *pace, kaena_err *err)
{
    if (!pace || pace->go_on(pace->user))
        return KAENA_OK;
    return KAENA_FAIL(err, CANCELLED, "'%s': the check was given up", f->name);
}

static kaena_status digest_file(const neff_file *f, const neff_pace *pace, EVP_MD_CTX *sha,
                                uint8_t *buf, kaena_err *err)
{
    for (uint64_t at = 0, n; at < f->header.file_bytes; at += n) {
        n = f->header.file_bytes - at < PIECE ? f->header.file_bytes - at : PIECE;
        KAENA_TRY(neff_read_at(f, at, buf, n, err));
        if (at == 0)
            memset(buf + offsetof(neff_disk_header, digest), 0, sizeof f->header.digest);
        if (EVP_DigestUpdate(sha, buf, n) != 1)
            return KAENA_FAIL(err, INTERNAL, "'%s': SHA-256 failed", f->name);
        KAENA_TRY(keep_pace(f, pace, err));
    }
    uint8_t digest[EVP_MAX_MD_SIZE];
    if (EVP_DigestFinal_ex(sha, digest, NULL) == 1 &&
        memcmp(digest, f->header.digest, sizeof f->header.digest) == 0)
        return KAENA_OK;
    return KAENA_FAIL(err, DATA_LOSS,
                      "'%s': wrong SHA-256: the file is not what its compiler wrote", f->name);
}

kaena_status neff_check_digest(const neff_file *f, const neff_pace *pace, kaena_err *err)
{
    uint8_t *buf = malloc(PIECE);
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    kaena_status status = buf && sha && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1
                              ? digest_file(f, pace, sha, buf, err)
                              : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "'%s': no memory", f->name);
    EVP_MD_CTX_free(sha);
    free(buf);
    return neff_blame_file(status, err);
}

static kaena_status sum_weights(const neff_file *f, const neff_pace *pace, XXH64_state_t *sum,
                                kaena_err *err)
{
    (void)XXH64_reset(sum, 0);
    for (uint64_t at = 0, n; at < f->weights_bytes; at += n) {
        n = f->weights_bytes - at < PIECE ? f->weights_bytes - at : PIECE;
        (void)XXH64_update(sum, f->weights + at, n);
        KAENA_TRY(keep_pace(f, pace, err));
    }
    if (neff_weights_lost(f))
        return KAENA_FAIL(err, DATA_LOSS, "'%s': section WEIGHTS: the file was truncated", f->name);
    if (XXH64_digest(sum) != f->weights_xxh64)
        return KAENA_FAIL(err, DATA_LOSS, "'%s': section WEIGHTS: wrong checksum", f->name);
    return KAENA_OK;
}

kaena_status neff_check_weights(const neff_file *f, const neff_pace *pace, kaena_err *err)
{
    if (!f->weights)
        return KAENA_OK;
    XXH64_state_t *sum = XXH64_createState();
    kaena_status status = sum ? sum_weights(f, pace, sum, err)
                              : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "'%s': no memory", f->name);
    (void)XXH64_freeState(sum);
    return neff_blame_file(status, err);
}

bool neff_weights_lost(const neff_file *f)
{
    return kaena_fault_hit(f->weights_fault);
}

/* --- Views
 * ------------------------------------------------------------------------------------------------------------------
 */

const Kaena__V1__NeffMeta *neff_meta(const neff_file *f)
{
    return f->meta;
}

const char *neff_digest(const neff_file *f)
{
    return f->digest;
}

uint32_t neff_n_values(const neff_file *f)
{
    return (uint32_t)f->meta->n_values;
}

neff_tensor neff_value(const neff_file *f, uint32_t i)
{
    return f->value[i];
}

uint32_t neff_n_inputs(const neff_file *f)
{
    return (uint32_t)f->meta->n_inputs;
}

neff_tensor neff_input(const neff_file *f, uint32_t i)
{
    return f->value[f->meta->inputs[i]];
}

uint32_t neff_n_outputs(const neff_file *f)
{
    return (uint32_t)f->meta->n_outputs;
}

neff_tensor neff_output(const neff_file *f, uint32_t i)
{
    return f->value[f->meta->outputs[i]];
}

const kisa_program *neff_program(const neff_file *f, uint32_t tpb)
{
    return &f->program[tpb];
}

kisa_program neff_program_at(const neff_file *f, uint32_t tpb, uint32_t entry)
{
    const kisa_program *p = &f->program[tpb];
    uint32_t end = entry;
    while (end < p->n && p->inst[end].op != KISA_HALT)
        end++;
    return (kisa_program){.inst = p->inst + entry, .n = end - entry + (end < p->n)};
}

uint32_t neff_n_graphs(const neff_file *f)
{
    return f->n_graphs;
}

const kgr_graph *neff_graph(const neff_file *f, uint32_t i)
{
    return f->graph[i];
}

const uint8_t *neff_weights(const neff_file *f, uint64_t *size)
{
    *size = f->weights_bytes;
    return f->weights;
}

const void *neff_debug(const neff_file *f, size_t *size)
{
    *size = f->debug_bytes;
    return f->debug;
}

uint32_t neff_sections(const neff_file *f, neff_section_info *out, uint32_t max)
{
    for (uint32_t i = 0; i < f->header.n_sections && i < max; i++)
        out[i] = (neff_section_info){
            .name = f->section[i].name, .offset = f->section[i].offset, .size = f->section[i].size};
    return f->header.n_sections;
}

uint32_t neff_format_version(const neff_file *f, uint32_t *minor)
{
    *minor = f->header.minor;
    return f->header.major;
}

const char *neff_compiler(const neff_file *f)
{
    return f->header.compiler;
}

const char *neff_target(const neff_file *f)
{
    return f->header.target;
}

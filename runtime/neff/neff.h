/* The NEFF artifact: reader (mapped, verified) and writer. format.h has the on-disk structs;
 * proto/kaena/v1/neff.proto the META section.
 *
 * A NEFF is untrusted: neff_open copies and checks header, META, CODE and HOST, verifies every
 * program and graph, and leaves WEIGHTS mapped. */
#ifndef KAENA_NEFF_H
#define KAENA_NEFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtype.h"
#include "err.h"
#include "graph.h"
#include "isa.h"
#include "kaena/v1/neff.pb-c.h"
#include "shape.h"

#define NEFF_FORMAT_MAJOR 1
#define NEFF_FORMAT_MINOR 1 /* the newest this reader knows; a writer takes the lowest it needs */

typedef struct neff_file neff_file; /* reference-counted, immutable after open */

/* Opens and verifies a file. |name| in messages is the path.
 * FAILED_PRECONDITION (reason VERSION_MISMATCH): another major or an unknown required feature; the
 * message has both versions, the file's compiler and the remedy. DATA_LOSS (BAD_ARTIFACT): damaged;
 * the message names section and place. Thread: any. */
kaena_status neff_open(const char *path, neff_file **out, kaena_err *err) KAENA_CHECKED;
/* The same from a descriptor (a sealed memfd, a file below the model directory); dups what it
 * keeps. */
kaena_status neff_open_fd(int fd, const char *name, neff_file **out, kaena_err *err) KAENA_CHECKED;
neff_file *neff_ref(neff_file *f);
neff_file *neff_unref(neff_file *f);

/* The META section, unpacked and checked: indices in range, names sane and unique (an output may
 * have the name of an input that it hands on), plan finite, shapes of known sizes. Borrowed. */
const Kaena__V1__NeffMeta *neff_meta(const neff_file *f);
/* SHA-256 of the file with the digest field zero, as stored; 64 hexadecimal digits. */
const char *neff_digest(const neff_file *f);

/* How a check that reads a whole file takes its time: |go_on(user)| is asked after every mebibyte.
 * It may sleep; false ends the check with CANCELLED. */
typedef struct neff_pace {
    bool (*go_on)(void *user);
    void *user;
} neff_pace;

/* Recomputes the digest and compares. DATA_LOSS. |pace| NULL: at full speed. */
kaena_status neff_check_digest(const neff_file *f, const neff_pace *pace,
                               kaena_err *err) KAENA_CHECKED;
/* The same of WEIGHTS and its checksum (xxHash64). */
kaena_status neff_check_weights(const neff_file *f, const neff_pace *pace,
                                kaena_err *err) KAENA_CHECKED;

/* A tensor a model takes or gives, or that plan steps exchange: value |i| of META. Borrowed. */
typedef struct neff_tensor {
    const char *name;
    kaena_dtype dtype;
    kaena_shape shape;
    uint64_t bytes; /* 0 for strings and dynamic values */
    bool dynamic;   /* |shape| has unknown dimensions, or the form is not a tensor */
    bool any_rank;  /* |shape| is meaningless */
    uint8_t form;   /* kop_form */
} neff_tensor;
/* Has a value of that type a buffer of t->bytes? */
static inline bool neff_has_buffer(const neff_tensor *t)
{
    return !t->dynamic && t->dtype != KAENA_STRING;
}
uint32_t neff_n_values(const neff_file *f);
neff_tensor neff_value(const neff_file *f, uint32_t i);
uint32_t neff_n_inputs(const neff_file *f);
neff_tensor neff_input(const neff_file *f, uint32_t i);
uint32_t neff_n_outputs(const neff_file *f);
neff_tensor neff_output(const neff_file *f, uint32_t i);

/* The decoded, verified program of a TPB (all device steps; entries are in META). */
const kisa_program *neff_program(const neff_file *f, uint32_t tpb);
/* The slice of it that device step |entry| runs: from there through HALT. */
kisa_program neff_program_at(const neff_file *f, uint32_t tpb, uint32_t entry);
/* Graph |i| of the HOST section, checked. */
uint32_t neff_n_graphs(const neff_file *f);
const kgr_graph *neff_graph(const neff_file *f, uint32_t i);
/* The mapped WEIGHTS section: page-aligned, read-only, shared between processes. */
const uint8_t *neff_weights(const neff_file *f, uint64_t *size);

/* The section's file was truncated by somebody while it was mapped; what has been computed since is
 * worthless. Cheap. Thread: any. */
bool neff_weights_lost(const neff_file *f);
/* The DEBUG section; NULL without one. */
const void *neff_debug(const neff_file *f, size_t *size);

/* Required features (format.h) of an artifact with this META. */
uint64_t neff_features_of(const Kaena__V1__NeffMeta *meta);

/* For reports. */
const char *neff_compiler(const neff_file *f); /* as the header names it: "kcc 0.1.0" */
const char *neff_target(const neff_file *f);
typedef struct neff_section_info {
    const char *name;
    uint64_t offset, size;
} neff_section_info;
uint32_t neff_sections(const neff_file *f, neff_section_info *out, uint32_t max);
uint32_t neff_format_version(const neff_file *f, uint32_t *minor);

/* --- Writing
 * -------------------------------------------------------------------------------------------------------------------------------
 */

typedef struct neff_content {
    const Kaena__V1__NeffMeta *meta;
    const kisa_program *programs; /* [meta->num_tpbs] */
    const kgr_graph *const *graphs;
    uint32_t n_graphs;
    /* WEIGHTS is given as pieces at ascending offsets, gaps are zero: large constants need not be
     * gathered first. */
    const struct neff_piece {
        uint64_t offset, size;
        const void *data;
    } * weights;
    uint32_t n_pieces;
    uint64_t weights_bytes;
    const void *debug; /* DEBUG section: may be NULL */
    size_t debug_bytes;
} neff_content;

/* Writes through a temporary file and a rename; computes checksums and digest; then the file is
 * opened and verified like any other, so that kcc cannot write what krtd refuses. */
kaena_status neff_write(const char *path, const neff_content *content,
                        kaena_err *err) KAENA_CHECKED;

#endif

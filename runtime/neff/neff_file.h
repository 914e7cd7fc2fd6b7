/* An open NEFF, between the parts of the reader. */
#ifndef NEFF_FILE_H
#define NEFF_FILE_H

#include <stdatomic.h>

#include "arena.h"
#include "format.h"
#include "neff.h"

struct neff_file {
    atomic_uint refs;
    int fd;
    kaena_arena arena; /* owns everything below but |meta| and |weights| */
    const char *name;
    neff_disk_header header;
    neff_disk_section *section; /* [header.n_sections] */
    char digest[65];
    kaena_arena meta_arena;
    Kaena__V1__NeffMeta *meta;
    neff_tensor *value;    /* [meta->n_values] */
    kisa_program *program; /* [header.n_tpbs] */
    kgr_graph **graph;     /* [n_graphs] */
    uint32_t n_graphs;
    const uint8_t *weights; /* mapped */
    uint64_t weights_bytes, weights_xxh64;
    int weights_fault; /* handle of base/fault.h */
    const void *debug;
    size_t debug_bytes;
};

/* Reads |size| bytes at |offset|; DATA_LOSS where the file ends before. */
kaena_status neff_read_at(const neff_file *f, uint64_t offset, void *to, uint64_t size,
                          kaena_err *err) KAENA_CHECKED;
/* Gives DATA_LOSS the reason that clients see, BAD_ARTIFACT; returns |status|. */
kaena_status neff_blame_file(kaena_status status, kaena_err *err);

/* Checks META by itself and fills |value|. Programs, graphs and weights are in place. */
kaena_status neff_check_meta(neff_file *f, kaena_err *err) KAENA_CHECKED;
/* Checks the plan: bodies nest within bounds and belong to one step each; on every path every value
 * is made before it is used, and by one step; what is handed on is of the type it is handed to;
 * every device step verifies. */
kaena_status neff_check_plan(const neff_file *f, kaena_err *err) KAENA_CHECKED;

#endif

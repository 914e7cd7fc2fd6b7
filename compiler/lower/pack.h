/* Packing of weights into the panels that LDW names (isa.def): K tiles one after another, each
 * padded to whole pairs with zeros. Results are cached per constant, so that every TPB names the
 * same bytes. */
#ifndef KCC_PACK_H
#define KCC_PACK_H

#include "lower.h"

typedef struct kcc_tile {
    uint32_t k;       /* elements */
    int64_t w_offset; /* bytes into a panel */
    int64_t x_offset; /* bytes from a row's start in the moving operand */
} kcc_tile;

typedef struct kcc_packed {
    kcc_buffer *buf;
    int64_t panel_stride; /* bytes */
    uint32_t n_tiles;
    kcc_tile *tile;
    const struct kcc_packed *joined; /* kcc_packed_join's second, whose tiles are here too */
} kcc_packed;

/* Group |group| of a convolution's weights [M][C / groups][kh][kw] for input view |x|: kernel rows
 * in order; within a row, columns and channels are one contiguous stretch where x's strides make
 * them so. */
kaena_status kcc_pack_conv(kcc_module *m, const kgr_value *w, const kcc_view *x,
                           const kop_window *window, int64_t group, const kcc_packed **out,
                           kaena_err *err) KAENA_CHECKED;
/* Matrices [...][K][N], or [N][K] when |transposed|; those of a batch follow each other. */
kaena_status kcc_pack_matrix(kcc_module *m, const kgr_value *b, kaena_dtype dtype, bool transposed,
                             const kcc_packed **out, kaena_err *err) KAENA_CHECKED;
/* The panels that PACK makes of a computed value [...][K][N], for a node that reads them. */
const kcc_packed *kcc_packed_of(kcc_module *m, const kgr_value *b);
/* Bytes of all panels of such a value, stored as |dtype|; 0: too many to count. */
uint64_t kcc_packed_bytes(const kaena_shape *b, kaena_dtype dtype);
/* One after the other, so that products with both add up; same panels, both in WEIGHTS. */
const kcc_packed *kcc_packed_join(kcc_module *m, const kcc_packed *a, const kcc_packed *b);
/* Depthwise weights [C][1][kh][kw] as [kh][kw][C]; no tiles. */
kaena_status kcc_pack_depthwise(kcc_module *m, const kgr_value *w, kaena_dtype dtype,
                                const kop_window *window, const kcc_packed **out,
                                kaena_err *err) KAENA_CHECKED;

#endif

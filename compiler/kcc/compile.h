/* One compilation: from a model file to a NEFF, as a pipeline of named stages. */
#ifndef KCC_COMPILE_H
#define KCC_COMPILE_H

#include <stdbool.h>
#include <stdint.h>

#include "framework.h"
#include "import_info.h"
#include "io_config.h"
#include "kaena/v1/neff.pb-c.h"
#include "options.h"
#include "tf_saved_model.h"
#include "unit.h"

#define KCC_VERSION_TEXT "kcc " KAENA_VERSION

struct kcc_compilation {
    /* What is asked for. */
    const kcc_framework *framework;         /* of |model|; not needed where |graph| is given */
    const char *model, *output, *io_config; /* io_config may be NULL */
    const char *params;                     /* MXNET's parameters; NULL: the model's latest */
    kcc_tf_choice choice;                   /* what of a SavedModel */
    /* Given: the model is compiled once for each, and the request's shapes choose; |io_config| is
     * the one at hand then. */
    const char *const *io_configs;
    uint32_t n_io_configs;
    kcc_options opt;
    bool dynamic_batch;     /* a request may have any number of items along axis 0 */
    bool verify;            /* run the result beside the reference */
    const char *dump_after; /* a stage's name, or NULL */
    bool keep_all; /* every value becomes an output of the model: verification looks for the layer
                      that parts */
    void (*progress)(const char *stage, double seconds); /* may be NULL */

    /* What comes of it; the arena's. */
    kaena_arena *arena;
    kcc_import_info info;
    kcc_tf_chosen chosen; /* of a SavedModel; else zero */
    kcc_io_config io;
    kgr_graph *graph;   /* set beforehand, with |info|: taken instead of importing |model| */
    kgr_graph **graphs; /* one per set of shapes; the first is |graph| */
    uint32_t n_graphs;
    kcc_unit **variant;                    /* [n_graphs] their units */
    kcc_unit *units;                       /* all of them, and their bodies' */
    uint32_t n_device_nodes, n_host_nodes; /* of all units */
    kcc_weights *weights;
    kisa_program *program; /* per TPB: the programs of all device steps, one after another */
    Kaena__V1__NeffMeta *meta;
};

/* Runs the stages up to |last| ("write" for all of them). The message of a failure says what the
 * model's file, node or value is called. */
kaena_status kcc_compile(kcc_compilation *c, const char *last, kaena_err *err) KAENA_CHECKED;

/* Names of the stages in order, for --help and -d; NULL after the last. */
const char *kcc_stage_name(uint32_t i);

/* meta.c: builds c->program and c->meta from the modules. */
kaena_status kcc_meta_build(kcc_compilation *c, kaena_err *err) KAENA_CHECKED;

/* debug.c: the DEBUG section, text: which instructions belong to which layer, where tensors lie. */
void kcc_debug_text(const kcc_compilation *c, kaena_strbuf *out);

/* report.c: what was compiled, for people. */
void kcc_report(const kcc_compilation *c, kaena_strbuf *out);

/* check.c: `kcc check` and `kcc list-operators`. */
kaena_status kcc_check(kcc_compilation *c, kaena_strbuf *out, kaena_err *err) KAENA_CHECKED;
void kcc_list_operators(const kcc_framework *framework, kaena_strbuf *out);

#endif

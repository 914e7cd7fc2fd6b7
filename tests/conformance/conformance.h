/* The parts of the conformance runner: cases on disk, backends that execute them, comparison,
 * expected failures. */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include <stdbool.h>
#include <stdint.h>

#include "graph.h"
#include "io_config.h"

/* --- Cases ----------------------------------------------------------------------------------- */

/* A directory with a model and data. */
typedef struct conf_case {
    char *name; /* the last two parts of the path: "node/test_abs" */
    char *dir;
} conf_case;

typedef struct conf_cases {
    conf_case *list; /* sorted by name */
    size_t n, capacity;
} conf_cases;

/* One data set of a case. */
typedef struct conf_set {
    uint32_t n_in, n_out;
    kop_tensor in[KOP_MAX_INPUTS];
    kop_tensor out[KOP_MAX_OUTPUTS];
    const char *in_name[KOP_MAX_INPUTS]; /* the tensors' own names, or "" */
} conf_set;

/* How the cases of one framework are read. */
typedef struct conf_suite {
    const char *model; /* the file that makes a directory a case */
    bool long_names;   /* a case is called by all of its path below the directory that was given */
    bool by_type;      /* cases of common types are counted by themselves */
    /* Reads data set |index|. NOT_FOUND when there is no such set. */
    kaena_status (*read_set)(kaena_arena *arena, const char *dir, uint32_t index, conf_set *out,
                             kaena_err *err);
    /* Imports the case's model with shapes as in |set|, and brings |set| into the graph's order of
     * inputs. */
    kaena_status (*import)(kaena_arena *arena, const char *dir, conf_set *set, kgr_graph **out,
                           kaena_err *err);
    /* The importer refuses the case's model whatever the data: |err| says why. */
    bool (*is_unsupported)(kaena_arena *arena, const char *dir, kaena_err *err);
} conf_suite;

/* Adds the cases at and below |dir|; false (and a message on stderr) where there is none. */
bool conf_cases_find(conf_cases *cases, const conf_suite *suite, const char *dir);
void conf_cases_fini(conf_cases *cases);

/* The program: conf_run.c says its options. Returns the exit code. */
int conf_main(const conf_suite *suite, int argc, char **argv);

/* conf_onnx.c: the functions of ONNX's suite. */
kaena_status conf_onnx_set(kaena_arena *arena, const char *dir, uint32_t index, conf_set *out,
                           kaena_err *err) KAENA_CHECKED;
kaena_status conf_onnx_import(kaena_arena *arena, const char *dir, conf_set *set, kgr_graph **out,
                              kaena_err *err) KAENA_CHECKED;

/* --- Backends -------------------------------------------------------------------------------- */

/* Runs |g| on |in| (in the order of its inputs) and puts the results, in the order of its outputs,
 * into |out|, data in |arena|. |*device_nodes| becomes the number of nodes that emulated devices
 * ran; it is 0 on entry. UNIMPLEMENTED counts as an unsupported operator. */
typedef kaena_status (*conf_execute_fn)(kaena_arena *arena, kgr_graph *g, const kop_tensor *in,
                                        kop_tensor *out, uint32_t *device_nodes, kaena_err *err);

typedef struct conf_backend {
    const char *name;
    conf_execute_fn execute;
    bool has_devices;
} conf_backend;

/* conf_device.c: the same through a NEFF for |num_tpbs| TPBs. */
kaena_status conf_execute_device(kaena_arena *arena, kgr_graph *g, uint32_t num_tpbs,
                                 const kop_tensor *in, kop_tensor *out, uint32_t *device_nodes,
                                 kaena_err *err) KAENA_CHECKED;

extern const conf_backend conf_backends[];
extern const size_t conf_n_backends;

/* --- Comparison ------------------------------------------------------------------------------ */

/* What is equal enough: |got - want| <= rel * scale + abs, where scale is |want| of the element or
 * the largest |want| of the tensor. Integers, booleans and strings are exact; a NaN wants a NaN. */
typedef struct conf_tolerance {
    double rel, abs;
    bool of_largest;
} conf_tolerance;

typedef struct conf_difference {
    double worst;   /* largest |got - want| over the bound; above 1 fails */
    double largest; /* largest |got - want| */
    char text[256]; /* what differs, "" where nothing does */
} conf_difference;

/* True when |got| is good enough; |d| says how far off it is. */
bool conf_compare(const kop_tensor *got, const kop_tensor *want, const conf_tolerance *tolerance,
                  conf_difference *d);

/* --- Table ----------------------------------------------------------------------------------- */

/* Operators of a case's model, its bodies' too. */
typedef struct conf_ops {
    bool has[KOP_COUNT];
} conf_ops;
void conf_ops_of(const kgr_graph *g, conf_ops *out);

typedef struct conf_count {
    size_t cases, passed, on_device; /* of those that passed, with nodes on the device */
} conf_count;

#define CONF_MAX_SUITES 64
typedef struct conf_table {
    char suite_name[CONF_MAX_SUITES][64];
    conf_count suite[CONF_MAX_SUITES], op[KOP_COUNT]; /* KOP_NONE: no graph was imported */
    size_t n_suites;
} conf_table;
void conf_table_add(conf_table *t, const char *name, const conf_ops *ops, bool passed,
                    bool on_device);
void conf_table_print(const conf_table *t, const char *backend);

/* --- Expected failures ----------------------------------------------------------------------- */

/* Lines "pattern  reason" (fnmatch over case names); '#' begins a comment. */
typedef struct conf_xfail {
    char **pattern;
    char **reason;
    size_t n;
} conf_xfail;

/* False, with a message on stderr, when the file cannot be read or a line has no reason. */
bool conf_xfail_read(conf_xfail *x, const char *path);
/* Why |name| is expected to fail, or NULL. */
const char *conf_xfail_reason(const conf_xfail *x, const char *name);
void conf_xfail_fini(conf_xfail *x);

#endif

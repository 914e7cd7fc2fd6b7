/* What an importer learned beside the graph, for reports. */
#ifndef KCC_IMPORT_INFO_H
#define KCC_IMPORT_INFO_H

#include <stdint.h>

/* Strings live in the importer's arena; none is NULL. */
typedef struct kcc_import_info {
    const char *framework;  /* "ONNX" */
    const char *model_name; /* the graph's own name, or "" */
    const char *producer;   /* "pytorch 2.1", or "" */
    int64_t ir_version;
    int64_t opset;    /* of the default operator set; 0: the model imports none */
    uint32_t n_nodes; /* in the file, before anything was translated */
} kcc_import_info;

#endif

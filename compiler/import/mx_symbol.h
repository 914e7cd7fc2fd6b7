/* symbol.json as plain data: nodes, what they read, and the outputs ("heads"). */
#ifndef KCC_MX_SYMBOL_H
#define KCC_MX_SYMBOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "err.h"

/* Output |index| of node |node|. */
typedef struct mx_entry {
    uint32_t node, index;
} mx_entry;

/* Everything is text in a symbol: "(3, 3)", "True", "1e-05". */
typedef struct mx_attr {
    const char *name, *text;
} mx_attr;

typedef struct mx_node {
    const char *op; /* "null": a variable */
    const char *name;
    const mx_attr *attr; /* `param`, then `attr` or `attrs`: the first of a name counts */
    uint32_t n_attr;
    const mx_entry *in;
    uint32_t n_in;
} mx_node;

typedef struct mx_symbol {
    const mx_node *nodes;
    uint32_t n_nodes;
    const mx_entry *heads;
    uint32_t n_heads;
    int64_t version; /* of MXNet: 10500 is 1.5.0; 800 where the file does not say */
} mx_symbol;

static inline bool mx_is_variable(const mx_node *n)
{
    return n->op[0] == 'n' && n->op[1] == 'u' && n->op[2] == 'l' && n->op[3] == 'l' && !n->op[4];
}

/* Parses |text|, [size] bytes without a terminator; everything lives in |arena|. Entries name nodes
 * that exist; nothing is said about their order.
 * INVALID_ARGUMENT: not a symbol, or damaged; the message has the line or the node. */
kaena_status mx_symbol_parse(kaena_arena *arena, const char *text, size_t size, mx_symbol *out,
                             kaena_err *err) KAENA_CHECKED;

/* The nodes that |heads| need, each after what it reads: |*order| of |*n| node numbers in |arena|.
 * INVALID_ARGUMENT: they read each other in a circle; the message names one. */
kaena_status mx_symbol_order(kaena_arena *arena, const mx_symbol *s, const mx_entry *heads,
                             uint32_t n_heads, uint32_t **order, uint32_t *n,
                             kaena_err *err) KAENA_CHECKED;

#endif

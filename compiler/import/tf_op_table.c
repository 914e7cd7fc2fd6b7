/* tf_ops.def as a table, found by name. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tf_xlat.h"

static const tf_op_row rows[] = {
#define TF_OP(name, min_in, max_in, translation, canonical, results)                               \
    {#name, min_in, max_in, KOP_##canonical, results, tf_x_##translation},
#define TF_NO_RESULT(name) {#name, 0, UINT32_MAX, KOP_NONE, "", NULL},
#include "tf_ops.def"
#undef TF_OP
#undef TF_NO_RESULT
};

#define N_ROWS (sizeof rows / sizeof rows[0])

static const tf_op_row *sorted[N_ROWS];
static pthread_once_t sorted_once = PTHREAD_ONCE_INIT;

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const tf_op_row *const *)a)->name, (*(const tf_op_row *const *)b)->name);
}

static void sort_rows(void)
{
    for (size_t i = 0; i < N_ROWS; i++)
        sorted[i] = &rows[i];
    qsort(sorted, N_ROWS, sizeof sorted[0], by_name);
}

const tf_op_row *tf_op_find(const char *op)
{
    (void)pthread_once(&sorted_once, sort_rows);
    const tf_op_row key = {.name = op}, *wanted = &key;
    const tf_op_row *const *found = bsearch(&wanted, sorted, N_ROWS, sizeof sorted[0], by_name);
    return found ? *found : NULL;
}

const tf_op_row *tf_op_at(uint32_t i)
{
    return i < N_ROWS ? &rows[i] : NULL;
}

/* --- Results ---------------------------------------------------------------------------------- */

/* One output argument of a row's |results|. */
typedef struct argument {
    const char *name;
    size_t size; /* of the name */
    bool unwanted;
    uint32_t ports;
} argument;

static uint32_t list_length(const tf_node *n, const char *name, size_t size)
{
    for (uint32_t i = 0; i < n->n_attr; i++) {
        const Tensorflow__AttrValue *v = n->attr[i].value;
        if (strlen(n->attr[i].name) != size || memcmp(n->attr[i].name, name, size) != 0)
            continue;
        if (v->value_case == TENSORFLOW__ATTR_VALUE__VALUE_I && v->i >= 0 && v->i <= TF_MAX_PORTS)
            return (uint32_t)v->i;
        if (v->value_case == TENSORFLOW__ATTR_VALUE__VALUE_LIST && v->list->n_type <= TF_MAX_PORTS)
            return (uint32_t)v->list->n_type;
    }
    return 0;
}

/* Takes the next word of |*at|; false at the end. */
static bool next_argument(const tf_node *n, const char **at, argument *out)
{
    const char *s = *at + strspn(*at, " ");
    size_t word = strcspn(s, " ");
    *at = s + word;
    if (word == 0)
        return false;
    out->unwanted = *s == '-';
    s += out->unwanted;
    word -= out->unwanted;
    const char *star = memchr(s, '*', word);
    out->name = s;
    out->size = star ? (size_t)(star - s) : word;
    out->ports = star ? list_length(n, star + 1, word - out->size - 1) : 1;
    return true;
}

static const char *results_of(const tf_node *n)
{
    const tf_op_row *row = tf_op_find(n->op);
    return row ? row->results : "";
}

uint32_t tf_op_ports(const tf_node *n)
{
    const char *at = results_of(n);
    uint32_t ports = 0;
    argument a;
    if (!*at)
        return 1;
    while (next_argument(n, &at, &a))
        ports += a.ports;
    return ports;
}

bool tf_op_port_wanted(const tf_node *n, uint32_t port)
{
    const char *at = results_of(n);
    uint32_t first = 0;
    argument a;
    while (next_argument(n, &at, &a)) {
        if (port >= first && port - first < a.ports)
            return !a.unwanted;
        first += a.ports;
    }
    return true;
}

bool tf_op_port_of(const tf_node *n, const char *name, uint32_t index, uint32_t *port)
{
    const char *results = results_of(n), *at = results;
    uint32_t first = 0;
    argument a;
    bool several = strchr(results, ' ') != NULL;
    if (!several) {
        *port = index;
        return true;
    }
    while (next_argument(n, &at, &a)) {
        if (strlen(name) == a.size && memcmp(name, a.name, a.size) == 0) {
            *port = first + index;
            return index < a.ports;
        }
        first += a.ports;
    }
    return false;
}

/* Results by suite (the first part of a case's name) and by operator. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conformance.h"

void conf_ops_of(const kgr_graph *g, conf_ops *out)
{
    for (const kgr_node *n = g->first; n; n = n->next) {
        out->has[n->op] = true;
        for (uint32_t i = 0; i < n->n_body; i++)
            conf_ops_of(n->body[i], out);
    }
}

static conf_count *row_of(conf_table *t, const char *name, size_t size)
{
    for (size_t i = 0; i < t->n_suites; i++)
        if (strlen(t->suite_name[i]) == size && memcmp(t->suite_name[i], name, size) == 0)
            return &t->suite[i];
    if (t->n_suites == CONF_MAX_SUITES)
        return &t->suite[CONF_MAX_SUITES - 1];
    (void)snprintf(t->suite_name[t->n_suites], sizeof t->suite_name[0], "%.*s", (int)size, name);
    return &t->suite[t->n_suites++];
}

static void count(conf_count *c, bool passed, bool on_device)
{
    c->cases++;
    c->passed += passed;
    c->on_device += passed && on_device;
}

void conf_table_add(conf_table *t, const char *name, const conf_ops *ops, bool passed,
                    bool on_device)
{
    count(row_of(t, name, strcspn(name, "/")), passed, on_device);
    bool any = false;
    for (int op = KOP_NONE + 1; op < KOP_COUNT; op++)
        if (ops->has[op]) {
            count(&t->op[op], passed, on_device);
            any = true;
        }
    if (!any)
        count(&t->op[KOP_NONE], passed, on_device);
}

static void print_row(const char *name, const conf_count *c)
{
    printf("%-28s %6zu %6zu %6zu  %5.1f %%\n", name, c->cases, c->passed, c->on_device,
           100.0 * (double)c->passed / (double)c->cases);
}

void conf_table_print(const conf_table *t, const char *backend)
{
    printf("%-28s %6s %6s %6s\n", backend, "cases", "passed", "device");
    for (size_t i = 0; i < t->n_suites; i++)
        print_row(t->suite_name[i], &t->suite[i]);
    printf("%-28s\n", "with operator");
    for (int op = KOP_NONE + 1; op < KOP_COUNT; op++)
        if (t->op[op].cases)
            print_row(kop_row_of((kop_op)op)->name, &t->op[op]);
    if (t->op[KOP_NONE].cases)
        print_row("(not imported)", &t->op[KOP_NONE]);
}

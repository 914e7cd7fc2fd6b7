/* The table of MXNet's operators. */
#include <string.h>

#include "mx_internal.h"
#include "mx_ops.h"

static const mx_row rows[] = {
#define MX_OP(name, handler, op, inputs, outputs)                                                  \
    {name, mx_do_##handler, KOP_##op, inputs, outputs},
#include "mx_ops.def"
#undef MX_OP
};

#define N_ROWS (sizeof rows / sizeof *rows)
#define N_SLOTS 1024 /* of the hash table: a power of two, well above N_ROWS */
_Static_assert(N_ROWS * 2 <= N_SLOTS, "the table of operators needs more slots");

static uint32_t hash(const char *s)
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 16777619u;
    return h;
}

const mx_row *mx_row_find(const char *op)
{
    static _Thread_local uint16_t slots[N_SLOTS]; /* number of a row plus one; 0: empty */
    static _Thread_local bool built;
    for (size_t i = 0; !built && i < N_ROWS; i++) {
        uint32_t at = hash(rows[i].name) % N_SLOTS;
        while (slots[at])
            at = (at + 1) % N_SLOTS;
        slots[at] = (uint16_t)(i + 1);
    }
    built = true;
    for (uint32_t at = hash(op) % N_SLOTS; slots[at]; at = (at + 1) % N_SLOTS)
        if (strcmp(rows[slots[at] - 1].name, op) == 0)
            return &rows[slots[at] - 1];
    return NULL;
}

bool mx_row_slot(const mx_row *row, uint32_t i, char *name, size_t size, char *kind)
{
    const char *at = row->inputs;
    for (;;) {
        size_t n = strcspn(at, ",");
        bool more = n >= 3 && strncmp(at + n - 3, "...", 3) == 0;
        if (n == 0)
            return false;
        if (i == 0 || more) {
            n -= more ? 3 : 0;
            *kind = ' ';
            if (strchr("*~-", at[n - 1])) {
                *kind = at[n - 1];
                n--;
            }
            n = n < size ? n : size - 1;
            memcpy(name, at, n);
            name[n] = 0;
            return true;
        }
        if (!at[n])
            return false;
        at += n + 1;
        i--;
    }
}

const char *kcc_mx_operator(uint32_t i, kop_op *op)
{
    if (i >= N_ROWS)
        return NULL;
    *op = rows[i].op;
    return rows[i].name;
}

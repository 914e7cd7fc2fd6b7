/* The symbolic run of semaphores: every WAIT ends, within a bounded number of events.
 *
 * Semaphores only grow and a WAIT asks for "at least", so whether a run ends does not depend on the
 * order in which TPBs go on: one order is tried. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "isa_check.h"

/* A program reduced to its SIGNALs, WAITs and the loops around them. */
typedef struct sem_event {
    const kisa_inst *inst;
    uint32_t index; /* instruction in the program */
    uint32_t first; /* END: the event behind its LOOP */
} sem_event;

typedef struct sem_tpb {
    sem_event *event;
    uint32_t n, pc, depth;
    uint32_t left[KISA_MAX_LOOPS]; /* turns still to do */
    uint64_t value[KISA_SEMAPHORES];
} sem_tpb;

/* Loops without SIGNAL or WAIT are left out, so that each turn of a loop that stays has one. */
static bool reduce(const kisa_program *p, sem_tpb *t)
{
    t->event = NULL;
    t->n = t->pc = t->depth = 0;
    uint32_t capacity = 0, open[KISA_MAX_LOOPS], depth = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        uint16_t op = p->inst[i].op;
        if (op != KISA_LOOP && op != KISA_END && op != KISA_SIGNAL && op != KISA_WAIT)
            continue;
        if (op == KISA_END && t->n == open[depth - 1] + 1) {
            t->n = open[--depth];
            continue;
        }
        if (t->n == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            sem_event *grown = realloc(t->event, capacity * sizeof *grown);
            if (!grown)
                return false;
            t->event = grown;
        }
        if (op == KISA_LOOP)
            open[depth++] = t->n;
        t->event[t->n] = (sem_event){.inst = &p->inst[i], .index = i};
        if (op == KISA_END)
            t->event[t->n].first = open[--depth] + 1;
        t->n++;
    }
    return true;
}

static kaena_status signal_all(sem_tpb *tpb, uint32_t n_tpbs, const sem_event *e, uint32_t self,
                               kaena_err *err)
{
    const kisa_signal *s = &e->inst->u.signal;
    for (uint32_t j = 0; j < n_tpbs; j++) {
        if (!(s->mask >> j & 1))
            continue;
        tpb[j].value[s->sem] += s->amount;
        if (tpb[j].value[s->sem] > UINT32_MAX)
            return KAENA_FAIL(err, DATA_LOSS,
                              "tpb %u: instruction %u: SIGNAL: semaphore %u of TPB %u passes 2^32",
                              self, e->index, s->sem, j);
    }
    return KAENA_OK;
}

/* Runs one TPB until it waits or ends. */
static kaena_status advance(sem_tpb *tpb, uint32_t n_tpbs, uint32_t self, uint32_t *events,
                            kaena_err *err)
{
    sem_tpb *t = &tpb[self];
    while (t->pc < t->n) {
        const sem_event *e = &t->event[t->pc];
        if (e->inst->op == KISA_LOOP) {
            t->left[t->depth++] = e->inst->u.loop.count;
            t->pc++;
            continue;
        }
        if (e->inst->op == KISA_END) {
            bool again = --t->left[t->depth - 1] > 0;
            t->depth -= !again;
            t->pc = again ? e->first : t->pc + 1;
            continue;
        }
        const kisa_wait *w = &e->inst->u.wait;
        if (e->inst->op == KISA_WAIT && t->value[w->sem] < w->value)
            return KAENA_OK;
        if (++*events > KISA_MAX_SEM_EVENTS)
            return KAENA_FAIL(err, DATA_LOSS,
                              "tpb %u: instruction %u: more than %u SIGNALs and WAITs in one run",
                              self, e->index, KISA_MAX_SEM_EVENTS);
        if (e->inst->op == KISA_SIGNAL)
            KAENA_TRY(signal_all(tpb, n_tpbs, e, self, err));
        t->pc++;
    }
    return KAENA_OK;
}

static kaena_status run(sem_tpb *tpb, uint32_t n_tpbs, kaena_err *err)
{
    uint32_t events = 0, before;
    do {
        before = events;
        for (uint32_t i = 0; i < n_tpbs; i++)
            KAENA_TRY(advance(tpb, n_tpbs, i, &events, err));
    } while (events != before);
    for (uint32_t i = 0; i < n_tpbs; i++) {
        const sem_tpb *t = &tpb[i];
        if (t->pc == t->n)
            continue;
        const kisa_wait *w = &t->event[t->pc].inst->u.wait;
        return KAENA_FAIL(err, DATA_LOSS,
                          "tpb %u: instruction %u: WAIT: semaphore %u never reaches %u (every TPB "
                          "waits or has halted, and it is at %" PRIu64 ")",
                          i, t->event[t->pc].index, w->sem, w->value, t->value[w->sem]);
    }
    return KAENA_OK;
}

kaena_status kisa_check_semaphores(const kisa_program *programs, uint32_t n_tpbs, kaena_err *err)
{
    sem_tpb *tpb = calloc(n_tpbs, sizeof *tpb);
    bool ok = tpb != NULL;
    for (uint32_t i = 0; ok && i < n_tpbs; i++)
        ok = reduce(&programs[i], &tpb[i]);
    kaena_status status = ok ? run(tpb, n_tpbs, err)
                             : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory to check semaphores");
    for (uint32_t i = 0; tpb && i < n_tpbs; i++)
        free(tpb[i].event);
    free(tpb);
    return status;
}

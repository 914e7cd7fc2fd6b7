/* Threads that arrive, cancel, run and finish against one scheduler, as krtd does: the lock around
 * its steps, actions done outside of it. Every item has one end, and none runs that was given up
 * before. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "krt_sched.h"

#define FLOWS 4
#define CLIENTS 4
#define WORKERS 3
#define ITEMS 3000 /* of each client */

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

typedef struct request {
    krt_item item;
    struct request *next; /* among what is to be run */
    atomic_bool stop;
    atomic_uint ends, runs;
    uint32_t *tpb; /* memory of its TPB, which it has alone while it runs */
} request;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, ready_lock = PTHREAD_MUTEX_INITIALIZER;
static krt_sched sched;
static krt_flow flows[FLOWS];
static krt_lane lanes[FLOWS];
static uint32_t memory[2]; /* flows 0 and 1 share a TPB, 2 and 3 another */
static request *ready;
static atomic_ullong now;
static atomic_uint ended;
static request requests[CLIENTS][ITEMS];

static request *of_item(krt_item *i)
{
    return (request *)(void *)i;
}

static void end(request *r)
{
    (void)atomic_fetch_add(&r->ends, 1);
    (void)atomic_fetch_add(&ended, 1);
}

static void feed(krt_event e)
{
    krt_actions a;
    e.now_ns = atomic_fetch_add(&now, 1000);
    (void)pthread_mutex_lock(&lock);
    krt_sched_step(&sched, &e, &a);
    (void)pthread_mutex_unlock(&lock);
    for (krt_item *i = a.expired, *next; i; i = next) {
        next = i->after;
        end(of_item(i));
    }
    if (a.refused_full || a.refused_closed)
        end(of_item(e.item));
    (void)pthread_mutex_lock(&ready_lock);
    for (krt_item *i = a.start, *next; i; i = next) {
        next = i->after;
        of_item(i)->next = ready;
        ready = of_item(i);
    }
    (void)pthread_mutex_unlock(&ready_lock);
}

static void *worker(void *arg)
{
    (void)arg;
    while (atomic_load(&ended) < CLIENTS * ITEMS) {
        (void)pthread_mutex_lock(&ready_lock);
        request *r = ready;
        if (r)
            ready = r->next;
        (void)pthread_mutex_unlock(&ready_lock);
        if (!r) {
            sched_yield();
            continue;
        }
        if (!atomic_load(&r->stop)) {
            (void)atomic_fetch_add(&r->runs, 1);
            (*r->tpb)++; /* a race if another flow's runs at the same time */
        }
        feed((krt_event){.kind = KRT_FINISH, .item = &r->item, .ran_ns = 500});
        end(r);
    }
    return NULL;
}

static void *client(void *arg)
{
    request *mine = arg;
    uint32_t random = (uint32_t)(mine - &requests[0][0]) * 2654435761u + 1;
    for (int i = 0; i < ITEMS; i++) {
        random = random * 1664525u + 1013904223u;
        uint32_t f = (random >> 10) % FLOWS;
        request *r = &mine[i];
        r->tpb = &memory[f / 2];
        r->item.deadline_ns = (random >> 20) % 8 ? UINT64_MAX : atomic_load(&now) + 3000;
        r->item.priority = (int32_t)(random >> 16) % 8;
        feed((krt_event){.kind = KRT_ARRIVE, .flow = &flows[f], .item = &r->item});
        if ((random >> 24) % 4 == 0) {
            request *other = &mine[(random >> 4) % (uint32_t)(i + 1)];
            atomic_store(&other->stop, true);
            feed((krt_event){.kind = KRT_CANCEL, .item = &other->item});
        }
    }
    return NULL;
}

int main(void)
{
    pthread_t clients[CLIENTS], workers[WORKERS];
    for (uint32_t f = 0; f < FLOWS; f++) {
        lanes[f] = (krt_lane){.tpbs = UINT64_C(1) << (f / 2), .contexts = 1};
        krt_flow_init(&flows[f], 8, &lanes[f], 1);
        flows[f].holds = true;
    }
    for (int i = 0; i < WORKERS; i++)
        MUST(pthread_create(&workers[i], NULL, worker, NULL) == 0);
    for (int i = 0; i < CLIENTS; i++)
        MUST(pthread_create(&clients[i], NULL, client, requests[i]) == 0);
    for (int i = 0; i < CLIENTS; i++)
        MUST(pthread_join(clients[i], NULL) == 0);
    for (int i = 0; i < WORKERS; i++)
        MUST(pthread_join(workers[i], NULL) == 0);
    uint32_t runs = 0;
    for (int c = 0; c < CLIENTS; c++)
        for (int i = 0; i < ITEMS; i++) {
            MUST(requests[c][i].ends == 1 && requests[c][i].runs <= 1);
            runs += requests[c][i].runs;
        }
    MUST(runs == memory[0] + memory[1] && runs > 0);
    for (uint32_t f = 0; f < FLOWS; f++)
        MUST(krt_flow_idle(&flows[f]));
    return 0;
}

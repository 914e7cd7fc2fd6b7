/* Fuzz target: the binary form of graphs, as the HOST section of an artifact holds it. What is read
 * passes the check and can be written, inferred and evaluated within a quota. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

#define LARGEST ((int64_t)1 << 14) /* elements: more would only be slow */

/* A loop may be without end: evaluation is told to stop after a while. */
static atomic_bool stop;

static void on_timer(int number)
{
    (void)number;
    atomic_store_explicit(&stop, true, memory_order_relaxed);
}

static void set_timer(suseconds_t microseconds)
{
    struct sigaction act = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    struct itimerval timer = {.it_value = {.tv_usec = microseconds}};
    must(sigaction(SIGVTALRM, &act, NULL) == 0);
    must(setitimer(ITIMER_VIRTUAL, &timer, NULL) == 0);
    if (microseconds)
        atomic_store(&stop, false);
}

/* Puts |t| into a sequence or optional of the form that |form| says. */
static bool wrap(kaena_arena *arena, uint8_t form, kop_tensor *t)
{
    if (form == KOP_FORM_TENSOR)
        return true;
    kop_tensor *item = kaena_arena_memdup(arena, t, sizeof *t);
    if (!item || !wrap(arena, kop_item_form(form), item))
        return false;
    t->form = form;
    t->data = item;
    t->count = 1;
    return true;
}

/* Inputs of the types the graph says, with unknown dimensions 1; false where they are too large. */
static bool make_inputs(const kgr_graph *g, kaena_arena *arena, kop_tensor *in)
{
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        int64_t n;
        in[i] = g->inputs[i]->t;
        in[i].unranked = false;
        in[i].form = KOP_FORM_TENSOR;
        for (int32_t d = 0; d < in[i].shape.rank; d++)
            in[i].shape.dim[d] = in[i].shape.dim[d] < 0 ? 1 : in[i].shape.dim[d];
        if (!kaena_shape_elements(&in[i].shape, &n) || n > LARGEST || in[i].dtype == KAENA_STRING ||
            in[i].dtype == KAENA_DTYPE_NONE)
            return false;
        in[i].data = kaena_arena_array(arena, (size_t)n, kaena_dtype_size(in[i].dtype));
        if (!in[i].data)
            return false;
        kgr_random_fill(&in[i], i);
        if (!wrap(arena, g->inputs[i]->t.form, &in[i]))
            return false;
    }
    return true;
}

static void use(kgr_graph *g, kaena_arena *arena)
{
    kaena_err err;
    kaena_err_init(&err);
    kaena_strbuf bytes = {0};
    kgr_serialise(g, &bytes);
    kgr_graph *again;
    kaena_status s = kgr_deserialise(arena, bytes.data, bytes.size, &again, &err);
    must(s == KAENA_OK || s == KAENA_RESOURCE_EXHAUSTED);
    kop_tensor *in = calloc(g->n_inputs + 1, sizeof *in),
               *out = calloc(g->n_outputs + 1, sizeof *out);
    kaena_arena results;
    kaena_arena_init(&results, (size_t)4 << 20);
    set_timer(100000);
    if (in && out && make_inputs(g, &results, in))
        (void)!kgr_eval(g, in, out, &(kop_env){.arena = &results, .stop = &stop}, &err);
    set_timer(0);
    kaena_arena_fini(&results);
    free(in);
    free(out);
    (void)!kgr_infer(g, /* infer_data= */ true, &err);
    kaena_strbuf_fini(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kaena_arena arena;
    kaena_err err;
    kgr_graph *g;
    kaena_arena_init(&arena, (size_t)16 << 20);
    kaena_err_init(&err);
    void *copy = aligned_alloc(8, (size + 8) / 8 * 8);
    must(copy != NULL);
    if (size)
        memcpy(copy, data, size);
    if (kgr_deserialise(&arena, copy, size, &g, &err) != KAENA_OK) {
        must(err.what[0] != 0);
    } else {
        must(kgr_check(g, &err) == KAENA_OK);
        use(g, &arena);
    }
    free(copy);
    kaena_arena_fini(&arena);
    return 0;
}

#include "kneff.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Also used by programs without Criterion. */
static void must(kaena_status status, const kaena_err *err, const char *what)
{
    if (status == KAENA_OK)
        return;
    (void)fprintf(stderr, "%s: %s\n", what, err->what);
    abort();
}

void kneff_init(kneff *k, uint32_t n_tpbs, const char *const *text)
{
    *k = (kneff){.meta = KAENA__V1__NEFF_META__INIT, .plan = KAENA__V1__NEFF_PLAN__INIT};
    kaena_arena_init(&k->arena, 0);
    kaena_err err;
    for (uint32_t i = 0; i < n_tpbs; i++)
        must(kisa_assemble(&k->arena, text[i], &k->programs[i], &err), &err, "assemble");
    k->meta.model_name = "test";
    k->meta.compiler = "kcc test";
    k->meta.framework = "ONNX";
    k->meta.cast_mode = "none";
    k->meta.optimize = "latency";
    k->meta.num_tpbs = n_tpbs;
    k->meta.contexts = 1;
    k->meta.sb_bytes = KISA_SB_BYTES;
    k->meta.values = k->values;
    k->meta.inputs = k->inputs;
    k->meta.outputs = k->outputs;
    k->meta.plan = &k->plan;
    k->plan.steps = k->steps;
    k->meta.bodies = k->body_list;
    k->open[0] = &k->plan;
    k->content = (neff_content){
        .meta = &k->meta, .programs = k->programs, .graphs = k->graphs, .weights = &k->weights};
}

void kneff_fini(kneff *k)
{
    kaena_arena_fini(&k->arena);
}

uint32_t kneff_value(kneff *k, const char *name, kaena_dtype dtype, int rank, const int64_t *dims)
{
    Kaena__V1__NeffValue *v = KAENA_NEW(&k->arena, Kaena__V1__NeffValue);
    Kaena__V1__TensorSpec *s = KAENA_NEW(&k->arena, Kaena__V1__TensorSpec);
    kaena__v1__neff_value__init(v);
    kaena__v1__tensor_spec__init(s);
    v->spec = s;
    s->name = kaena_arena_strdup(&k->arena, name);
    s->dtype = (Kaena__V1__DataType)dtype;
    s->n_shape = (size_t)rank;
    s->shape = kaena_arena_memdup(&k->arena, dims, (size_t)rank * sizeof *dims);
    k->values[k->meta.n_values] = v;
    return (uint32_t)k->meta.n_values++;
}

void kneff_input(kneff *k, uint32_t value)
{
    k->inputs[k->meta.n_inputs++] = value;
}

void kneff_output(kneff *k, uint32_t value)
{
    k->outputs[k->meta.n_outputs++] = value;
}

static Kaena__V1__NeffStep *add_step(kneff *k)
{
    Kaena__V1__NeffStep *s = KAENA_NEW(&k->arena, Kaena__V1__NeffStep);
    kaena__v1__neff_step__init(s);
    Kaena__V1__NeffPlan *plan = k->open[k->depth];
    plan->steps[plan->n_steps++] = s;
    return s;
}

uint32_t kneff_body(kneff *k)
{
    uint32_t i = (uint32_t)k->meta.n_bodies++;
    kaena__v1__neff_plan__init(&k->bodies[i]);
    k->bodies[i].steps = k->body_steps[i];
    k->body_list[i] = &k->bodies[i];
    k->open[++k->depth] = &k->bodies[i];
    return i;
}

void kneff_close(kneff *k)
{
    k->depth--;
}

static uint32_t *copy(kneff *k, const uint32_t *list, uint32_t n)
{
    return kaena_arena_memdup(&k->arena, list, n * sizeof *list);
}

Kaena__V1__NeffIfStep *kneff_if(kneff *k, uint32_t condition, uint32_t then_body,
                                uint32_t else_body, uint32_t n, const uint32_t *then_results,
                                const uint32_t *else_results, const uint32_t *outputs)
{
    Kaena__V1__NeffStep *step = add_step(k);
    Kaena__V1__NeffIfStep *s = KAENA_NEW(&k->arena, Kaena__V1__NeffIfStep);
    kaena__v1__neff_if_step__init(s);
    step->kind_case = KAENA__V1__NEFF_STEP__KIND_BRANCH;
    step->branch = s;
    s->condition = condition;
    s->then_body = then_body;
    s->else_body = else_body;
    s->n_then_results = s->n_else_results = s->n_outputs = n;
    s->then_results = copy(k, then_results, n);
    s->else_results = copy(k, else_results, n);
    s->outputs = copy(k, outputs, n);
    return s;
}

Kaena__V1__NeffLoopStep *kneff_loop(kneff *k, uint32_t body)
{
    Kaena__V1__NeffStep *step = add_step(k);
    Kaena__V1__NeffLoopStep *s = KAENA_NEW(&k->arena, Kaena__V1__NeffLoopStep);
    kaena__v1__neff_loop_step__init(s);
    step->kind_case = KAENA__V1__NEFF_STEP__KIND_LOOP;
    step->loop = s;
    s->body = body;
    s->carried = KAENA_NEW_N(&k->arena, Kaena__V1__NeffCarried *, KNEFF_MAX);
    s->scans = KAENA_NEW_N(&k->arena, Kaena__V1__NeffScan *, KNEFF_MAX);
    return s;
}

void kneff_carry(kneff *k, Kaena__V1__NeffLoopStep *s, uint32_t initial, uint32_t in, uint32_t next,
                 uint32_t final)
{
    Kaena__V1__NeffCarried *v = KAENA_NEW(&k->arena, Kaena__V1__NeffCarried);
    kaena__v1__neff_carried__init(v);
    v->initial = initial;
    v->in = in;
    v->next = next;
    v->final = final;
    s->carried[s->n_carried++] = v;
}

void kneff_scan(kneff *k, Kaena__V1__NeffLoopStep *s, uint32_t element, uint32_t output)
{
    Kaena__V1__NeffScan *v = KAENA_NEW(&k->arena, Kaena__V1__NeffScan);
    kaena__v1__neff_scan__init(v);
    v->element = element;
    v->output = output;
    s->scans[s->n_scans++] = v;
}

Kaena__V1__NeffSelectStep *kneff_select(kneff *k, uint32_t n, const uint32_t *outputs)
{
    Kaena__V1__NeffStep *step = add_step(k);
    Kaena__V1__NeffSelectStep *s = KAENA_NEW(&k->arena, Kaena__V1__NeffSelectStep);
    kaena__v1__neff_select_step__init(s);
    step->kind_case = KAENA__V1__NEFF_STEP__KIND_SELECT;
    step->select = s;
    s->n_outputs = n;
    s->outputs = copy(k, outputs, n);
    s->cases = KAENA_NEW_N(&k->arena, Kaena__V1__NeffSelectCase *, KNEFF_MAX);
    return s;
}

void kneff_case(kneff *k, Kaena__V1__NeffSelectStep *s, uint32_t body, const uint32_t *inputs,
                const uint32_t *results)
{
    Kaena__V1__NeffSelectCase *v = KAENA_NEW(&k->arena, Kaena__V1__NeffSelectCase);
    kaena__v1__neff_select_case__init(v);
    v->body = body;
    v->n_inputs = k->meta.n_inputs;
    v->inputs = copy(k, inputs, (uint32_t)v->n_inputs);
    v->n_results = s->n_outputs;
    v->results = copy(k, results, (uint32_t)v->n_results);
    s->cases[s->n_cases++] = v;
}

void kneff_dynamic(kneff *k, uint32_t value, bool any_rank)
{
    Kaena__V1__NeffValue *v = k->values[value];
    v->dynamic = 1;
    v->spec->any_rank = any_rank;
    if (any_rank)
        v->spec->n_shape = 0;
}

void kneff_device(kneff *k, uint32_t entry, uint32_t n_io, const uint32_t *io, uint32_t written)
{
    Kaena__V1__NeffStep *s = add_step(k);
    Kaena__V1__NeffDeviceStep *d = KAENA_NEW(&k->arena, Kaena__V1__NeffDeviceStep);
    kaena__v1__neff_device_step__init(d);
    s->kind_case = KAENA__V1__NEFF_STEP__KIND_DEVICE;
    s->device = d;
    d->n_entries = k->meta.num_tpbs;
    d->entries = KAENA_NEW_N(&k->arena, uint32_t, d->n_entries);
    for (size_t i = 0; i < d->n_entries; i++)
        d->entries[i] = entry;
    d->n_io = d->n_io_written = n_io;
    d->io = kaena_arena_memdup(&k->arena, io, n_io * sizeof *io);
    d->io_written = KAENA_NEW_N(&k->arena, protobuf_c_boolean, n_io);
    for (uint32_t i = 0; i < n_io; i++)
        d->io_written[i] = written >> i & 1;
}

void kneff_host(kneff *k, const char *graph, uint32_t n_in, const uint32_t *in, uint32_t n_out,
                const uint32_t *out)
{
    Kaena__V1__NeffStep *s = add_step(k);
    Kaena__V1__NeffHostStep *h = KAENA_NEW(&k->arena, Kaena__V1__NeffHostStep);
    kaena__v1__neff_host_step__init(h);
    s->kind_case = KAENA__V1__NEFF_STEP__KIND_HOST;
    s->host = h;
    h->graph = k->content.n_graphs;
    h->n_inputs = n_in;
    h->inputs = kaena_arena_memdup(&k->arena, in, n_in * sizeof *in);
    h->n_outputs = n_out;
    h->outputs = kaena_arena_memdup(&k->arena, out, n_out * sizeof *out);
    kgr_graph *g;
    kaena_err err;
    must(kgr_parse(&k->arena, graph, strlen(graph), &g, &err), &err, "parse");
    must(kgr_infer(g, false, &err), &err, "infer");
    k->graphs[k->content.n_graphs++] = g;
    k->meta.host_quota_bytes = 1 << 20;
}

void kneff_weights(kneff *k, const void *data, uint64_t size)
{
    k->weights = (struct neff_piece){.size = size, .data = data};
    k->content.n_pieces = 1;
    k->content.weights_bytes = size;
}

int kneff_write_fd(kneff *k)
{
    char dir[] = "/tmp/kneff-XXXXXX", path[64];
    kaena_err err;
    if (!mkdtemp(dir))
        abort();
    (void)snprintf(path, sizeof path, "%s/m.neff", dir);
    must(neff_write(path, &k->content, &err), &err, "write");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    (void)unlink(path);
    (void)rmdir(dir);
    if (fd < 0)
        abort();
    return fd;
}

neff_file *kneff_open(kneff *k)
{
    int fd = kneff_write_fd(k);
    neff_file *f;
    kaena_err err;
    must(neff_open_fd(fd, "test.neff", &f, &err), &err, "open");
    (void)close(fd);
    return f;
}

#include "flow.h"

#include "checked.h"

#define VALUE_ALIGN 64

/* The walk over the tree; bodies nest at most NEFF_MAX_NESTING deep. */
typedef struct builder {
    kaena_arena *arena;
    const neff_file *f;
    const Kaena__V1__NeffMeta *meta;
    flow *out;
    uint32_t cap;
    uint64_t at; /* in the values' memory */
    bool failed; /* no memory */
} builder;

uint64_t flow_buffer_bytes(const neff_tensor *t)
{
    return kaena_align_up(t->bytes, VALUE_ALIGN);
}

static uint32_t add(builder *b, flow_op op)
{
    b->out->op[b->out->n] = op;
    return b->out->n++;
}

/* At most 2^16 values of 2^36 bytes: no overflow. */
static void own(builder *b, uint32_t value, uint32_t buffers)
{
    neff_tensor t = neff_value(b->f, value);
    if (!neff_has_buffer(&t))
        return;
    b->out->value_at[value] = (int64_t)b->at;
    b->at += buffers * flow_buffer_bytes(&t);
    if (b->at > b->out->values_bytes)
        b->out->values_bytes = b->at;
}

static void add_steps(builder *b, const Kaena__V1__NeffPlan *plan);

static void hand(builder *b, const uint32_t *from, const uint32_t *to, size_t n)
{
    if (n)
        (void)add(b, (flow_op){.kind = FLOW_HAND, .from = from, .to = to, .n = (uint32_t)n});
}

static void add_branch(builder *b, const Kaena__V1__NeffIfStep *s)
{
    uint32_t test = add(b, (flow_op){.kind = FLOW_IF, .step.branch = s});
    uint64_t before = b->at;
    add_steps(b, b->meta->bodies[s->then_body]);
    hand(b, s->then_results, s->outputs, s->n_outputs);
    uint64_t after = b->at;
    uint32_t jump = add(b, (flow_op){.kind = FLOW_JUMP});
    b->out->op[test].target = b->out->n;
    b->at = before;
    add_steps(b, b->meta->bodies[s->else_body]);
    hand(b, s->else_results, s->outputs, s->n_outputs);
    b->out->op[jump].target = b->out->n;
    b->at = after > b->at ? after : b->at;
}

static void add_loop(builder *b, const Kaena__V1__NeffLoopStep *s)
{
    flow_op op = {
        .kind = FLOW_LOOP, .index = b->out->n_loops++, .arena = b->out->n_arenas, .step.loop = s};
    b->out->n_arenas += 2 * (uint32_t)s->n_carried + 1;
    for (size_t i = 0; i < s->n_scans; i++)
        own(b, s->scans[i]->output, 1);
    if (s->iteration)
        own(b, s->iteration - 1, 1);
    if (s->condition_in)
        own(b, s->condition_in - 1, 1);
    for (size_t i = 0; i < s->n_carried; i++)
        own(b, s->carried[i]->in, 2);
    uint32_t loop = add(b, op);
    add_steps(b, b->meta->bodies[s->body]);
    op.kind = FLOW_TURN;
    op.target = loop + 1;
    (void)add(b, op);
    b->out->op[loop].target = b->out->n;
}

static void add_select(builder *b, const Kaena__V1__NeffSelectStep *s)
{
    uint32_t *targets = KAENA_NEW_N(b->arena, uint32_t, s->n_cases);
    b->failed = b->failed || !targets;
    if (!targets)
        return;
    (void)add(b, (flow_op){.kind = FLOW_SELECT, .targets = targets, .step.select = s});
    uint64_t before = b->at, most = before;
    for (size_t i = 0; i < s->n_cases; i++) {
        const Kaena__V1__NeffSelectCase *k = s->cases[i];
        targets[i] = b->out->n;
        b->at = before;
        add_steps(b, b->meta->bodies[k->body]);
        hand(b, k->results, s->outputs, s->n_outputs);
        (void)add(b, (flow_op){.kind = FLOW_JUMP});
        most = b->at > most ? b->at : most;
    }
    b->at = most;
    /* The last operation of each. */
    for (size_t i = 0; i < s->n_cases; i++) {
        uint32_t end = i + 1 < s->n_cases ? targets[i + 1] : b->out->n;
        b->out->op[end - 1].target = b->out->n;
    }
}

static void add_device(builder *b, const Kaena__V1__NeffDeviceStep *s)
{
    for (size_t i = 0; i < s->n_io; i++)
        if (s->io_written[i])
            own(b, s->io[i], 1);
    b->out->device[b->out->n_device] = s;
    (void)add(b, (flow_op){.kind = FLOW_DEVICE, .index = b->out->n_device++, .step.device = s});
}

static void add_host(builder *b, const Kaena__V1__NeffHostStep *s)
{
    for (size_t i = 0; i < s->n_outputs; i++)
        own(b, s->outputs[i], 1);
    (void)add(b, (flow_op){.kind = FLOW_HOST, .arena = b->out->n_arenas++, .step.host = s});
    b->out->n_host++;
}

static void add_steps(builder *b, const Kaena__V1__NeffPlan *plan)
{
    for (size_t i = 0; i < plan->n_steps; i++) {
        const Kaena__V1__NeffStep *s = plan->steps[i];
        switch (s->kind_case) {
        case KAENA__V1__NEFF_STEP__KIND_DEVICE:
            add_device(b, s->device);
            break;
        case KAENA__V1__NEFF_STEP__KIND_HOST:
            add_host(b, s->host);
            break;
        case KAENA__V1__NEFF_STEP__KIND_BRANCH:
            add_branch(b, s->branch);
            break;
        case KAENA__V1__NEFF_STEP__KIND_LOOP:
            add_loop(b, s->loop);
            break;
        case KAENA__V1__NEFF_STEP__KIND_SELECT:
            add_select(b, s->select);
            break;
        case KAENA__V1__NEFF_STEP__KIND__NOT_SET:
        case _KAENA__V1__NEFF_STEP__KIND__CASE_IS_INT_SIZE:
            break;
        }
    }
}

/* A step becomes at most four operations, a case of a select three besides its body. */
static size_t most_ops(const Kaena__V1__NeffPlan *plan)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->n_steps; i++) {
        const Kaena__V1__NeffStep *s = plan->steps[i];
        n += 4;
        if (s->kind_case == KAENA__V1__NEFF_STEP__KIND_SELECT)
            n += 3 * s->select->n_cases;
    }
    return n;
}

kaena_status flow_build(kaena_arena *arena, const neff_file *f, flow *out, kaena_err *err)
{
    const Kaena__V1__NeffMeta *meta = neff_meta(f);
    flow made = {0};
    builder b = {.arena = arena, .f = f, .meta = meta, .out = &made};
    size_t n = most_ops(meta->plan) + 1;
    for (size_t i = 0; i < meta->n_bodies; i++)
        n += most_ops(meta->bodies[i]);
    made.op = KAENA_NEW_N(arena, flow_op, n);
    made.device = KAENA_NEW_N(arena, const Kaena__V1__NeffDeviceStep *, n);
    made.value_at = KAENA_NEW_N(arena, int64_t, meta->n_values);
    if (!made.op || !made.device || !made.value_at)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the plan");
    for (size_t v = 0; v < meta->n_values; v++)
        made.value_at[v] = -1;
    add_steps(&b, meta->plan);
    (void)add(&b, (flow_op){.kind = FLOW_END});
    if (b.failed)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "no memory for the plan");
    *out = made;
    return KAENA_OK;
}

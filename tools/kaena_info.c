/* kaena-info: shows what a NEFF is. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "neff.h"

#define MAX_SECTIONS 1024

static const char usage[] =
    "usage: kaena-info [--json] [--disassemble [TPB]] [--check] F.neff\n"
    "\n"
    "  --json               the same as one JSON document, layers included\n"
    "  --disassemble [TPB]  the programs, or that of one TPB\n"
    "  --check              checks the weights' checksum and the file's SHA-256 too; opening\n"
    "                       the file has verified all the rest\n"
    "  -V, --version        prints the version\n";

typedef struct options {
    const char *path;
    bool json, disassemble, check;
    int64_t tpb; /* -1: all */
} options;

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

/* --- For people
 * ------------------------------------------------------------------------------------------------------------
 */

static void print_tensors(const char *title, uint32_t n,
                          neff_tensor (*get)(const neff_file *, uint32_t), const neff_file *f)
{
    printf("%s\n", title);
    for (uint32_t i = 0; i < n; i++) {
        neff_tensor t = get(f, i);
        char shape[KAENA_SHAPE_TEXT];
        printf("  %s  %s %s%s\n", t.name, kaena_dtype_name(t.dtype),
               kaena_shape_print(&t.shape, shape, sizeof shape), t.dynamic ? " (dynamic)" : "");
    }
}

/* Steps of each kind in a plan without its bodies. */
typedef struct step_counts {
    uint32_t device, host, branches, loops;
} step_counts;

static void count_steps(const Kaena__V1__NeffPlan *plan, step_counts *out)
{
    for (size_t i = 0; i < plan->n_steps; i++) {
        Kaena__V1__NeffStep__KindCase kind = plan->steps[i]->kind_case;
        out->device += kind == KAENA__V1__NEFF_STEP__KIND_DEVICE;
        out->host += kind == KAENA__V1__NEFF_STEP__KIND_HOST;
        out->branches += kind == KAENA__V1__NEFF_STEP__KIND_BRANCH;
        out->loops += kind == KAENA__V1__NEFF_STEP__KIND_LOOP;
    }
}

/* The sets of shapes a request may have, where there are several. */
static void print_cases(const neff_file *f)
{
    const Kaena__V1__NeffMeta *m = neff_meta(f);
    if (m->plan->n_steps != 1 || m->plan->steps[0]->kind_case != KAENA__V1__NEFF_STEP__KIND_SELECT)
        return;
    const Kaena__V1__NeffSelectStep *s = m->plan->steps[0]->select;
    for (size_t i = 0; i < s->n_cases; i++) {
        printf("shapes %-6zu", i + 1);
        for (size_t k = 0; k < s->cases[i]->n_inputs; k++) {
            char shape[KAENA_SHAPE_TEXT];
            neff_tensor t = neff_value(f, s->cases[i]->inputs[k]);
            printf(" %s%s", neff_input(f, (uint32_t)k).name,
                   kaena_shape_print(&t.shape, shape, sizeof shape));
        }
        printf("\n");
    }
}

static void print_plan(const neff_file *f)
{
    const Kaena__V1__NeffMeta *m = neff_meta(f);
    step_counts n = {0};
    count_steps(m->plan, &n);
    for (size_t i = 0; i < m->n_bodies; i++)
        count_steps(m->bodies[i], &n);
    uint64_t instructions = 0;
    for (uint32_t t = 0; t < m->num_tpbs; t++)
        instructions += neff_program(f, t)->n;
    printf("plan          %u device steps, %u host steps", n.device, n.host);
    if (n.branches || n.loops)
        printf(", %u branches, %u loops", n.branches, n.loops);
    printf("; %" PRIu64 " instructions\n", instructions);
    print_cases(f);
    if (m->dynamic_batch)
        printf("batch         any: padded or split to what was compiled\n");
}

static void print_estimates(const Kaena__V1__NeffMeta *m)
{
    if (m->n_estimates)
        printf("estimates     %12s %12s %12s %12s %8s  %s\n", "latency us", "runs/s", "items/s",
               "TPBs busy", "DRAM", "bottleneck");
    for (size_t i = 0; i < m->n_estimates; i++) {
        const Kaena__V1__NeffEstimate *e = m->estimates[i];
        char chips[24];
        (void)snprintf(chips, sizeof chips, "%u chip%s", e->chips, e->chips == 1 ? "" : "s");
        printf("  %-11s %12.1f %12.1f %12.1f %11.1f%% %7.1f%%  %s\n", chips, e->latency_us,
               e->throughput_per_s, e->items_per_s, 100 * e->tpb_utilisation,
               100 * e->dram_utilisation, e->bottleneck);
    }
    if (m->n_choices)
        printf("as pipelines  %12s %12s  %s\n", "runs/s chip", "DRAM MiB/run", "bottleneck");
    for (size_t i = 0; i < m->n_choices; i++) {
        const Kaena__V1__NeffChoice *c = m->choices[i];
        printf("  %2u TPB%-5s  %12.1f %12.2f  %s\n", c->num_tpbs, c->num_tpbs == 1 ? "" : "s",
               c->throughput_per_s, c->dram_bytes / (1 << 20), c->bottleneck);
    }
    if (m->advice[0])
        printf("advice        %s\n", m->advice);
}

static void print_text(const neff_file *f)
{
    const Kaena__V1__NeffMeta *m = neff_meta(f);
    uint32_t minor, major = neff_format_version(f, &minor);
    printf("model         %s (%s)\n", m->model_name, m->framework);
    printf("compiler      %s\n", neff_compiler(f));
    printf("format        %u.%u\n", major, minor);
    printf("target        %s, %u TPBs\n", neff_target(f), m->num_tpbs);
    printf("options       --fp32-cast %s --optimize %s\n", m->cast_mode, m->optimize);
    printf("contexts      %u\n", m->contexts);
    print_plan(f);
    printf("memory        SB %.2f MiB of a TPB's %.0f, SCRATCH %.2f MiB a context\n",
           mib(m->sb_bytes), mib(KISA_SB_BYTES), mib(m->scratch_bytes));
    printf("sha256        %s\n", neff_digest(f));
    print_tensors("inputs", neff_n_inputs(f), neff_input, f);
    print_tensors("outputs", neff_n_outputs(f), neff_output, f);

    neff_section_info s[MAX_SECTIONS];
    uint32_t n = neff_sections(f, s, MAX_SECTIONS);
    printf("sections      %12s %12s\n", "offset", "bytes");
    for (uint32_t i = 0; i < n && i < MAX_SECTIONS; i++)
        printf("  %-11s %12" PRIu64 " %12" PRIu64 "\n", s[i].name, s[i].offset, s[i].size);
    print_estimates(m);
    if (m->n_host_operators)
        printf("on the host\n");
    for (size_t i = 0; i < m->n_host_operators; i++)
        printf("  %s\n", m->host_operators[i]);
}

static int disassemble(const neff_file *f, int64_t tpb)
{
    uint32_t n = neff_meta(f)->num_tpbs;
    if (tpb >= n) {
        (void)fprintf(stderr, "kaena-info: no TPB %" PRId64 ", the model has %u\n", tpb, n);
        return 1;
    }
    for (uint32_t t = tpb < 0 ? 0 : (uint32_t)tpb; t < (tpb < 0 ? n : (uint32_t)tpb + 1); t++) {
        kaena_strbuf text = {0};
        kisa_print_program(neff_program(f, t), &text);
        printf("# TPB %u\n%s", t, text.data ? text.data : "");
        kaena_strbuf_fini(&text);
    }
    return 0;
}

/* --- For programs
 * ----------------------------------------------------------------------------------------------------------
 */

static json_t *json_tensors(uint32_t n, neff_tensor (*get)(const neff_file *, uint32_t),
                            const neff_file *f)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) {
        neff_tensor t = get(f, i);
        json_t *shape = json_array();
        for (int32_t d = 0; d < t.shape.rank; d++)
            (void)json_array_append_new(shape, json_integer(t.shape.dim[d]));
        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:b}", "name", t.name, "dtype",
                                                    kaena_dtype_name(t.dtype), "shape", shape,
                                                    "dynamic", (int)t.dynamic));
    }
    return list;
}

static json_t *json_sections(const neff_file *f)
{
    neff_section_info s[MAX_SECTIONS];
    uint32_t n = neff_sections(f, s, MAX_SECTIONS);
    json_t *list = json_array();
    for (uint32_t i = 0; i < n && i < MAX_SECTIONS; i++)
        (void)json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "name", s[i].name, "offset",
                                                    (json_int_t)s[i].offset, "bytes",
                                                    (json_int_t)s[i].size));
    return list;
}

static json_t *json_estimates(const Kaena__V1__NeffMeta *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < m->n_estimates; i++) {
        const Kaena__V1__NeffEstimate *e = m->estimates[i];
        (void)json_array_append_new(
            list, json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:s}", "chips", (json_int_t)e->chips,
                            "latency_us", e->latency_us, "throughput_per_s", e->throughput_per_s,
                            "items_per_s", e->items_per_s, "tpb_utilisation", e->tpb_utilisation,
                            "dram_utilisation", e->dram_utilisation, "bottleneck", e->bottleneck));
    }
    return list;
}

static json_t *json_advice(const Kaena__V1__NeffMeta *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < m->n_choices; i++) {
        const Kaena__V1__NeffChoice *c = m->choices[i];
        (void)json_array_append_new(list, json_pack("{s:I, s:f, s:f, s:s}", "tpbs",
                                                    (json_int_t)c->num_tpbs, "throughput_per_s",
                                                    c->throughput_per_s, "dram_bytes",
                                                    c->dram_bytes, "bottleneck", c->bottleneck));
    }
    return json_pack("{s:I, s:s, s:I, s:o}", "tpbs", (json_int_t)m->advised_tpbs, "why", m->advice,
                     "items", (json_int_t)m->estimate_items, "choices", list);
}

/* PE, ACT, POOL, DMA: all but SYNC, which is before them. */
#define ENGINES (KISA_ENGINE_COUNT - KISA_ENGINE_PE)

/* An object of microseconds by engine; none where |us| has not all of them. */
static json_t *json_engines(const double *us, size_t n)
{
    json_t *out = json_object();
    for (size_t e = 0; e < ENGINES && n == ENGINES; e++)
        (void)json_object_set_new(out, kisa_engine_name((kisa_engine)(KISA_ENGINE_PE + e)),
                                  json_real(us[e]));
    return out;
}

/* What the instructions of all programs keep each engine busy with, loops multiplied out. */
static json_t *json_busy(const neff_file *f)
{
    double us[ENGINES] = {0};
    for (uint32_t t = 0; t < neff_meta(f)->num_tpbs; t++) {
        const kisa_program *p = neff_program(f, t);
        double turns[KISA_MAX_LOOPS + 1] = {1};
        uint32_t depth = 0;
        for (uint32_t i = 0; i < p->n; i++) {
            kisa_cost_of cost = kisa_cost(&p->inst[i]);
            if (p->inst[i].op == KISA_LOOP) {
                turns[depth + 1] = turns[depth] * p->inst[i].u.loop.count;
                depth++;
            } else if (p->inst[i].op == KISA_END) {
                depth--;
            } else if (cost.engine >= KISA_ENGINE_PE) {
                us[cost.engine - KISA_ENGINE_PE] +=
                    cost.cycles * turns[depth] / KISA_CLOCK_HZ * 1e6;
            }
        }
    }
    return json_engines(us, ENGINES);
}

static json_t *json_layers(const Kaena__V1__NeffMeta *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < m->n_layers; i++) {
        const Kaena__V1__NeffLayer *l = m->layers[i];
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s, s:f, s:I, s:f, s:b, s:s, s:I, s:o}", "name", l->name,
                            "operator", l->operator_name, "flops", l->flops, "weight_bytes",
                            (json_int_t)l->weight_bytes, "estimated_us", l->estimated_us, "on_host",
                            (int)l->on_host, "engine", l->engine, "tpbs", (json_int_t)l->tpbs,
                            "engine_us", json_engines(l->engine_us, l->n_engine_us)));
    }
    return list;
}

static int print_json(const neff_file *f)
{
    const Kaena__V1__NeffMeta *m = neff_meta(f);
    uint32_t minor, major = neff_format_version(f, &minor);
    char format[32];
    (void)snprintf(format, sizeof format, "%u.%u", major, minor);
    json_t *host = json_array();
    for (size_t i = 0; i < m->n_host_operators; i++)
        (void)json_array_append_new(host, json_string(m->host_operators[i]));
    json_t *doc = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:o, s:o}",
        "model", m->model_name, "framework", m->framework, "compiler", neff_compiler(f), "format",
        format, "target", neff_target(f), "fp32_cast", m->cast_mode, "optimize", m->optimize,
        "tpbs", (json_int_t)m->num_tpbs, "contexts", (json_int_t)m->contexts, "sb_bytes",
        (json_int_t)m->sb_bytes, "scratch_bytes", (json_int_t)m->scratch_bytes, "sha256",
        neff_digest(f), "inputs", json_tensors(neff_n_inputs(f), neff_input, f), "outputs",
        json_tensors(neff_n_outputs(f), neff_output, f), "sections", json_sections(f), "estimates",
        json_estimates(m), "layers", json_layers(m), "host_operators", host, "advice",
        json_advice(m), "engine_us", json_busy(f));
    char *text = doc ? json_dumps(doc, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(doc);
    if (!text) {
        (void)fprintf(stderr, "kaena-info: out of memory\n");
        return 1;
    }
    puts(text);
    free(text);
    return 0;
}

/* --- Main
 * ------------------------------------------------------------------------------------------------------------------
 */

static bool parse_number(const char *s, int64_t *out)
{
    char *end;
    int64_t v = strtoll(s, &end, 10);
    if (*s < '0' || *s > '9' || *end)
        return false;
    *out = v;
    return true;
}

static bool parse_options(int argc, char **argv, options *o)
{
    *o = (options){.tpb = -1};
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--json") == 0) {
            o->json = true;
        } else if (strcmp(a, "--check") == 0) {
            o->check = true;
        } else if (strcmp(a, "--disassemble") == 0) {
            o->disassemble = true;
            if (i + 1 < argc && parse_number(argv[i + 1], &o->tpb))
                i++;
        } else if (a[0] == '-' || o->path) {
            return false;
        } else {
            o->path = a;
        }
    }
    return o->path != NULL;
}

static int fail(const kaena_err *err)
{
    (void)fprintf(stderr, "kaena-info: %s\n", err->what);
    if (err->hint[0])
        (void)fprintf(stderr, "  %s\n", err->hint);
    return 1;
}

static int show(const neff_file *f, const options *o)
{
    kaena_err err;
    if (o->check && (neff_check_weights(f, NULL, &err) != KAENA_OK ||
                     neff_check_digest(f, NULL, &err) != KAENA_OK))
        return fail(&err);
    if (o->disassemble)
        return disassemble(f, o->tpb);
    if (o->json)
        return print_json(f);
    print_text(f);
    if (o->check)
        printf("check         OK: verified, checksums and SHA-256 are right\n");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0)) {
        printf("kaena-info %s, NEFF format %d.%d\n", KAENA_VERSION, NEFF_FORMAT_MAJOR,
               NEFF_FORMAT_MINOR);
        return 0;
    }
    if (argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
        printf("%s", usage);
        return 0;
    }
    options o;
    if (!parse_options(argc, argv, &o)) {
        (void)fprintf(stderr, "%s", usage);
        return 2;
    }
    neff_file *f;
    kaena_err err;
    if (neff_open(o.path, &f, &err) != KAENA_OK)
        return fail(&err);
    int status = show(f, &o);
    f = neff_unref(f);
    return fflush(stdout) == 0 ? status : 1;
}

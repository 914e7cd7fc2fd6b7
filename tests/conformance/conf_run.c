/* Runs test cases (a model, inputs, expected outputs) through backends and counts.
 *
 *     PROGRAM [options] DIR...
 *     --backend NAME    how to execute: eval, passes, device, device4, weights; may be repeated
 * (default: all)
 *     --xfail FILE      expected failures; an unexpected failure or pass makes the exit code 1
 *     --only PATTERN    cases whose name matches (fnmatch)
 *     --at-least N      fewer passing cases make the exit code 1; N % is of the cases that run
 *     --at-least-common N  the same for cases of float32, int32, int64 and bool alone
 *     --largest         tolerance relative to the largest expected element of a tensor, as for
 * whole models
 *     --rel X --abs X   the tolerance (defaults 1e-3 and 1e-5)
 *     --all-supported   a case with something unsupported counts as failed
 *     --table           prints results by suite and by operator
 *     --quiet           only what did not go as expected, and the count */
#include <errno.h>
#include <fnmatch.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conformance.h"

typedef enum verdict { PASSED, FAILED, UNSUPPORTED, N_VERDICTS } verdict;

#define MAX_BACKENDS 8

/* A number of cases, or a share of them. */
typedef struct quota {
    double value;
    bool percent;
} quota;

typedef struct options {
    const conf_suite *suite;
    bool backend[MAX_BACKENDS]; /* of conf_backends; without |chosen| every one */
    const char *only;
    conf_xfail xfail;
    conf_tolerance tolerance;
    quota at_least, at_least_common;
    bool quiet, chosen, all_supported, table;
} options;

/* How one case went. */
typedef struct result {
    verdict verdict;
    uint32_t n_sets, device_nodes;
    bool common; /* all tensors are of the common types */
    conf_ops ops;
    double worst; /* of the tolerance */
    double seconds;
    char text[1024]; /* of a failure, or what is unsupported */
} result;

static bool is_common(const conf_set *set)
{
    bool common = true;
    for (uint32_t i = 0; i < set->n_in + set->n_out; i++) {
        kaena_dtype t = i < set->n_in ? set->in[i].dtype : set->out[i - set->n_in].dtype;
        common &= t == KAENA_F32 || t == KAENA_I32 || t == KAENA_I64 || t == KAENA_BOOL;
    }
    return common;
}

static bool run_set(const conf_backend *backend, const conf_case *c, uint32_t index,
                    const options *o, kaena_arena *arena, conf_set *set, result *r)
{
    kaena_err err;
    kgr_graph *g = NULL;
    kop_tensor *out = NULL;
    uint32_t device_nodes = 0;
    kaena_err_init(&err);
    kaena_status s = o->suite->read_set(arena, c->dir, index, set, &err);
    if (s == KAENA_NOT_FOUND && index > 0)
        return false;
    r->n_sets++;
    r->common = r->common && is_common(set);
    if (s != KAENA_OK && o->suite->is_unsupported(arena, c->dir, &err))
        s = KAENA_UNIMPLEMENTED; /* the data is a sequence or an optional, as the model is */
    if (s == KAENA_OK)
        s = o->suite->import(arena, c->dir, set, &g, &err);
    if (s == KAENA_OK)
        conf_ops_of(g, &r->ops);
    if (s == KAENA_OK && g->n_outputs != set->n_out)
        s = KAENA_FAIL(&err, INVALID_ARGUMENT, "the model has %u outputs, the data set %u",
                       g->n_outputs, set->n_out);
    if (s == KAENA_OK) {
        out = KAENA_NEW_N(arena, kop_tensor, g->n_outputs);
        s = backend->execute(arena, g, set->in, out, &device_nodes, &err);
    }
    if (device_nodes > r->device_nodes)
        r->device_nodes = device_nodes;
    if (s != KAENA_OK) {
        r->verdict = s == KAENA_UNIMPLEMENTED ? UNSUPPORTED : FAILED;
        (void)snprintf(r->text, sizeof r->text, "set %u: %s: %s", index, kaena_status_name(s),
                       err.what);
        return false;
    }
    for (uint32_t i = 0; i < set->n_out; i++) {
        conf_difference d;
        bool good = conf_compare(&out[i], &set->out[i], &o->tolerance, &d);
        if (d.worst > r->worst)
            r->worst = d.worst;
        if (!good) {
            r->verdict = FAILED;
            (void)snprintf(r->text, sizeof r->text, "set %u: output '%s': %s", index,
                           g->outputs[i]->name, d.text);
            return false;
        }
    }
    return true;
}

static result run_case(const conf_backend *backend, const conf_case *c, const options *o)
{
    struct timespec begin, end;
    result r = {.verdict = PASSED, .common = true};
    conf_set *set = malloc(sizeof *set);
    if (!set)
        abort();
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    for (bool more = true; more;) {
        kaena_arena arena;
        kaena_arena_init(&arena, 0);
        more = run_set(backend, c, r.n_sets, o, &arena, set, &r);
        kaena_arena_fini(&arena);
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    r.seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9;
    free(set);
    return r;
}

/* Prints how it went and returns whether that was expected. */
static bool report(const conf_backend *backend, const conf_case *c, const result *r,
                   const options *o)
{
    const char *reason = conf_xfail_reason(&o->xfail, c->name);
    const char *word = r->verdict == PASSED        ? "pass"
                       : r->verdict == UNSUPPORTED ? "unsupported"
                       : reason                    ? "fails as expected"
                                                   : "FAIL";
    bool failed = r->verdict == FAILED || (r->verdict == UNSUPPORTED && o->all_supported);
    bool expected = (r->verdict == UNSUPPORTED && !o->all_supported) || failed == (reason != NULL);
    if (r->verdict == PASSED && reason)
        word = "UNEXPECTED PASS";
    if (!expected || !o->quiet)
        printf("%s %s: %s (%u sets, %.0f %% of the tolerance, %.2f s)%s%s%s%s\n", backend->name,
               c->name, word, r->n_sets, r->worst * 100, r->seconds, *r->text ? ": " : "", r->text,
               reason ? "; expected: " : "", reason ? reason : "");
    (void)fflush(stdout);
    return expected;
}

/* How many of how many passed, and whether that is enough. */
static bool enough(const conf_backend *backend, const char *of, size_t passed, size_t all, quota q)
{
    double share = all ? 100.0 * (double)passed / (double)all : 0;
    printf("%s: %zu of %zu %spassed (%.1f %%)\n", backend->name, passed, all, of, share);
    if ((q.percent ? share : (double)passed) >= q.value)
        return true;
    printf("%s: %g%s have to pass\n", backend->name, q.value, q.percent ? " %" : "");
    return false;
}

static bool run_backend(const conf_backend *backend, const conf_cases *cases, const options *o)
{
    size_t count[N_VERDICTS] = {0};
    conf_table *table = calloc(1, sizeof *table);
    if (!table)
        abort();
    size_t n_unexpected = 0, n_on_device = 0, n_common = 0, n_common_passed = 0, n = 0;
    for (size_t i = 0; i < cases->n; i++) {
        if (o->only && fnmatch(o->only, cases->list[i].name, 0) != 0)
            continue;
        result r = run_case(backend, &cases->list[i], o);
        conf_table_add(table, cases->list[i].name, &r.ops, r.verdict == PASSED, r.device_nodes > 0);
        n++;
        count[r.verdict]++;
        n_common += r.common;
        n_common_passed += r.common && r.verdict == PASSED;
        n_on_device += r.verdict == PASSED && r.device_nodes > 0;
        n_unexpected += !report(backend, &cases->list[i], &r, o);
    }
    if (o->table)
        conf_table_print(table, backend->name);
    free(table);
    printf("%s: %zu passed, %zu failed, %zu unsupported operator\n", backend->name, count[PASSED],
           count[FAILED], count[UNSUPPORTED]);
    bool good = enough(backend, "", count[PASSED], n, o->at_least);
    if (o->suite->by_type)
        good &= enough(backend, "of common types ", n_common_passed, n_common, o->at_least_common);
    if (backend->has_devices)
        printf("%s: %zu of those that passed have nodes on the device\n", backend->name,
               n_on_device);
    if (n_unexpected)
        printf("%s: %zu not as expected\n", backend->name, n_unexpected);
    return good && n_unexpected == 0 && count[PASSED] + count[FAILED] > 0;
}

static double number(const char *text)
{
    char *end;
    double v = strtod(text, &end);
    if (*end || end == text || !(v >= 0)) {
        (void)fprintf(stderr, "'%s' is not a number from 0 up\n", text);
        exit(2);
    }
    return v;
}

static quota quota_of(char *text)
{
    size_t n = strlen(text);
    bool percent = n && text[n - 1] == '%';
    text[n - percent] = 0;
    return (quota){number(text), percent};
}

static void choose(options *o, const char *name)
{
    for (size_t i = 0; i < conf_n_backends; i++)
        if (strcmp(name, conf_backends[i].name) == 0) {
            o->backend[i] = o->chosen = true;
            return;
        }
    (void)fprintf(stderr, "there is no backend '%s'\n", name);
    exit(2);
}

static void parse_options(int argc, char **argv, options *o)
{
    static const struct option known[] = {
        {"backend", required_argument, NULL, 'b'},
        {"xfail", required_argument, NULL, 'x'},
        {"only", required_argument, NULL, 'o'},
        {"at-least", required_argument, NULL, 'n'},
        {"at-least-common", required_argument, NULL, 'c'},
        {"largest", no_argument, NULL, 'l'},
        {"rel", required_argument, NULL, 'r'},
        {"abs", required_argument, NULL, 'a'},
        {"table", no_argument, NULL, 't'},
        {"quiet", no_argument, NULL, 'q'},
        {"all-supported", no_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'b':
            choose(o, optarg);
            break;
        case 'x':
            if (!conf_xfail_read(&o->xfail, optarg))
                exit(2);
            break;
        case 'o':
            o->only = optarg;
            break;
        case 'n':
            o->at_least = quota_of(optarg);
            break;
        case 'c':
            o->at_least_common = quota_of(optarg);
            break;
        case 's':
            o->all_supported = true;
            break;
        case 'l':
            o->tolerance.of_largest = true;
            break;
        case 'r':
            o->tolerance.rel = number(optarg);
            break;
        case 'a':
            o->tolerance.abs = number(optarg);
            break;
        case 't':
            o->table = true;
            break;
        case 'q':
            o->quiet = true;
            break;
        default:
            exit(2);
        }
    }
}

int conf_main(const conf_suite *suite, int argc, char **argv)
{
    options o = {.suite = suite, .tolerance = {.rel = 1e-3, .abs = 1e-5}};
    conf_cases cases = {0};
    bool good = true;
    parse_options(argc, argv, &o);
    if (optind == argc) {
        (void)fprintf(stderr, "usage: %s [options] DIR...\n", argv[0]);
        return 2;
    }
    for (int i = optind; i < argc; i++)
        good &= conf_cases_find(&cases, suite, argv[i]);
    for (size_t i = 0; good && i < conf_n_backends; i++) {
        if (!o.chosen || o.backend[i])
            good &= run_backend(&conf_backends[i], &cases, &o);
    }
    conf_cases_fini(&cases);
    conf_xfail_fini(&o.xfail);
    return good ? 0 : 1;
}

/* Golden tests: each FILE.kg holds directives, a graph, a line of dashes, and the graph that the
 * passes leave. `golden DIR` compares, `golden --update DIR` rewrites what is below the dashes.
 *
 *   # passes: infer quantise fold bodies scan simplify fuse partition cast steps     in this order
 *   # cast: all | matmul | none                                  default all
 *   # host: Erf Resize                                           operators the device cannot run
 *   # fails: part of the message                                 instead of a graph: the last pass
 * fails */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "passes.h"

#define DASHES "\n--------\n"

typedef struct golden {
    kcc_options opt;
    kcc_partition partition;
    bool has_steps;
} golden;

static const char *host_operators; /* of the file at hand: the callback has no context */

static bool lowerable(const kgr_node *n, const char **reason)
{
    char word[80];
    (void)snprintf(word, sizeof word, " %s ", kop_row_of(n->op)->name);
    if (!strstr(host_operators, word))
        return true;
    *reason = "listed for the host";
    return false;
}

/* The words after "# key: " with a space on either side, or " ". */
static char *directive(kaena_arena *arena, const char *text, const char *key)
{
    char start[32];
    (void)snprintf(start, sizeof start, "# %s: ", key);
    const char *at = strstr(text, start);
    if (!at)
        return kaena_arena_strdup(arena, " ");
    at += strlen(start);
    return kaena_arena_printf(arena, " %.*s ", (int)strcspn(at, "\n"), at);
}

static kaena_status run_pass(golden *t, kgr_graph *g, const char *name, kaena_err *err)
{
    static const struct {
        const char *name;
        kaena_status (*run)(kgr_graph *g, const kcc_options *opt, kaena_err *err);
    } passes[] = {
        {"infer", kcc_pass_infer},       {"quantise", kcc_pass_quantise}, {"fold", kcc_pass_fold},
        {"simplify", kcc_pass_simplify}, {"fuse", kcc_pass_fuse},         {"cast", kcc_pass_cast},
        {"scan", kcc_pass_scan},
    };
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++)
        if (strcmp(name, passes[i].name) == 0)
            return passes[i].run(g, &t->opt, err);
    bool inlined = false;
    if (strcmp(name, "bodies") == 0)
        return kcc_pass_bodies(g, &inlined, err);
    if (strcmp(name, "partition") == 0)
        return kcc_pass_partition(g, &t->opt, lowerable, err);
    if (strcmp(name, "steps") != 0)
        return KAENA_FAIL(err, NOT_FOUND, "there is no pass '%s'", name);
    kcc_partition_build(g, &t->partition);
    t->has_steps = true;
    return KAENA_OK;
}

static kaena_status run_passes(golden *t, kgr_graph *g, char *names, kaena_err *err)
{
    for (char *name = strtok(names, " "); name; name = strtok(NULL, " ")) {
        KAENA_TRY_WRAP(err, run_pass(t, g, name, err), "%s", name);
        KAENA_TRY_WRAP(err, kgr_check(g, err), "after %s", name);
    }
    return KAENA_OK;
}

static void print_steps(const kcc_partition *p, kaena_strbuf *out)
{
    for (uint32_t i = 0; i < p->n_steps; i++) {
        const kcc_step *s = &p->steps[i];
        kaena_strbuf_printf(out, "# %s, %u nodes:",
                            s->on_device ? "device"
                            : s->by_plan ? "plan"
                                         : "host",
                            s->n_nodes);
        for (uint32_t j = 0; j < s->n_in; j++)
            kaena_strbuf_printf(out, " %%%s", s->in[j]->name);
        kaena_strbuf_printf(out, " ->");
        for (uint32_t j = 0; j < s->n_out; j++)
            kaena_strbuf_printf(out, " %%%s", s->out[j]->name);
        kaena_strbuf_printf(out, "\n");
    }
}

/* What stands below the dashes, or what should. */
static kaena_status produce(kaena_arena *arena, const char *text, size_t size, kaena_strbuf *out,
                            kaena_err *err)
{
    golden t = {.opt = {.num_tpbs = 4}};
    kgr_graph *g;
    const char *cast = directive(arena, text, "cast");
    t.opt.cast = strstr(cast, "matmul") ? KCC_CAST_MATMUL
                 : strstr(cast, "none") ? KCC_CAST_NONE
                                        : KCC_CAST_ALL;
    t.opt.must_compile = strstr(text, "# must-compile") != NULL;
    host_operators = directive(arena, text, "host");
    KAENA_TRY(kgr_parse(arena, text, size, &g, err));
    kaena_status s = run_passes(&t, g, directive(arena, text, "passes"), err);
    if (s != KAENA_OK && strstr(text, "# fails")) {
        kaena_strbuf_printf(out, "%s: %s\n%s", kaena_status_name(s), err->what, err->hint);
        kaena_strbuf_printf(out, "%s", *err->hint ? "\n" : "");
        return KAENA_OK;
    }
    if (s != KAENA_OK)
        return s;
    kgr_print(g, false, out);
    if (t.has_steps)
        print_steps(&t.partition, out);
    return KAENA_OK;
}

/* 0: as expected, or updated. */
static int run_file(const char *path, bool update)
{
    kaena_arena arena;
    kaena_err err;
    kaena_file f;
    kaena_strbuf got = {0}, file = {0};
    kaena_arena_init(&arena, 0);
    kaena_err_init(&err);
    kaena_status s = kaena_file_open(path, &f, &err);
    if (s != KAENA_OK) {
        fprintf(stderr, "%s\n", err.what);
        return 1;
    }
    char *text = kaena_arena_printf(&arena, "%.*s", (int)f.size, (const char *)f.data);
    kaena_file_close(&f);
    char *dashes = strstr(text, DASHES);
    const char *expected = dashes ? dashes + strlen(DASHES) : "";
    if (dashes)
        dashes[1] = 0;
    s = produce(&arena, text, strlen(text), &got, &err);
    int failed = 0;
    if (s != KAENA_OK) {
        fprintf(stderr, "%s: %s: %s\n", path, kaena_status_name(s), err.what);
        failed = 1;
    } else if (update) {
        kaena_strbuf_printf(&file, "%s%s%s", text, &DASHES[1], got.data);
        s = kaena_file_write(path, file.data, file.size, &err);
        failed = s != KAENA_OK;
    } else if (strcmp(got.data, expected) != 0) {
        fprintf(stderr, "%s: expected\n%s\ngot\n%s\n", path, expected, got.data);
        failed = 1;
    }
    kaena_strbuf_fini(&got);
    kaena_strbuf_fini(&file);
    kaena_arena_fini(&arena);
    return failed;
}

int main(int argc, char **argv)
{
    bool update = argc > 1 && strcmp(argv[1], "--update") == 0;
    if (argc != 2 + update) {
        fprintf(stderr, "usage: golden [--update] DIRECTORY\n");
        return 2;
    }
    const char *directory = argv[1 + update];
    struct dirent **names;
    int n = scandir(directory, &names, NULL, alphasort), failed = 0, run = 0;
    for (int i = 0; i < n; i++) {
        const char *dot = strrchr(names[i]->d_name, '.');
        char path[4096];
        (void)snprintf(path, sizeof path, "%s/%s", directory, names[i]->d_name);
        if (dot && strcmp(dot, ".kg") == 0) {
            failed += run_file(path, update);
            run++;
        }
        free(names[i]);
    }
    if (n >= 0)
        free(names);
    printf("%d graphs, %d failed\n", run, failed);
    return failed || run == 0;
}

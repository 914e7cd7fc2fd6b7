#include "side.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct bench_side {
    pid_t pid;
    FILE *ask, *answer;
    char line[1024];
};

static void fail(const char *what)
{
    (void)fprintf(stderr, "benchmark: the other process %s\n", what);
    exit(1);
}

bench_side *side_open(const char *const *argv)
{
    bench_side *s = calloc(1, sizeof *s);
    int to[2], from[2];
    if (!s || pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0)
        fail("has no pipes");
    (void)fflush(stdout);
    s->pid = fork();
    if (s->pid < 0)
        fail("cannot be made");
    if (s->pid == 0) {
        if (dup2(to[0], STDIN_FILENO) < 0 || dup2(from[1], STDOUT_FILENO) < 0)
            _exit(127);
        (void)execv(argv[0], (char *const *)(uintptr_t)argv);
        perror(argv[0]);
        _exit(127);
    }
    (void)close(to[0]);
    (void)close(from[1]);
    s->ask = fdopen(to[1], "w");
    s->answer = fdopen(from[0], "r");
    if (!s->ask || !s->answer)
        fail("has no memory");
    /* If it ends early, the answer that does not come says so. */
    (void)signal(SIGPIPE, SIG_IGN);
    return s;
}

bench_side *side_close(bench_side *s)
{
    if (!s)
        return NULL;
    (void)fclose(s->ask);
    (void)fclose(s->answer);
    (void)waitpid(s->pid, NULL, 0);
    free(s);
    return NULL;
}

const char *side_turn(bench_side *s)
{
    if (fputc('\n', s->ask) == EOF || fflush(s->ask) != 0 ||
        !fgets(s->line, sizeof s->line, s->answer))
        fail("has ended");
    s->line[strcspn(s->line, "\n")] = 0;
    return s->line;
}

double side_number(const char *line, const char *key)
{
    const char *at = strstr(line, key);
    return at ? strtod(at + strlen(key), NULL) : 0;
}

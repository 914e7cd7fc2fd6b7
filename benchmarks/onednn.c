#include "onednn.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct onednn_side {
    pid_t pid;
    FILE *ask, *answer;
    char line[1024]; /* without its end */
};

static void fail(const char *what)
{
    (void)fprintf(stderr, "benchmark: oneDNN's side %s\n", what);
    exit(1);
}

onednn_side *onednn_open(const char *program, const char *list, const char *name, int threads)
{
    onednn_side *s = calloc(1, sizeof *s);
    int to[2], from[2];
    char count[16];
    if (!s || pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0)
        fail("has no pipes");
    (void)snprintf(count, sizeof count, "%d", threads);
    s->pid = fork();
    if (s->pid < 0)
        fail("has no process");
    if (s->pid == 0) {
        if (dup2(to[0], STDIN_FILENO) < 0 || dup2(from[1], STDOUT_FILENO) < 0 ||
            setenv("OMP_NUM_THREADS", count, 1) != 0)
            _exit(127);
        (void)execl(program, program, list, "--name", name, "--follow", (char *)NULL);
        perror(program);
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

onednn_side *onednn_close(onednn_side *s)
{
    if (!s)
        return NULL;
    (void)fclose(s->ask);
    (void)fclose(s->answer);
    (void)waitpid(s->pid, NULL, 0);
    free(s);
    return NULL;
}

void onednn_turn(onednn_side *s)
{
    if (fputc('\n', s->ask) == EOF || fflush(s->ask) != 0 ||
        !fgets(s->line, sizeof s->line, s->answer))
        fail("has ended");
    s->line[strcspn(s->line, "\n")] = 0;
}

const char *onednn_report(const onednn_side *s)
{
    return s->line;
}

double onednn_ms(const onednn_side *s)
{
    static const char key[] = "onednn_ms=";
    const char *at = strstr(s->line, key);
    return at ? strtod(at + sizeof key - 1, NULL) : 0;
}

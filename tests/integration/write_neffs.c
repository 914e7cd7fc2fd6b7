/* Writes the models of tests/lib/kmodels.h into a directory: write-neffs DIRECTORY */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kmodels.h"

static bool save(const char *directory, const char *name, void (*make)(kneff *k))
{
    char path[4096];
    char buffer[65536];
    kneff k;
    make(&k);
    int from = kneff_write_fd(&k);
    kneff_fini(&k);
    (void)snprintf(path, sizeof path, "%s/%s.neff", directory, name);
    FILE *to = fopen(path, "wb");
    ssize_t n = -1;
    off_t at = 0;
    while (to && (n = pread(from, buffer, sizeof buffer, at)) > 0 &&
           fwrite(buffer, 1, (size_t)n, to) == (size_t)n)
        at += n;
    (void)close(from);
    return to && fclose(to) == 0 && n == 0;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    return save(argv[1], "moody", km_moody) && save(argv[1], "turns", km_turns) ? 0 : 1;
}

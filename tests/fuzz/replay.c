/* Runs a fuzz target over kept inputs: files, or all files of directories. Without libFuzzer, so
 * that every build replays them. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) {
        perror(path);
        exit(1);
    }
    size_t size = (size_t)st.st_size;
    /* A block of exactly its size: sanitizers see a read past the end. */
    uint8_t *data = malloc(size);
    if ((size && !data) || fread(data, 1, size, f) != size) {
        perror(path);
        exit(1);
    }
    (void)fclose(f);
    /* Said before, so that it is known which one ended the program. */
    printf("%s\n", path);
    (void)fflush(stdout);
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 1;
}

static int run_directory(const char *path)
{
    struct dirent **entry;
    int n = scandir(path, &entry, NULL, alphasort), ran = 0;
    if (n < 0) {
        perror(path);
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        char file[4096];
        if (entry[i]->d_name[0] != '.') {
            (void)snprintf(file, sizeof file, "%s/%s", path, entry[i]->d_name);
            ran += run_file(file);
        }
        free(entry[i]);
    }
    free(entry);
    return ran;
}

int main(int argc, char **argv)
{
    int ran = 0;
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) != 0) {
            perror(argv[i]);
            return 1;
        }
        ran += S_ISDIR(st.st_mode) ? run_directory(argv[i]) : run_file(argv[i]);
    }
    printf("%d inputs\n", ran);
    return ran ? 0 : 1;
}

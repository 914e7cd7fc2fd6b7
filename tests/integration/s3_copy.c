/* s3-copy get URL DIR | put FILE URL [FILE URL]...: the compiler's S3 client by itself, for tests.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "s3.h"

#define MAX_FILES 16

int main(int argc, char **argv)
{
    kcc_s3 *s3 = NULL;
    kaena_err err;
    kcc_s3_file file[MAX_FILES];
    uint32_t n = 0;
    kaena_err_init(&err);
    kaena_status s = kcc_s3_open(&s3, &err);
    if (s == KAENA_OK && argc == 4 && strcmp(argv[1], "get") == 0) {
        s = kcc_s3_get_all(s3, argv[2], argv[3], &err);
    } else if (s == KAENA_OK && argc >= 4) {
        for (int i = 2; i + 1 < argc && n < MAX_FILES; i += 2)
            file[n++] = (kcc_s3_file){argv[i], argv[i + 1]};
        s = kcc_s3_put_all(s3, file, n, &err);
    }
    kcc_s3_close(s3);
    if (s != KAENA_OK)
        (void)fprintf(stderr, "s3-copy: %s\n", err.what);
    return s == KAENA_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

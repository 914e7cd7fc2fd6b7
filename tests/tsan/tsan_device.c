/* The cases of tests/lib/devcases.h under ThreadSanitizer. */
#include <stdio.h>

#include "devcases.h"

int main(void)
{
#define CASE(name)                                                                                 \
    printf("%s\n", #name);                                                                         \
    (void)fflush(stdout);                                                                          \
    dev_case_##name();
    DEV_CASES(CASE)
    return 0;
}

/* runtime/device in-process: a test for each case of tests/lib/devcases.h. */
#include "devcases.h"
#include "ktest.h"

#define CASE(name)                                                                                 \
    KTEST(device, name)                                                                            \
    {                                                                                              \
        dev_case_##name();                                                                         \
    }
DEV_CASES(CASE)

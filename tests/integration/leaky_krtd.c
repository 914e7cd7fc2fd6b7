/* krtd that loses a little memory with every model that goes: what the test of its memory
 * (test_memory.py) must find. */
#include <stdlib.h>
#include <string.h>

#include "krt.h"

#define LOST_BYTES 4096

static void *volatile lost;

static void lose_and_close(krt_image *image)
{
    krt_device_backend.close(image);
    void *p = malloc(LOST_BYTES);
    if (p)
        memset(p, 1, LOST_BYTES);
    lost = p;
}

int main(int argc, char **argv)
{
    krt_backend backend = krt_device_backend;
    backend.close = lose_and_close;
    return krt_main(argc, argv, &backend);
}

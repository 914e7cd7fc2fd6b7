/* krtd: serves emulated Inferentia devices. */
#include "krt.h"

int main(int argc, char **argv)
{
    return krt_main(argc, argv, &krt_device_backend);
}

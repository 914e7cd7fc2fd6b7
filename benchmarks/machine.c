#include "machine.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static double cpu_seconds(int who)
{
    struct rusage use;
    if (getrusage(who, &use) != 0)
        return 0;
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
}

machine_use machine_use_now(void)
{
    /* user nice system idle iowait irq softirq steal */
    unsigned long long ticks[8] = {0};
    FILE *f = fopen("/proc/stat", "re");
    if (f) {
        if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &ticks[0], &ticks[1],
                   &ticks[2], &ticks[3], &ticks[4], &ticks[5], &ticks[6], &ticks[7]) != 8)
            ticks[3] = 0;
        (void)fclose(f);
    }
    double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
    return (machine_use){.busy =
                             tick * (double)(ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]),
                         .stolen = tick * (double)ticks[7],
                         .idle = tick * (double)(ticks[3] + ticks[4]),
                         .ours = cpu_seconds(RUSAGE_SELF) + cpu_seconds(RUSAGE_CHILDREN)};
}

void machine_print_others(machine_use before)
{
    machine_use now = machine_use_now();
    double busy = now.busy - before.busy, stolen = now.stolen - before.stolen;
    double all = busy + stolen + now.idle - before.idle;
    double others = busy - (now.ours - before.ours);
    if (all > 0)
        (void)printf("  meanwhile other processes took %.0f%% of %ld processors, the host %.0f%%\n",
                     others > 0 ? others / all * 100 : 0, sysconf(_SC_NPROCESSORS_ONLN),
                     stolen / all * 100);
}

/* What else went on on the machine while something was measured. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

/* Processor time until now, seconds over all processors. */
typedef struct machine_use {
    double busy, stolen; /* of the machine; taken by the host of a virtual one */
    double ours;         /* of this process, and of its children that have been waited for */
    double idle;
} machine_use;

/* Zeros where /proc/stat can't be read. */
machine_use machine_use_now(void);
/* One line: what other processes and the host took between |before| and now, of all processors. */
void machine_print_others(machine_use before);

#endif

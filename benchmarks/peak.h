/* What the processor can do at most, measured. */
#ifndef BENCH_PEAK_H
#define BENCH_PEAK_H

/* GF/s of one thread's BF16 dot products from registers; 0 where the processor has none. */
double peak_gflops(void);

#endif

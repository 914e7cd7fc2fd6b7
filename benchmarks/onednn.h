/* bench_dnnl as another side of a comparison: a process of its own, which takes its turns when
 * asked to. */
#ifndef BENCH_ONEDNN_H
#define BENCH_ONEDNN_H

typedef struct onednn_side onednn_side;

/* Starts |program| on the products that |list| names, with |threads| threads. Ends the process with
 * a message where it can't. */
onednn_side *onednn_open(const char *program, const char *list, const char *name, int threads);
/* NULL is fine. */
onednn_side *onednn_close(onednn_side *s);
/* Takes a turn and waits for its end. */
void onednn_turn(onednn_side *s);
/* What it says about all turns so far: one line, the side's until the next turn; "" before. */
const char *onednn_report(const onednn_side *s);
/* The median of a pass, milliseconds; 0 where there is nothing to compute. */
double onednn_ms(const onednn_side *s);

#endif

/* A side of a comparison in a process of its own, which takes a turn for each line that it reads
 * and answers with a line. */
#ifndef BENCH_SIDE_H
#define BENCH_SIDE_H

typedef struct bench_side bench_side;

/* Starts |argv|, NULL at its end. Ends the process with a message where it can't. */
bench_side *side_open(const char *const *argv);
/* Ends it: it reads the end of its input. NULL is fine. */
bench_side *side_close(bench_side *s);
/* Takes a turn and waits for its end. Returns what it says, without the end of the line; the side's
 * until the next turn. */
const char *side_turn(bench_side *s);
/* The number behind |key| in such a line; 0 where there is none. */
double side_number(const char *line, const char *key);

#endif

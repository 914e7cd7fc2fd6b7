/* The lines of kaena-top, for a screen or a pipe: plain text, computed from two samples. */
#ifndef TOP_VIEW_H
#define TOP_VIEW_H

#include "top_sample.h"

#define TOP_LINE 256

typedef enum top_order {
    TOP_BY_RATE,
    TOP_BY_NAME,
    TOP_BY_P99,
    TOP_BY_QUEUE,
    TOP_N_ORDERS
} top_order;
extern const char *const top_order_names[TOP_N_ORDERS];

typedef enum top_style { TOP_PLAIN, TOP_BOLD, TOP_TITLE, TOP_ALARM } top_style;

typedef struct top_line {
    top_style style;
    char text[TOP_LINE]; /* printable ASCII */
} top_line;

typedef struct top_view {
    top_line *lines; /* [n], the caller frees with top_view_fini */
    size_t n, capacity;
} top_view;

/* Draws all daemons, bars for lines of |width|. Takes the sampler's lock. */
void top_view_draw(top_view *v, top_sampler *s, top_order order, unsigned width);
void top_view_fini(top_view *v);

#endif

/* Metrics for Prometheus over HTTP: GET /metrics and /healthz, on the daemon's event loop.
 *
 * A peer costs a bounded amount: connections, bytes of a request's head, seconds without a whole
 * request. Bodies are not read. */
#ifndef KRT_METRICS_H
#define KRT_METRICS_H

#include "krt.h"
#include "strbuf.h"

typedef struct krt_metrics krt_metrics;

#define KRT_METRICS_CONNECTIONS 32
#define KRT_METRICS_HEAD_BYTES 8192
#define KRT_METRICS_SECONDS 10 /* for a request, and for taking its answer */

/* Listens on "unix:PATH" or "HOST:PORT" ("[::1]:9400"; port 0: any). |bound| gets the address
 * really bound. INVALID_ARGUMENT, ALREADY_EXISTS, ... name the address. Thread: |loop|'s, as all
 * here. */
kaena_status krt_metrics_open(krt_daemon *d, uv_loop_t *loop, const char *address, char bound[256],
                              krt_metrics **out, kaena_err *err) KAENA_CHECKED;
/* Closes listener and connections; done when |loop| has run once more. Accepts NULL and returns it.
 */
krt_metrics *krt_metrics_close(krt_metrics *m);

/* All metrics of the daemon, in the text format 0.0.4 or (|open_metrics|) as OpenMetrics 1.0. */
void krt_metrics_text(krt_daemon *d, bool open_metrics, kaena_strbuf *out);

#endif

/* Fuzz target: /etc/kaena/krtd.json. What is accepted is what a daemon can start with: named, with
 * addresses that can be read, and devices that are there and its own. */
#include <stdlib.h>
#include <string.h>

#include "krt_config.h"
#include "rpc_address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_daemon(const krt_host_config *c, const krt_daemon_config *d, uint32_t *owned)
{
    must(krt_name_is_sane(d->name) && d->n_listen >= 1 && d->n_devices >= 1);
    for (size_t i = 0; i < d->n_listen; i++) {
        krpc_address a;
        must(krpc_address_parse(d->listen[i], &a, NULL) == KAENA_OK);
    }
    for (size_t i = 0; i < d->n_devices; i++) {
        must(d->devices[i] < c->n_chips && !(*owned >> d->devices[i] & 1));
        *owned |= UINT32_C(1) << d->devices[i];
    }
    must(d->socket_mode <= 0777 && d->threads <= KRT_MAX_THREADS && !d->tls.cert == !d->tls.key);
#define KRT_LIMIT(name, fallback, min, max, what)                                                  \
    must(d->limits.name <= (uint64_t)(max) && (d->limits.name + 1 > (uint64_t)(min)));
#include "krt_limits.def"
#undef KRT_LIMIT
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    krt_host_config *c = malloc(sizeof *c);
    kaena_err err;
    if (!c)
        return 0;
    kaena_err_init(&err);
    krt_host_config_init(c, "/run/x");
    krt_report report = {0};
    kaena_status st = krt_host_config_parse(c, (const char *)data, size, &report, &err);
    must((st == KAENA_OK) == (report.errors == 0));
    if (st == KAENA_OK) {
        uint32_t owned = 0;
        for (size_t i = 0; i < c->n_daemons; i++) {
            check_daemon(c, &c->daemons[i], &owned);
            krt_overrides o = {.name = c->daemons[i].name};
            krt_daemon_config d;
            must(krt_config_resolve(c, &o, "/run/x", &d, &err) == KAENA_OK);
        }
    } else {
        must(err.what[0] != 0);
    }
    krt_host_config_fini(c);
    free(c);
    return 0;
}

#include "ktest.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc_core_ports.h"

typedef struct fixture {
    krpc_core_ports ports;
    struct sockaddr_in at;
    int listener;
} fixture;

/* Both ends of a connection. */
typedef struct ends {
    int client, server;
} ends;

static void set_up(fixture *f)
{
    *f = (fixture){.at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof f->at;
    f->listener = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert(bind(f->listener, (struct sockaddr *)&f->at, size) == 0);
    cr_assert(listen(f->listener, 16) == 0);
    cr_assert(getsockname(f->listener, (struct sockaddr *)&f->at, &size) == 0);
    f->ports.port[f->ports.n++] = ntohs(f->at.sin_port);
}

static void tear_down(fixture *f)
{
    krpc_core_ports_free(&f->ports);
    (void)close(f->listener);
}

static ends open_link(const fixture *f)
{
    ends l = {.client = socket(AF_INET, SOCK_STREAM, 0)};
    cr_assert(connect(l.client, (const struct sockaddr *)&f->at, sizeof f->at) == 0);
    l.server = accept(f->listener, NULL, NULL);
    cr_assert(l.server >= 0);
    return l;
}

static bool is_cut(ends l)
{
    char byte;
    return recv(l.client, &byte, 1, MSG_DONTWAIT) == 0;
}

static void close_link(ends l)
{
    (void)close(l.client);
    (void)close(l.server);
}

/* Numbers of sockets come in ranges of each CPU: a later one may well be smaller. */
KTEST(core_ports, who_came_first_stays_on_whatever_cpu)
{
    cpu_set_t all;
    cr_assert(sched_getaffinity(0, sizeof all, &all) == 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (!CPU_ISSET(cpu, &all))
            continue;
        cr_assert(sched_setaffinity(0, sizeof one, &one) == 0);
        fixture f;
        set_up(&f);
        ends first = open_link(&f);
        cr_assert_eq(krpc_core_ports_cap(&f.ports, 1, 1000), 0U);
        for (int other = 0; other < CPU_SETSIZE; other++) {
            CPU_ZERO(&one);
            CPU_SET(other, &one);
            if (!CPU_ISSET(other, &all))
                continue;
            cr_assert(sched_setaffinity(0, sizeof one, &one) == 0);
            ends second = open_link(&f);
            cr_assert_eq(krpc_core_ports_cap(&f.ports, 1, 1000), 1U);
            cr_assert(is_cut(second));
            cr_assert_not(is_cut(first));
            close_link(second);
        }
        close_link(first);
        tear_down(&f);
    }
    cr_assert(sched_setaffinity(0, sizeof all, &all) == 0);
}

KTEST(core_ports, of_new_ones_those_that_have_spoken_stay)
{
    fixture f;
    set_up(&f);
    ends links[8];
    for (size_t i = 0; i < 8; i++)
        links[i] = open_link(&f);
    cr_assert_eq(send(links[5].client, "hello", 5, 0), 5);
    cr_assert_eq(send(links[2].client, "h", 1, 0), 1);
    cr_assert_eq(krpc_core_ports_cap(&f.ports, 2, 1000), 6U);
    for (size_t i = 0; i < 8; i++)
        cr_assert_eq(is_cut(links[i]), i != 5 && i != 2);
    cr_assert_eq(krpc_core_ports_cap(&f.ports, 100, 0), 8U, "no descriptors: nobody stays");
    for (size_t i = 0; i < 8; i++) {
        cr_assert(is_cut(links[i]));
        close_link(links[i]);
    }
    tear_down(&f);
}

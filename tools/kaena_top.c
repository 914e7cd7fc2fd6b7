/* kaena-top: the daemons and their models at work. */
#include <curses.h>
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "client_address.h"
#include "top_view.h"

#define PLAIN_WIDTH 160
#define CTRL_L 12
/* A daemon that hangs is given up; there is another question in a moment. */
#define ANSWER_MS 2000

static const char usage_text[] =
    "usage: kaena-top [--address A[,A]...] [--interval S] [--sort KEY] [--once | --batch N]\n"
    "\n"
    "Shows requests, times, queues and use of the devices of all daemons, every second.\n"
    "\n"
    "  --address A    daemons; without it: KAENA_KRTD_ADDRESS, the file KAENA_CONFIG names,\n"
    "                 /etc/kaena/krtd.json, or the default socket\n"
    "  --interval S   seconds between frames, 0.1 to 3600, default 1\n"
    "  --sort KEY     rate (default), name, p99 or queue\n"
    "  --batch N      N frames as plain text instead of a screen\n"
    "  --once         one frame as plain text: what happens without a terminal\n"
    "  -h, --help     prints this\n"
    "  -V, --version  prints the version\n"
    "\n"
    "keys: q quit, s next order, p pause, up, down and page keys scroll, ^L draws\n"
    "everything anew\n";

typedef struct top {
    top_sampler *sampler;
    top_view view;
    top_order order;
    uint64_t interval_ns;
    int changed_fd; /* eventfd: an answer has come */
    bool paused;
    size_t first; /* line at the top of the screen */
} top;

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void on_changed(void *user)
{
    const uint64_t one = 1;
    ssize_t ignored = write(((top *)user)->changed_fd, &one, sizeof one);
    (void)ignored;
}

/* Waits until an answer has come, |fd| (-1: none) can be read, or |until_ns|. */
static void wait_for(const top *t, int fd, uint64_t until_ns)
{
    struct pollfd p[] = {{.fd = t->changed_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    uint64_t now = now_ns(), ns = until_ns > now ? until_ns - now : 0, counted;
    struct timespec patience = {.tv_sec = (time_t)(ns / 1000000000u),
                                .tv_nsec = (long)(ns % 1000000000u)};
    (void)ppoll(p, 2, &patience, NULL);
    if (p[0].revents & POLLIN) {
        ssize_t ignored = read(t->changed_fd, &counted, sizeof counted);
        (void)ignored;
    }
}

static void title(const top *t, char *buf, size_t size)
{
    time_t now = time(NULL);
    struct tm tm;
    char clock[16], orders[96] = "";
    (void)localtime_r(&now, &tm);
    (void)strftime(clock, sizeof clock, "%H:%M:%S", &tm);
    size_t n = top_sampler_count(t->sampler), away = 0;
    top_sampler_lock(t->sampler);
    for (size_t i = 0; i < n; i++)
        away += !top_sampler_daemon(t->sampler, i).now;
    top_sampler_unlock(t->sampler);
    if (away)
        (void)snprintf(orders, sizeof orders, ", %zu without an answer", away);
    (void)snprintf(buf, size, "kaena-top %s  %zu daemons%s  by %s%s", clock, n, orders,
                   top_order_names[t->order], t->paused ? "  PAUSED" : "");
}

/* ---- plain text ---- */

/* Asks, and waits for the answers. */
static void sample(top *t)
{
    top_sampler_ask(t->sampler);
    while (!top_sampler_complete(t->sampler))
        wait_for(t, -1, UINT64_MAX);
}

static int run_plain(top *t, unsigned long frames)
{
    char line[TOP_LINE];
    uint64_t next = now_ns();
    bool any = false;
    sample(t);
    for (unsigned long i = 0; i < frames; i++) {
        next += t->interval_ns;
        while (now_ns() < next)
            wait_for(t, -1, next);
        sample(t);
        top_view_draw(&t->view, t->sampler, t->order, PLAIN_WIDTH);
        title(t, line, sizeof line);
        printf("%s%s\n", i ? "\n" : "", line);
        for (size_t k = 0; k < t->view.n; k++)
            printf("%s\n", t->view.lines[k].text);
        if (fflush(stdout) != 0) {
            fprintf(stderr, "kaena-top: cannot write the output: %s\n", strerror(errno));
            return 1;
        }
        top_sampler_lock(t->sampler);
        for (size_t k = 0; k < top_sampler_count(t->sampler); k++)
            any = any || top_sampler_daemon(t->sampler, k).now;
        top_sampler_unlock(t->sampler);
    }
    return any ? 0 : 1;
}

/* ---- the screen ---- */

static void draw_screen(top *t)
{
    static const int styles[] = {
        [TOP_PLAIN] = A_NORMAL, [TOP_BOLD] = A_BOLD, [TOP_TITLE] = A_REVERSE, [TOP_ALARM] = A_BOLD};
    char line[TOP_LINE];
    int rows, columns;
    getmaxyx(stdscr, rows, columns);
    (void)erase();
    title(t, line, sizeof line);
    (void)attrset(A_BOLD);
    (void)mvaddnstr(0, 0, line, columns);
    size_t page = rows > 1 ? (size_t)rows - 1 : 0;
    size_t last = t->view.n > page ? t->view.n - page : 0;
    t->first = t->first < last ? t->first : last;
    for (size_t i = 0; i < page && t->first + i < t->view.n; i++) {
        const top_line *l = &t->view.lines[t->first + i];
        (void)attrset(styles[l->style]);
        if (l->style == TOP_ALARM && has_colors())
            (void)attron(COLOR_PAIR(1));
        (void)mvaddnstr((int)i + 1, 0, l->text, columns);
    }
    (void)attrset(A_NORMAL);
    (void)refresh();
}

static void redraw(top *t)
{
    if (!t->paused)
        top_view_draw(&t->view, t->sampler, t->order, (unsigned)COLS);
    draw_screen(t);
}

/* False: the user has seen enough. */
static bool on_key(top *t, int key)
{
    size_t page = LINES > 2 ? (size_t)LINES - 2 : 1;
    switch (key) {
    case 'q':
    case 'Q':
        return false;
    case 's':
        t->order = (top_order)((t->order + 1) % TOP_N_ORDERS);
        break;
    case 'p':
    case ' ':
        t->paused = !t->paused;
        break;
    case KEY_UP:
    case 'k':
        t->first -= t->first > 0;
        break;
    case KEY_DOWN:
    case 'j':
        t->first++;
        break;
    case KEY_PPAGE:
        t->first -= t->first < page ? t->first : page;
        break;
    case KEY_NPAGE:
        t->first += page;
        break;
    case KEY_HOME:
        t->first = 0;
        break;
    case CTRL_L:
        (void)clearok(curscr, TRUE);
        break;
    default: /* KEY_RESIZE too: the screen is drawn anew */
        break;
    }
    return true;
}

static volatile sig_atomic_t ended;

static void on_end(int signum)
{
    (void)signum;
    ended = 1;
}

static int run_screen(top *t)
{
    SCREEN *screen = newterm(NULL, stdout, stdin);
    if (!screen) {
        const char *term = getenv("TERM");
        fprintf(stderr, "kaena-top: cannot draw on a terminal of the type '%s'; use --batch\n",
                term ? term : "");
        return 1;
    }
    (void)cbreak();
    (void)noecho();
    (void)curs_set(0);
    (void)keypad(stdscr, TRUE);
    (void)nodelay(stdscr, TRUE);
    if (has_colors() && start_color() == OK && use_default_colors() == OK)
        (void)init_pair(1, COLOR_RED, -1);
    struct sigaction end = {.sa_handler = on_end}; /* interrupts poll: the terminal is restored */
    (void)sigaction(SIGTERM, &end, NULL);
    (void)sigaction(SIGINT, &end, NULL);
    (void)sigaction(SIGHUP, &end, NULL);
    uint64_t next = now_ns();
    bool more = true;
    while (more && !ended) {
        if (now_ns() >= next) {
            top_sampler_ask(t->sampler);
            next = now_ns() + t->interval_ns;
        }
        redraw(t);
        wait_for(t, STDIN_FILENO, next);
        /* Answers of several daemons come within a moment of each other: one frame for all. */
        for (int key; more && (key = getch()) != ERR;)
            more = on_key(t, key);
        if (more && !top_sampler_complete(t->sampler))
            wait_for(t, STDIN_FILENO, now_ns() + 50000000u);
        struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
        if (poll(&in, 1, 0) > 0 && (in.revents & (POLLHUP | POLLERR)))
            more = false; /* the terminal is gone */
    }
    (void)endwin();
    delscreen(screen);
    return 0;
}

/* ---- command line ---- */

static int misused(const char *problem, const char *value)
{
    fprintf(stderr, "kaena-top: %s '%s'\n%s", problem, value, usage_text);
    return 2;
}

static int start(top *t, const char *address, bool plain, unsigned long frames)
{
    kaena_addresses addresses;
    kaena_err err = {0};
    if (kaena_addresses_find(address, NULL, &addresses, &err) != KAENA_OK) {
        fprintf(stderr, "kaena-top: %s\n%s%s%s", err.what, err.hint[0] ? "  " : "", err.hint,
                err.hint[0] ? "\n" : "");
        return 1;
    }
    char *list[KAENA_MAX_ADDRESSES];
    for (size_t i = 0; i < addresses.count; i++)
        list[i] = addresses.items[i].address;
    /* Signals are the main thread's: a resized terminal ends its wait. */
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    t->changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    t->sampler = top_sampler_create(list, addresses.count, ANSWER_MS, on_changed, t, &err);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    int status = 1;
    if (!t->sampler)
        fprintf(stderr, "kaena-top: %s\n", err.what);
    else
        status = plain ? run_plain(t, frames) : run_screen(t);
    top_sampler_destroy(t->sampler);
    top_view_fini(&t->view);
    (void)close(t->changed_fd);
    kaena_addresses_fini(&addresses);
    return status;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"address", required_argument, NULL, 'a'}, {"interval", required_argument, NULL, 'i'},
        {"sort", required_argument, NULL, 's'},    {"batch", required_argument, NULL, 'b'},
        {"once", no_argument, NULL, 'o'},          {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},       {0}};
    top t = {.interval_ns = 1000000000u};
    const char *address = NULL;
    bool plain = !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO);
    unsigned long frames = 1;
    (void)setlocale(LC_CTYPE, "");
    for (int c; (c = getopt_long(argc, argv, "hV", options, NULL)) != -1;) {
        char *end = NULL;
        double seconds;
        switch (c) {
        case 'a':
            address = optarg;
            break;
        case 'i':
            seconds = strtod(optarg, &end);
            if (*end || end == optarg || !(seconds >= 0.1 && seconds <= 3600))
                return misused("--interval must be 0.1 to 3600 seconds, not", optarg);
            t.interval_ns = (uint64_t)(seconds * 1e9);
            break;
        case 's':
            t.order = TOP_BY_RATE;
            while (t.order < TOP_N_ORDERS && strcmp(top_order_names[t.order], optarg) != 0)
                t.order++;
            if (t.order == TOP_N_ORDERS)
                return misused("--sort must be rate, name, p99 or queue, not", optarg);
            break;
        case 'b':
            frames = strtoul(optarg, &end, 10);
            if (*optarg < '0' || *optarg > '9' || *end || frames == 0)
                return misused("--batch must be the number of frames, not", optarg);
            plain = true;
            break;
        case 'o':
            plain = true;
            frames = 1;
            break;
        case 'h':
            (void)fputs(usage_text, stdout);
            return 0;
        case 'V':
            printf("kaena-top %s\n", KAENA_VERSION);
            return 0;
        default:
            (void)fputs(usage_text, stderr);
            return 2;
        }
    }
    if (optind < argc)
        return misused("takes no arguments, got", argv[optind]);
    return start(&t, address, plain, frames);
}

/* load: the client and the server of the bench in one program; epoll, one process.
 *
 *   load serve PORT...                      answer on 127.0.0.1 until killed (at most SERVE_SECONDS)
 *   load ping|churn|up|down|mix|hold [-c CONNS] [-s BYTES] [-b BULK] [-t SECONDS] [-n COUNT] TARGET...
 *
 * ping   CONNS connections; each sends BYTES, waits for them to come back, sends again
 * churn  CONNS at a time: connect, one exchange of BYTES, close
 * up     CONNS connections send as fast as they can; down: they receive
 * mix    ping on CONNS connections next to BULK ones, half up and half down; latency is that of ping. Bulk has a thread
 *        of its own here and always in the server, so that exchanges wait for the proxy and not for the generator
 * hold   open CONNS connections with one exchange each; say so; when a line comes in, one more exchange on each
 *
 * A connection begins with 64 bytes that look like a TLS ClientHello, because that is what a proxy in front of an
 * API server sees; the first byte of its random tells the server what to do: echo (E), swallow (S) or send (D).
 * A run lasts SECONDS after a warm-up, or COUNT units without one. The result is one line of JSON on stdout.
 *
 * Churn closes with FIN as a real client does. So that it never runs out of source ports it goes round 250 loopback
 * source addresses; the proxy's own ports towards the servers are reused by net.ipv4.tcp_tw_reuse (2: on loopback).
 * Every other workload ends with RST, so that nothing is left in buffers for the next run.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    HELLO = 64,               /* bytes of the first message, at least */
    KIND_AT = 11,             /* where in it the server is told what to do */
    MAX_SIZE = 64 << 10,      /* of an exchange */
    CHUNK = 512 << 10,        /* of bulk, per turn: smaller sends cost the generator more than they cost the proxy */
    MAX_FDS = 65536,
    MAX_ERRORS = 1000,
    BATCH = 256,              /* events per epoll_wait */
    WINDOW = 64,              /* exchanges under way at a time while opening and asking held connections */
    SERVE_SECONDS = 3600,
    HOLD_SECONDS = 60,
    SUB = 64,                 /* histogram: steps per power of two, 1.6 % */
};

enum role { NONE, LISTENER, NEW, ECHO, PING, CHURN, HOLD, SINK, SOURCE };

struct conn {
    uint64_t since;           /* when the exchange (for churn: the connect) began, ns */
    uint32_t got;             /* bytes of the answer so far */
    uint8_t role;
    uint8_t kind;             /* client: what the server is told to do; 0 in the server */
    bool said;                /* client: the first message is out */
};

static struct conn conns[MAX_FDS];
static _Thread_local unsigned char buffer[CHUNK];
static _Thread_local int epoll;
static int bulk_epoll;        /* the bulk thread's */
static _Thread_local unsigned char message[MAX_SIZE] = {22, 3, 1, 0, HELLO - 5, 1, 0, 0, HELLO - 9, 3, 3};
static uint64_t histogram[SUB * 64];
static struct sockaddr_in targets[64];
static int target_count;
static size_t size = HELLO;
static uint64_t units, limit, measured;
static _Atomic uint64_t bytes, errors;
static bool warm;             /* past the warm-up: latencies count */
static int want, opened, held, asked;
static int *hold_fds;

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- histogram of nanoseconds ---- */

static void record(uint64_t ns)
{
    int exponent = ns < SUB ? 0 : 63 - __builtin_clzll(ns) - 5;
    histogram[ns < SUB ? ns : (uint64_t)exponent * SUB + (ns >> (exponent - 1)) - SUB]++;
    measured++;
}

static double percentile(double part)
{
    uint64_t seen = 0, rank = (uint64_t)(part * (double)measured);
    for (int i = 0; i < SUB * 64; i++) {
        seen += histogram[i];
        if (seen > rank)
            return (i < SUB ? i : ((i % SUB + SUB + 0.5) * (double)(1ull << (i / SUB - 1)))) / 1e3;
    }
    return 0;
}

/* ---- sockets ---- */

static void watch(int set, int fd, int op, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(set, op, fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static struct conn *adopt(int fd, enum role role, unsigned char kind)
{
    if (fd >= MAX_FDS)
        die("more than %d file descriptors", MAX_FDS);
    conns[fd] = (struct conn){.role = (uint8_t)role, .kind = kind};
    return &conns[fd];
}

static void drop(int fd, bool reset)
{
    struct linger linger = {.l_onoff = 1};
    if (reset)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    conns[fd].role = NONE;
    close(fd);
}

static void from_another_address(int fd)
{
    static uint32_t turn;
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000101 + turn++ % 250)};
    int on = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&source, sizeof source) < 0)
        die("bind: %s", strerror(errno));
}

static void failed(int fd);

/* Sends the message; true if it went out whole. A connect still under way is waited for. */
static bool say(int fd)
{
    struct conn *c = &conns[fd];
    c->got = 0;
    message[KIND_AT] = c->kind;
    ssize_t n = send(fd, message, size, MSG_NOSIGNAL);
    if (n == (ssize_t)size)
        return c->said = true;
    if (n >= 0 || errno != EAGAIN) /* one message at a time always fits into an empty socket buffer */
        failed(fd);
    return false;
}

static void dial(enum role role, unsigned char kind)
{
    static unsigned turn;
    uint64_t start = now();
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    struct conn *c = adopt(fd, role, kind);
    c->since = start;
    if (role == CHURN)
        from_another_address(fd);
    struct sockaddr_in *target = &targets[turn++ % (unsigned)target_count];
    if (connect(fd, (struct sockaddr *)target, sizeof *target) < 0 && errno != EINPROGRESS) {
        failed(fd);
        return;
    }
    bool said = say(fd);
    if (c->role != NONE)
        watch(epoll, fd, EPOLL_CTL_ADD, EPOLLIN | (said && role != SOURCE ? 0 : EPOLLOUT));
}

/* A client connection that broke: counted, and in churn replaced. */
static void failed(int fd)
{
    enum role role = conns[fd].role;
    bool client = conns[fd].kind;
    drop(fd, true);
    if (!client)
        return;
    if (++errors > MAX_ERRORS)
        die("more than %d errors, the last: %s", MAX_ERRORS, strerror(errno));
    if (role == CHURN)
        dial(CHURN, 'E');
}

/* ---- what each role does when its socket is ready ---- */

static void accept_all(int fd)
{
    for (int i = 0; i < BATCH; i++) {
        int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (peer < 0)
            return;
        adopt(peer, NEW, 0);
        watch(epoll, peer, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void echo(int fd)
{
    struct conn *c = &conns[fd];
    ssize_t n = recv(fd, buffer, MAX_SIZE, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || (c->role == NEW && n < HELLO)) {
        drop(fd, false);
        return;
    }
    if (c->role == NEW) {
        unsigned char kind = buffer[KIND_AT];
        c->role = kind == 'S' ? SINK : kind == 'D' ? SOURCE : ECHO;
        if (c->role != ECHO) {
            epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
            watch(bulk_epoll, fd, EPOLL_CTL_ADD, EPOLLIN | (kind == 'D' ? EPOLLOUT : 0));
            return;
        }
    }
    if (send(fd, buffer, (size_t)n, MSG_NOSIGNAL) != n)
        drop(fd, true);
}

static void fill(int fd)
{
    ssize_t n = send(fd, buffer, CHUNK, MSG_NOSIGNAL);
    if (n > 0)
        bytes += (uint64_t)n;
    else if (n < 0 && errno != EAGAIN)
        failed(fd);
}

static void swallow(int fd)
{
    ssize_t n = recv(fd, NULL, 2 * CHUNK, MSG_TRUNC); /* TCP: discards without copying */
    if (n > 0)
        bytes += (uint64_t)n;
    else if (n == 0 || errno != EAGAIN)
        failed(fd);
}

static void next_held(int fd)
{
    if (!hold_fds)
        return;
    if (held < want) { /* opening */
        hold_fds[held++] = fd;
        if (opened < want) {
            opened++;
            dial(HOLD, 'E');
        }
    } else if (asked < want) {
        int next = hold_fds[asked++];
        conns[next].since = now();
        say(next);
    }
}

/* The rest of an answer arrived: count the exchange and begin the next. */
static void answered(int fd)
{
    struct conn *c = &conns[fd];
    uint64_t t = now();
    if (warm)
        record(t - c->since);
    units++;
    if (c->role == CHURN) {
        drop(fd, false);
        if (!limit || units < limit)
            dial(CHURN, 'E');
    } else if (c->role == HOLD) {
        next_held(fd);
    } else {
        c->since = t;
        say(fd);
    }
}

static void exchange(int fd)
{
    ssize_t n = recv(fd, buffer, MAX_SIZE, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        failed(fd);
    else if ((conns[fd].got += (uint32_t)n) >= size)
        answered(fd);
}

static void ready(int fd, uint32_t events)
{
    struct conn *c = &conns[fd];
    if (c->kind && !c->said) { /* still connecting */
        if ((events & EPOLLOUT) && say(fd))
            watch(epoll, fd, EPOLL_CTL_MOD, EPOLLIN | (c->role == SOURCE ? EPOLLOUT : 0));
    } else if (c->role == SOURCE) {
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) /* it has nothing to say: it is gone */
            failed(fd);
        else
            fill(fd);
    } else if (c->role == LISTENER) {
        accept_all(fd);
    } else if (c->role == NEW || c->role == ECHO) {
        echo(fd);
    } else if (c->role == SINK) {
        swallow(fd);
    } else if (c->role != NONE) {
        exchange(fd);
    }
}

static void turn(int timeout_ms)
{
    struct epoll_event events[BATCH];
    int n = epoll_wait(epoll, events, BATCH, timeout_ms);
    if (n < 0 && errno != EINTR)
        die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++)
        ready(events[i].data.fd, events[i].events);
}

/* ---- the runs ---- */

static void dial_bulk(int up, int down)
{
    for (int i = 0; i < up; i++)
        dial(SOURCE, 'S');
    for (int i = 0; i < down; i++)
        dial(SINK, 'D');
}

/* The bulk thread; `bulk` connections are the client's, the server adds its own. */
static void *bulk_loop(void *bulk)
{
    epoll = bulk_epoll;
    dial_bulk(*(int *)bulk / 2, *(int *)bulk - *(int *)bulk / 2);
    for (;;)
        turn(-1);
    return NULL;
}

static void start_bulk(int *bulk)
{
    pthread_t thread;
    bulk_epoll = epoll_create1(EPOLL_CLOEXEC);
    if (pthread_create(&thread, NULL, bulk_loop, bulk))
        die("no thread");
}

static void serve(char **ports)
{
    int none = 0;
    alarm(SERVE_SECONDS);
    start_bulk(&none);
    for (; *ports; ports++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        address.sin_port = htons((uint16_t)atoi(*ports));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
            die("cannot listen on %s: %s", *ports, strerror(errno));
        adopt(fd, LISTENER, 0);
        watch(epoll, fd, EPOLL_CTL_ADD, EPOLLIN);
    }
    for (;;)
        turn(-1);
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void report(const char *workload, double seconds, uint64_t rate_units, uint64_t rate_bytes)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"workload\": \"%s\", \"conns\": %d, \"size\": %zu, \"seconds\": %.4f, \"units\": %lu, \"bytes\": %lu, "
           "\"per_second\": %.1f, \"bytes_per_second\": %.0f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, "
           "\"errors\": %lu, \"load_cpu_seconds\": %.4f}\n",
           workload, want, size, seconds, units, bytes, (double)rate_units / seconds, (double)rate_bytes / seconds,
           percentile(0.5), percentile(0.99), percentile(0.999), errors,
           seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime));
    fflush(stdout);
}

/* Turns until `until` (ns) or until the limit of units is reached. */
static void run_until(uint64_t until)
{
    for (uint64_t t = now(); t < until && (!limit || units < limit); t = now())
        turn((int)((until - t) / 1000000) + 1);
}

static void hold(double seconds)
{
    uint64_t end = now() + (uint64_t)(seconds * 1e9), start = now();
    hold_fds = calloc((size_t)want, sizeof *hold_fds);
    for (opened = 0; opened < want && opened < WINDOW; opened++)
        dial(HOLD, 'E');
    while (held < want && now() < end)
        turn(100);
    if (held < want || errors)
        die("only %d of %d connections opened, %lu errors", held, want, errors);
    printf("{\"held\": %d, \"opened_per_second\": %.1f}\n", held, held / ((double)(now() - start) / 1e9));
    fflush(stdout);
    poll(&(struct pollfd){.fd = STDIN_FILENO, .events = POLLIN}, 1, HOLD_SECONDS * 1000);
    warm = true;
    start = now();
    end = start + (uint64_t)(seconds * 1e9);
    uint64_t before = units;
    for (int window = asked + WINDOW; asked < want && asked < window;)
        next_held(0);
    while (units - before + errors < (uint64_t)want && now() < end)
        turn(100);
    if (units - before < (uint64_t)want)
        die("only %lu of %d held connections answered", units - before, want);
    report("hold", (double)(now() - start) / 1e9, units - before, 0);
}

int main(int argc, char **argv)
{
    int option, bulk = 4;
    double seconds = 2;
    want = 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* the bench never leaves a load running */
    epoll = epoll_create1(EPOLL_CLOEXEC);
    const char *workload = argc > 1 ? argv[1] : "";
    if (!strcmp(workload, "serve") && argc > 2)
        serve(argv + 2);
    optind = 2;
    while ((option = getopt(argc, argv, "c:s:b:t:n:")) != -1) {
        switch (option) {
        case 'c': want = atoi(optarg); break;
        case 's': size = (size_t)atol(optarg); break;
        case 'b': bulk = atoi(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'n': limit = (uint64_t)atoll(optarg); break;
        default: die("see the top of load.c for the options");
        }
    }
    for (; optind < argc && target_count < 64; optind++, target_count++) {
        char *colon = strrchr(argv[optind], ':');
        struct sockaddr_in *t = &targets[target_count];
        if (!colon)
            die("%s: not ADDRESS:PORT", argv[optind]);
        *colon = 0;
        t->sin_family = AF_INET;
        t->sin_port = htons((uint16_t)atoi(colon + 1));
        if (inet_pton(AF_INET, argv[optind], &t->sin_addr) != 1 || ntohl(t->sin_addr.s_addr) >> 24 != 127)
            die("%s: only 127.0.0.0/8 is dialled", argv[optind]);
    }
    if (!target_count || want < 1 || want > MAX_FDS - 100 || bulk < 0 || bulk > 1000 || size < HELLO
        || size > MAX_SIZE || seconds <= 0 || seconds > 600)
        die("see the top of load.c for the options");
    alarm((unsigned)(3 * seconds) + HOLD_SECONDS + 10);

    if (!strcmp(workload, "hold")) {
        hold(seconds);
        _exit(0);
    }
    int exchanges = 0;
    enum role role = PING;
    if (!strcmp(workload, "ping") || !strcmp(workload, "mix"))
        exchanges = want;
    else if (!strcmp(workload, "churn"))
        exchanges = want, role = CHURN;
    else if (!strcmp(workload, "up"))
        dial_bulk(want, 0);
    else if (!strcmp(workload, "down"))
        dial_bulk(0, want);
    else
        die("no such workload: %s", workload);
    for (int i = 0; i < exchanges; i++)
        dial(role, 'E');
    if (!strcmp(workload, "mix"))
        start_bulk(&bulk);

    uint64_t start = now();
    if (!limit) {
        run_until(start + (uint64_t)(seconds * 0.15 * 1e9));
        start = now();
    }
    warm = true;
    uint64_t units_before = units, bytes_before = bytes;
    run_until(start + (uint64_t)(seconds * 1e9));
    report(workload, (double)(now() - start) / 1e9, units - units_before, bytes - bytes_before);
    for (int fd = 0; fd < MAX_FDS; fd++)
        if (conns[fd].role != NONE)
            drop(fd, true);
    _exit(0); /* whatever the bulk thread is at */
}

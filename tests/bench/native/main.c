/* path_bench: one measurement of the data path, printed as one line of JSON.
 *
 * usage: path_bench CASE SUBJECT FRAMING PAYLOAD_BYTES PACKETS [PASST_SOCKET PASST_PID]
 *
 * CASE is up, down, rtt, flood, mix, idle, memory, fair or crowd; SUBJECT naive, relay, filtered, conntrack, sampled or passt;
 * FRAMING dgram or stream. It runs in a network of its own, unless passt has one already. */
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/native/bench.h"
#include "tests/nat/frames.h"
#include "tests/nat/link.h"

enum {
    IDLE_MS = 2000,
    FAIR = 4,
    MEMORY_NATS = 24,
    CROWD = 200,
    WARM_UP = 2000,
};

/** struct bench - The command line. */
struct bench {
    const char *what;
    enum bench_subject subject;
    enum nat_framing framing;
    size_t payload_bytes;
    unsigned packets;
    const char *passt_socket;
    pid_t passt;
};

void bench_die(const char *what)
{
    perror(what);
    exit(1);
}

void bench_pin(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core % (size_t)sysconf(_SC_NPROCESSORS_ONLN), &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}

uint64_t bench_now_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        bench_die("clock_gettime");
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void connect_passt(const struct bench *bench, struct bench_link *link)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", bench->passt_socket);
    *link =
        (struct bench_link){.framing = NAT_FRAMING_STREAM, .guest = socket(AF_UNIX, SOCK_STREAM, 0), .consumer = -1};
    if (connect(link->guest, (struct sockaddr *)&address, sizeof address) < 0)
        bench_die(bench->passt_socket);
}

static void begin(const struct bench *bench, struct bench_link *link, struct bench_carrier *carrier)
{
    int frame_fd = -1;
    if (bench->subject == BENCH_PASST)
        connect_passt(bench, link);
    else
        link_make(link, bench->framing, &frame_fd);
    carrier_start(carrier, bench->subject, bench->framing, frame_fd, bench->passt);
    link_open_flow(link);
}

static void end(struct bench_link *link, struct bench_carrier *carrier)
{
    carrier_stop(carrier);
    close(link->guest);
    close(link->consumer);
}

/* ---- throughput --------------------------------------------------------------------------------------------------- */

static void run_burst(const struct bench *bench, unsigned forbidden_of_ten)
{
    struct bench_link link;
    struct bench_carrier carrier;
    begin(bench, &link, &carrier);
    const bool down = strcmp(bench->what, "down") == 0;
    void (*run)(struct burst *) = down ? burst_down : burst_up;
    struct burst warm_up = {.link = &link, .payload_bytes = bench->payload_bytes, .packets = WARM_UP};
    run(&warm_up);
    struct burst burst = {.link = &link,
                          .payload_bytes = bench->payload_bytes,
                          .packets = bench->packets,
                          .forbidden_of_ten = forbidden_of_ten};
    const uint64_t before_ns = carrier_cpu_ns(&carrier);
    run(&burst);
    poll(NULL, 0, 20); /* what is still queued at a flood's end */
    const uint64_t used_ns = carrier_cpu_ns(&carrier) - before_ns;
    const double seconds = (double)burst.wall_ns / 1e9;
    printf("{\"cpu_ns_per_packet\":%.1f,\"gbps\":%.3f,\"mpps\":%.4f,\"sent\":%u,\"received\":%u,\"lost\":%u}\n",
           (double)used_ns / burst.packets, (double)burst.received * (double)burst.payload_bytes * 8 / 1e9 / seconds,
           burst.received / 1e6 / seconds, burst.sent, burst.received, burst.sent - burst.received);
    end(&link, &carrier);
}

/* ---- round trip --------------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Everybody on one core: a frame out, its payload back from the consumer, a frame in. */
static void run_round_trips(const struct bench *bench)
{
    struct bench_link link;
    struct bench_carrier carrier;
    begin(bench, &link, &carrier);
    bench_pin(BENCH_CORE_SUBJECT);
    struct frame frame = frame_udp(test_guest, test_consumer, bench->payload_bytes);
    uint8_t wire[4 + FRAME_BYTES] = {0, 0, (uint8_t)(frame.length >> 8), (uint8_t)frame.length};
    memcpy(wire + 4, frame.bytes, frame.length);
    const size_t skipped = link.framing == NAT_FRAMING_STREAM ? 0 : 4;
    const size_t length = 4 + frame.length - skipped;
    uint64_t *trips = calloc(bench->packets, sizeof *trips);
    uint8_t bytes[4 + FRAME_BYTES];
    for (unsigned i = 0; i < bench->packets; i++) {
        const uint64_t begin_ns = bench_now_ns(CLOCK_MONOTONIC);
        if (send(link.guest, wire + skipped, length, 0) < 0 ||
            recv(link.consumer, bytes, sizeof bytes, 0) != (ssize_t)bench->payload_bytes ||
            sendto(link.consumer, bytes, bench->payload_bytes, 0, (struct sockaddr *)&link.uplink, sizeof link.uplink) <
                0 ||
            recv(link.guest, bytes, length, MSG_WAITALL) != (ssize_t)length)
            bench_die("round trip");
        trips[i] = bench_now_ns(CLOCK_MONOTONIC) - begin_ns;
    }
    qsort(trips, bench->packets, sizeof *trips, compare);
    printf("{\"p50_us\":%.2f,\"p99_us\":%.2f}\n", (double)trips[bench->packets / 2] / 1e3,
           (double)trips[bench->packets - 1 - bench->packets / 100] / 1e3);
    free(trips);
    end(&link, &carrier);
}

/* ---- small but real ----------------------------------------------------------------------------------------------- */

static void run_idle(const struct bench *bench)
{
    struct bench_link link;
    struct bench_carrier carrier;
    begin(bench, &link, &carrier);
    poll(NULL, 0, 300);
    const uint64_t before = carrier_wakeups(&carrier);
    poll(NULL, 0, IDLE_MS);
    printf("{\"wakeups\":%llu,\"seconds\":%.1f}\n", (unsigned long long)(carrier_wakeups(&carrier) - before),
           IDLE_MS / 1e3);
    end(&link, &carrier);
}

static unsigned long private_kib(void)
{
    char line[128];
    unsigned long sum = 0;
    unsigned long kib = 0;
    FILE *rollup = fopen("/proc/self/smaps_rollup", "re");
    if (rollup == NULL)
        bench_die("smaps_rollup");
    while (fgets(line, sizeof line, rollup) != NULL) {
        if (sscanf(line, "Private_Clean: %lu", &kib) == 1 || sscanf(line, "Private_Dirty: %lu", &kib) == 1)
            sum += kib;
    }
    fclose(rollup);
    return sum;
}

/* One after the other is used at full rate both ways, so that each has touched what it ever will. */
static void run_memory(const struct bench *bench)
{
    static struct bench_link links[MEMORY_NATS];
    static struct bench_carrier carriers[MEMORY_NATS];
    unsigned long before = 0;
    for (int i = 0; i < MEMORY_NATS; i++) {
        begin(bench, &links[i], &carriers[i]);
        struct burst up = {.link = &links[i], .payload_bytes = bench->payload_bytes, .packets = bench->packets};
        struct burst down = up;
        burst_up(&up);
        burst_down(&down);
        close(links[i].consumer);
        if (i == 0)
            before = private_kib(); /* what the process and the measurement themselves need is there by now */
    }
    printf("{\"private_kib\":%.1f}\n", (double)(private_kib() - before) / (MEMORY_NATS - 1));
    for (int i = 0; i < MEMORY_NATS; i++) {
        carrier_stop(&carriers[i]);
        close(links[i].guest);
    }
}

static void run_crowd(const struct bench *bench)
{
    static struct bench_link links[CROWD];
    static struct bench_carrier carriers[CROWD];
    for (int i = 0; i < CROWD; i++) {
        int frame_fd;
        link_make(&links[i], bench->framing, &frame_fd);
        carrier_start(&carriers[i], bench->subject, bench->framing, frame_fd, 0);
    }
    poll(NULL, 0, 300);
    uint64_t wakeups = 0;
    const uint64_t before_ns = bench_now_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < CROWD; i++)
        wakeups -= carrier_wakeups(&carriers[i]);
    const uint64_t reading_ns = bench_now_ns(CLOCK_PROCESS_CPUTIME_ID) - before_ns;
    poll(NULL, 0, IDLE_MS);
    const uint64_t used_ns = bench_now_ns(CLOCK_PROCESS_CPUTIME_ID) - before_ns - reading_ns;
    for (int i = 0; i < CROWD; i++)
        wakeups += carrier_wakeups(&carriers[i]);
    printf("{\"nats\":%d,\"wakeups\":%llu,\"cpu_us_per_s\":%.1f}\n", CROWD, (unsigned long long)wakeups,
           (double)used_ns / 1e3 / (IDLE_MS / 1e3));
    for (int i = 0; i < CROWD; i++) {
        carrier_stop(&carriers[i]);
        close(links[i].guest);
    }
}

/* Four guests send all they can at once; each NAT's share of what was forwarded while all four were at it. */
static void run_fair(const struct bench *bench)
{
    static struct bench_link links[FAIR];
    static struct bench_carrier carriers[FAIR];
    pid_t guests[FAIR];
    uint64_t before[FAIR];
    double least = 1e18;
    double most = 0;
    for (int i = 0; i < FAIR; i++) {
        begin(bench, &links[i], &carriers[i]);
        if (i < FAIR - 1) {
            close(links[i].consumer); /* its endpoint is the next one's */
            links[i].consumer = -1;
        }
    }
    for (int i = 0; i < FAIR; i++) {
        struct nat_stats stats;
        nat_read_stats(carriers[i].nat, &stats);
        before[i] = stats.frames[NAT_REASON_ALLOWED];
        guests[i] = fork();
        if (guests[i] == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when the measurement itself is ended */
            struct burst burst = {.link = &links[i], .payload_bytes = bench->payload_bytes, .packets = UINT32_MAX / 2};
            burst_up(&burst);
            _exit(0);
        }
    }
    poll(NULL, 0, 800);
    for (int i = 0; i < FAIR; i++) {
        struct nat_stats stats;
        nat_read_stats(carriers[i].nat, &stats);
        const double got = (double)(stats.frames[NAT_REASON_ALLOWED] - before[i]);
        least = got < least ? got : least;
        most = got > most ? got : most;
    }
    for (int i = 0; i < FAIR; i++) {
        kill(guests[i], SIGKILL);
        waitpid(guests[i], NULL, 0);
        carrier_stop(&carriers[i]);
        close(links[i].guest);
    }
    close(links[FAIR - 1].consumer);
    printf("{\"nats\":%d,\"least_of_most\":%.3f}\n", FAIR, least / most);
}

static const char *const subjects[] = {"naive", "relay", "filtered", "conntrack", "sampled", "passt"};

static void read_arguments(int argc, char **argv, struct bench *bench)
{
    if (argc < 6) {
        fprintf(stderr, "usage: path_bench CASE SUBJECT FRAMING PAYLOAD_BYTES PACKETS [PASST_SOCKET PASST_PID]\n");
        exit(2);
    }
    *bench = (struct bench){.what = argv[1],
                            .subject = BENCH_SUBJECT_COUNT,
                            .framing = strcmp(argv[3], "stream") == 0 ? NAT_FRAMING_STREAM : NAT_FRAMING_DATAGRAM,
                            .payload_bytes = (size_t)atol(argv[4]),
                            .packets = (unsigned)atol(argv[5])};
    for (int i = 0; i < BENCH_SUBJECT_COUNT; i++) {
        if (strcmp(argv[2], subjects[i]) == 0)
            bench->subject = (enum bench_subject)i;
    }
    if (argc == 8) {
        bench->passt_socket = argv[6];
        bench->passt = (pid_t)atol(argv[7]);
    }
    if (bench->subject == BENCH_SUBJECT_COUNT || (bench->subject == BENCH_PASST) != (bench->passt != 0))
        bench_die("subject");
}

int main(int argc, char **argv)
{
    struct bench bench;
    read_arguments(argc, argv, &bench);
    if (bench.passt == 0 && link_enter() < 0)
        bench_die("no network namespace");
    if (sodium_init() < 0) /* as the daemon does: it chooses the vector unit for the sampler's random words */
        bench_die("sodium_init");
    bench_pin(BENCH_CORE_OTHERS);
    /* What the ends of a measurement give back goes back at once, so that it is not taken for the NAT's memory. */
    (void)mallopt(M_ARENA_MAX, 1);
    (void)mallopt(M_MMAP_THRESHOLD, 64 * 1024);
    if (strcmp(bench.what, "up") == 0 || strcmp(bench.what, "down") == 0)
        run_burst(&bench, 0);
    else if (strcmp(bench.what, "flood") == 0)
        run_burst(&bench, 10);
    else if (strcmp(bench.what, "mix") == 0)
        run_burst(&bench, 9);
    else if (strcmp(bench.what, "rtt") == 0)
        run_round_trips(&bench);
    else if (strcmp(bench.what, "idle") == 0)
        run_idle(&bench);
    else if (strcmp(bench.what, "memory") == 0)
        run_memory(&bench);
    else if (strcmp(bench.what, "fair") == 0)
        run_fair(&bench);
    else if (strcmp(bench.what, "crowd") == 0)
        run_crowd(&bench);
    else
        bench_die("case");
    return 0;
}

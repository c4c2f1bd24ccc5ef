/* The pieces of a measurement: somebody under test between a synthetic guest and a consumer. */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "nat/nat.h"

enum bench_limits {
    BENCH_BLOCK = 64, /* frames that a guest sends with one call */
    BENCH_FRAME_BYTES = 1600,
    BENCH_CORE_SUBJECT = 0,
    BENCH_CORE_OTHERS = 1,
};

/** enum bench_subject - Who carries the frames. */
enum bench_subject {
    BENCH_NAIVE, /* a read and a sendto for each frame, no checks: what one writes first */
    BENCH_RELAY, /* the same batches and offloads as the NAT, no checks: what the transport allows */
    BENCH_FILTERED,
    BENCH_CONNTRACK,
    BENCH_SAMPLED,
    BENCH_PASST, /* another program, behind its own socket */
    BENCH_SUBJECT_COUNT,
};

/** struct bench_link - One guest's end, whoever is at the other. Owner: the measurement. */
struct bench_link {
    enum nat_framing framing;
    int guest;                 /* blocking */
    int consumer;              /* UDP, bound to the endpoint */
    struct sockaddr_in uplink; /* whence the consumer heard the guest last */
};

/** struct bench_carrier - Somebody under test, running. */
struct bench_carrier {
    struct nat *nat;
    int reports;
    struct relay *relay;
    clockid_t clock; /* its processor time */
    pid_t thread;    /* or process */
};

void bench_die(const char *what);
void bench_pin(int core);
uint64_t bench_now_ns(clockid_t clock);

/* carrier.c */
void carrier_start(struct bench_carrier *carrier, enum bench_subject subject, enum nat_framing framing, int frame_fd,
                   pid_t process);
void carrier_stop(struct bench_carrier *carrier);
uint64_t carrier_cpu_ns(const struct bench_carrier *carrier);
uint64_t carrier_wakeups(const struct bench_carrier *carrier);

/* relay.c: the baselines */
struct relay *relay_start(bool naive, enum nat_framing framing, int frame_fd, pid_t *ret_thread);
void relay_stop(struct relay *relay);

/* ends.c: guest and consumer */
void link_make(struct bench_link *link, enum nat_framing framing, int *ret_frame_fd);
void link_open_flow(struct bench_link *link);

/** struct burst - Packets to send and what became of them. */
struct burst {
    struct bench_link *link;
    size_t payload_bytes;
    unsigned packets;
    unsigned forbidden_of_ten; /* so many of each ten frames go where nothing may */
    unsigned sent;             /* allowed ones */
    unsigned received;
    uint64_t wall_ns;
};

void burst_up(struct burst *burst);
void burst_down(struct burst *burst);

#endif

/* The synthetic guest and the consumer. Both move 64 packets with a call, so that they are not what is measured. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "nat/wire.h"
#include "tests/bench/native/bench.h"
#include "tests/nat/frames.h"
#include "tests/nat/link.h"

enum {
    SOCKET_BYTES = 4 * 1024 * 1024,
    GIVE_UP_MS = 500, /* nothing came for so long: the rest is lost */
    IN_FLIGHT = 384, /* of datagrams to the uplink: below its socket buffer where the system grants the usual 208 KiB */
    CONSUMER_RUN = 32,
    STREAM_READ = 256 * 1024,
};

/* What the payloads begin with: WireGuard's transport data, as nearly all of a tunnel is. */
static const uint8_t transport[4] = {4, 0, 0, 0};

void link_make(struct bench_link *link, enum nat_framing framing, int *ret_frame_fd)
{
    int ends[2];
    if (socketpair(AF_UNIX, framing == NAT_FRAMING_STREAM ? SOCK_STREAM : SOCK_DGRAM, 0, ends) < 0)
        bench_die("socketpair");
    const int bytes = 1024 * 1024; /* as the daemon asks for */
    for (int i = 0; i < 2; i++) {
        (void)setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        (void)setsockopt(ends[i], SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    }
    *link = (struct bench_link){.framing = framing, .guest = ends[1], .consumer = -1};
    *ret_frame_fd = ends[0];
}

/* One packet out, so that there is a flow and the consumer knows where it comes from. */
void link_open_flow(struct bench_link *link)
{
    const int bytes = SOCKET_BYTES;
    if (link->consumer < 0) {
        link->consumer = link_udp_socket(test_consumer);
        (void)setsockopt(link->consumer, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    }
    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    const uint32_t prefix = htonl((uint32_t)frame.length);
    if (link->framing == NAT_FRAMING_STREAM && send(link->guest, &prefix, sizeof prefix, 0) < 0)
        bench_die("guest");
    if (send(link->guest, frame.bytes, frame.length, 0) < 0)
        bench_die("guest");
    uint8_t payload[16];
    socklen_t length = sizeof link->uplink;
    if (recvfrom(link->consumer, payload, sizeof payload, 0, (struct sockaddr *)&link->uplink, &length) != 8)
        bench_die("the first packet did not arrive");
}

/* ---- up ----------------------------------------------------------------------------------------------------------- */

/** struct block - Frames ready to be sent again and again. */
struct block {
    struct mmsghdr headers[BENCH_BLOCK];
    struct iovec parts[BENCH_BLOCK];
    uint8_t bytes[BENCH_BLOCK][4 + BENCH_FRAME_BYTES];
    uint8_t wire[BENCH_BLOCK * (4 + BENCH_FRAME_BYTES)];
    size_t wire_at[BENCH_BLOCK + 1];
    bool allowed[BENCH_BLOCK];
};

static bool is_allowed(const struct burst *burst, size_t number)
{
    return number % BENCH_BLOCK % 10 >= burst->forbidden_of_ten;
}

static void fill_block(struct block *block, const struct burst *burst)
{
    static const struct nat_endpoint forbidden = {0xC6336403, 53};
    for (size_t i = 0; i < BENCH_BLOCK; i++) {
        block->allowed[i] = is_allowed(burst, i);
        struct frame frame = frame_udp(test_guest, block->allowed[i] ? test_consumer : forbidden, burst->payload_bytes);
        memcpy(frame.bytes + WIRE_PAYLOAD, transport, sizeof transport);
        frame_fix_udp(&frame);
        const uint32_t prefix = htonl((uint32_t)frame.length);
        memcpy(block->bytes[i], &prefix, sizeof prefix);
        memcpy(block->bytes[i] + 4, frame.bytes, frame.length);
        block->parts[i] = (struct iovec){block->bytes[i] + 4, frame.length};
        block->headers[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &block->parts[i], .msg_iovlen = 1}};
        memcpy(block->wire + block->wire_at[i], block->bytes[i], 4 + frame.length);
        block->wire_at[i + 1] = block->wire_at[i] + 4 + frame.length;
    }
}

static void send_some(const struct burst *burst, struct block *block, unsigned count)
{
    const int guest = burst->link->guest;
    if (burst->link->framing == NAT_FRAMING_STREAM) {
        for (size_t at = 0, end = block->wire_at[count]; at < end;) {
            ssize_t sent = send(guest, block->wire + at, end - at, MSG_NOSIGNAL);
            if (sent < 0)
                bench_die("guest");
            at += (size_t)sent;
        }
        return;
    }
    for (unsigned at = 0; at < count;) {
        int sent = sendmmsg(guest, block->headers + at, count - at, 0);
        if (sent < 0)
            bench_die("guest");
        at += (unsigned)sent;
    }
}

static void *guest_sends(void *context)
{
    struct burst *burst = context;
    struct block *block = calloc(1, sizeof *block);
    if (block == NULL)
        bench_die("calloc");
    fill_block(block, burst);
    for (unsigned at = 0; at < burst->packets; at += BENCH_BLOCK) {
        const unsigned count = burst->packets - at < BENCH_BLOCK ? burst->packets - at : BENCH_BLOCK;
        send_some(burst, block, count);
        for (unsigned i = 0; i < count; i++)
            burst->sent += block->allowed[i];
    }
    free(block);
    return NULL;
}

/* Joined where the kernel can, so that it keeps up. Return: datagrams, 0 when none came for a while. */
static unsigned consumer_takes(int fd, size_t payload_bytes)
{
    static uint8_t bytes[65536];
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {bytes, sizeof bytes};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    if (poll(&ready, 1, GIVE_UP_MS) <= 0)
        return 0;
    ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);
    return length <= 0 ? 0 : ((unsigned)length + (unsigned)payload_bytes - 1) / (unsigned)payload_bytes;
}

void burst_up(struct burst *burst)
{
    const int join = 1;
    (void)setsockopt(burst->link->consumer, IPPROTO_UDP, UDP_GRO, &join, sizeof join);
    pthread_t guest;
    const uint64_t begin_ns = bench_now_ns(CLOCK_MONOTONIC);
    if (pthread_create(&guest, NULL, guest_sends, burst) != 0)
        bench_die("pthread_create");
    unsigned expected = 0;
    for (unsigned i = 0; i < burst->packets; i++)
        expected += is_allowed(burst, i);
    burst->wall_ns = 1;
    for (unsigned some = 1; some > 0 && burst->received < expected;) {
        some = consumer_takes(burst->link->consumer, burst->payload_bytes);
        burst->received += some;
        if (some > 0)
            burst->wall_ns = bench_now_ns(CLOCK_MONOTONIC) - begin_ns;
    }
    pthread_join(guest, NULL);
    for (unsigned some = 1; some > 0 && burst->received < burst->sent;) { /* what was slower than our patience */
        some = consumer_takes(burst->link->consumer, burst->payload_bytes);
        burst->received += some;
    }
}

/* ---- down --------------------------------------------------------------------------------------------------------- */

static atomic_uint guest_has;
static atomic_bool guest_gave_up;

static unsigned count_stream(uint8_t *bytes, size_t *begun, size_t got)
{
    unsigned frames = 0;
    size_t at = 0;
    const size_t end = *begun + got;
    while (end - at >= 4) {
        uint32_t prefix;
        memcpy(&prefix, bytes + at, sizeof prefix);
        if (end - at - 4 < ntohl(prefix))
            break;
        at += 4 + ntohl(prefix);
        frames++;
    }
    memmove(bytes, bytes + at, end - at);
    *begun = end - at;
    return frames;
}

static void *guest_receives(void *context)
{
    struct burst *burst = context;
    const int guest = burst->link->guest;
    uint8_t *bytes = malloc(STREAM_READ);
    struct block *block = calloc(1, sizeof *block);
    if (bytes == NULL || block == NULL)
        bench_die("malloc");
    for (size_t i = 0; i < BENCH_BLOCK; i++) {
        block->parts[i] = (struct iovec){block->bytes[i], BENCH_FRAME_BYTES};
        block->headers[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &block->parts[i], .msg_iovlen = 1}};
    }
    size_t begun = 0;
    while (burst->received < burst->packets) {
        struct pollfd ready = {.fd = guest, .events = POLLIN};
        if (poll(&ready, 1, GIVE_UP_MS) <= 0)
            break;
        if (burst->link->framing == NAT_FRAMING_STREAM) {
            ssize_t got = recv(guest, bytes + begun, STREAM_READ - begun, MSG_DONTWAIT);
            burst->received += got > 0 ? count_stream(bytes, &begun, (size_t)got) : 0;
        } else {
            int got = recvmmsg(guest, block->headers, BENCH_BLOCK, MSG_DONTWAIT, NULL);
            burst->received += got > 0 ? (unsigned)got : 0;
        }
        atomic_store(&guest_has, burst->received);
    }
    atomic_store(&guest_gave_up, true);
    free(bytes);
    free(block);
    return NULL;
}

void burst_down(struct burst *burst)
{
    static uint8_t bytes[65536];
    const int segment = (int)burst->payload_bytes;
    for (size_t at = 0; at + burst->payload_bytes <= sizeof bytes; at += burst->payload_bytes)
        memcpy(bytes + at, transport, sizeof transport);
    if (setsockopt(burst->link->consumer, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) < 0)
        bench_die("UDP_SEGMENT");
    atomic_store(&guest_has, 0);
    atomic_store(&guest_gave_up, false);
    pthread_t guest;
    if (pthread_create(&guest, NULL, guest_receives, burst) != 0)
        bench_die("pthread_create");
    const uint64_t begin_ns = bench_now_ns(CLOCK_MONOTONIC);
    while (burst->sent < burst->packets && !guest_gave_up) {
        if (burst->sent - guest_has + CONSUMER_RUN > IN_FLIGHT) {
            sched_yield();
            continue;
        }
        unsigned run = burst->packets - burst->sent < CONSUMER_RUN ? burst->packets - burst->sent : CONSUMER_RUN;
        if (sendto(burst->link->consumer, bytes, run * burst->payload_bytes, 0, (struct sockaddr *)&burst->link->uplink,
                   sizeof burst->link->uplink) < 0)
            bench_die("consumer");
        burst->sent += run;
    }
    pthread_join(guest, NULL);
    burst->wall_ns = bench_now_ns(CLOCK_MONOTONIC) - begin_ns;
}

/* What speed must not cost: order, content, and no allowed frame lost on the way. */
#include "tests/cmocka.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "tests/nat/lab.h"
#include "tests/nat/link.h"

enum {
    PACKETS = 100000,
    IN_FLIGHT_MAX = 512,
    DATAGRAM_COST_BYTES = 4096, /* of a socket's buffer, with what the kernel adds to it */
    LARGE_BYTES = 1332,
};

/* ---- the seam: sends of UDP sockets may fail as on a busy link ----------------------------------------------------- */

static struct {
    atomic_int every; /* of so many sends one fails; 0: none */
    atomic_int error;
    atomic_int calls;
} seam;

static bool seam_fails(int fd)
{
    struct sockaddr_storage name; /* by a call that the thread may make: nat/confine.c */
    socklen_t length = sizeof name;
    if (seam.every == 0 || getsockname(fd, (struct sockaddr *)&name, &length) < 0 || name.ss_family != AF_INET)
        return false;
    errno = seam.error;
    return atomic_fetch_add(&seam.calls, 1) % seam.every != 0;
}

#ifndef OMERTAD_PORTABLE
int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    return seam_fails(fd) ? -1 : (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
}
#else
ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    return seam_fails(fd) ? -1 : (ssize_t)syscall(SYS_sendto, fd, bytes, length, flags, NULL, 0);
}
#endif

/* ---- one direction ------------------------------------------------------------------------------------------------ */

/** struct stream - What a sending thread and the receiving test share. */
struct stream {
    struct lab *lab;
    atomic_uint got; /* packets that have arrived or are given up */
    bool mixed;
    unsigned packets;
    unsigned flows;     /* that take turns */
    unsigned in_flight; /* how far the sender may be ahead of @got: what a socket's buffer holds on this machine */
};

/* Sizes are a function of the number, so that the receiver knows them. */
static size_t size_of(const struct stream *stream, uint32_t number)
{
    static const size_t mixed[] = {1472, 1472, 1472, 92, 1472, 4, 5, 700, 701, 1471};
    return stream->mixed ? mixed[number * 2654435761u % 10] : LARGE_BYTES;
}

static void fill(uint8_t *payload, size_t size, uint32_t number)
{
    memcpy(payload, &number, sizeof number);
    for (size_t i = sizeof number; i < size; i++)
        payload[i] = (uint8_t)(number + i);
}

static void be_not_too_far_ahead(struct stream *stream, uint32_t number)
{
    for (int waits = 0; number - atomic_load(&stream->got) >= stream->in_flight; waits++)
        poll(NULL, 0, waits > 3);
}

static void *guest_sends(void *context)
{
    struct stream *stream = context;
    for (uint32_t number = 0; number < stream->packets; number++) {
        const size_t size = size_of(stream, number);
        const struct nat_endpoint from = {test_guest.ip, (uint16_t)(test_guest.port + number / 7 % stream->flows)};
        struct frame frame = frame_udp(from, test_consumer, size);
        fill(frame.bytes + 42, size, number);
        frame_fix_udp(&frame);
        be_not_too_far_ahead(stream, number);
        lab_guest_sends(stream->lab, &frame);
    }
    return NULL;
}

static void *consumer_sends(void *context)
{
    struct stream *stream = context;
    uint8_t payload[1472];
    for (uint32_t number = 0; number < stream->packets; number++) {
        const size_t size = size_of(stream, number);
        fill(payload, size, number);
        be_not_too_far_ahead(stream, number);
        lab_consumer_sends(stream->lab, payload, size);
    }
    return NULL;
}

static void is_packet(const struct stream *stream, uint32_t number, const uint8_t *payload, size_t size)
{
    uint8_t expected[1472];
    fill(expected, size_of(stream, number), number);
    assert_int_equal(size, size_of(stream, number));
    assert_memory_equal(payload, expected, size);
}

/* The NAT asks for as much as this and gets as little, where the system has a smaller limit. */
static unsigned room_of(const struct lab *lab)
{
    int bytes = 1024 * 1024;
    socklen_t length = sizeof bytes;
    assert_int_equal(setsockopt(lab->consumer, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    assert_int_equal(getsockopt(lab->consumer, SOL_SOCKET, SO_RCVBUF, &bytes, &length), 0);
    unsigned packets = (unsigned)bytes / DATAGRAM_COST_BYTES;
    return packets < IN_FLIGHT_MAX ? packets : IN_FLIGHT_MAX;
}

static void goes_out(enum nat_framing framing, bool mixed, unsigned packets, unsigned flows)
{
    struct lab lab;
    lab_start_with(&lab, &test_link, framing, 0);
    lab_open_gate(&lab);
    struct stream stream = {
        .lab = &lab, .mixed = mixed, .packets = packets, .flows = flows, .in_flight = room_of(&lab)};
    pthread_t sender;
    assert_int_equal(pthread_create(&sender, NULL, guest_sends, &stream), 0);
    uint8_t payload[2048];
    for (uint32_t number = 0; number < packets; number++) {
        ssize_t size = lab_consumer_gets(&lab, payload, sizeof payload);
        assert_true(size >= 4);
        is_packet(&stream, number, payload, (size_t)size); /* none missing, none twice, none out of its order */
        atomic_store(&stream.got, number + 1);
    }
    pthread_join(sender, NULL);
    lab_await(&lab, NAT_REASON_ALLOWED, packets);
    struct nat_stats stats;
    nat_stop(lab.nat, &stats);
    lab.nat = NULL;
    assert_int_equal(stats.frames[NAT_REASON_UPLINK], 0);
    lab_stop(&lab);
}

static void comes_in(enum nat_framing framing, bool mixed, unsigned packets)
{
    struct lab lab;
    lab_start_with(&lab, &test_link, framing, 0);
    lab_open_gate(&lab);
    lab_open_flow(&lab);
    struct stream stream = {.lab = &lab, .mixed = mixed, .packets = packets, .in_flight = room_of(&lab)};
    pthread_t sender;
    assert_int_equal(pthread_create(&sender, NULL, consumer_sends, &stream), 0);
    uint32_t next = 0;
    unsigned got = 0;
    while (next < packets) {
        struct frame frame;
        ssize_t length = lab_guest_gets(&lab, frame.bytes, sizeof frame.bytes);
        assert_true(length > 0);
        frame.length = (size_t)length;
        struct packet packet = frame_parse(&frame); /* its checksums are looked at there */
        assert_int_equal(packet.kind, PACKET_UDP);
        assert_true(frame.bytes[40] != 0 || frame.bytes[41] != 0);
        uint32_t number = 0;
        memcpy(&number, packet.payload, sizeof number);
        assert_true(number >= next && number < packets);
        is_packet(&stream, number, packet.payload, packet.payload_bytes);
        next = number + 1;
        got++;
        atomic_store(&stream.got, next);
    }
    pthread_join(sender, NULL);
    assert_true(got >= packets - packets / 1000);
    lab_stop(&lab);
}

static void a_hundred_thousand_go_out_unchanged_in_order_and_none_is_lost(void **state)
{
    (void)state;
    goes_out(NAT_FRAMING_DATAGRAM, false, PACKETS, 1);
    goes_out(NAT_FRAMING_STREAM, false, PACKETS, 1);
}

static void mixed_sizes_go_out_unchanged_in_order_and_none_is_lost(void **state)
{
    (void)state;
    goes_out(NAT_FRAMING_DATAGRAM, true, PACKETS / 4, 1);
    goes_out(NAT_FRAMING_STREAM, true, PACKETS / 4, 1);
}

static void a_busy_link_delays_but_loses_nothing(void **state)
{
    (void)state;
    static const int errors[] = {EAGAIN, ENOBUFS};
    for (size_t i = 0; i < 2; i++) {
        seam.error = errors[i];
        seam.every = 3;
        goes_out(NAT_FRAMING_DATAGRAM, true, 5000, 3);
        goes_out(NAT_FRAMING_STREAM, false, 5000, 3);
    }
    seam.every = 0;
}

static void a_link_that_stays_busy_drops_what_is_too_old_and_stalls_nothing_else(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    lab_open_flow(&lab);
    seam.error = EAGAIN;
    seam.every = INT32_MAX;
    atomic_store(&seam.calls, 1);
    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    lab_guest_sends(&lab, &frame);
    lab_consumer_sends(&lab, "inbound", 7);
    uint8_t bytes[64];
    assert_int_equal(recv(lab.guest, bytes, sizeof bytes, 0), 42 + 7);
    lab_await(&lab, NAT_REASON_UPLINK, 1);
    seam.every = 0;
    lab_open_flow(&lab);
    lab_stop(&lab);
}

static void a_hundred_thousand_come_in_unchanged_in_order_and_hardly_one_is_lost(void **state)
{
    (void)state;
    comes_in(NAT_FRAMING_DATAGRAM, false, PACKETS);
    comes_in(NAT_FRAMING_STREAM, true, PACKETS);
}

static void with_a_time_to_look_for_work_it_sleeps_all_the_same(void **state)
{
    (void)state;
    struct lab lab;
    lab_start_with(&lab, &test_link, NAT_FRAMING_DATAGRAM, NAT_BUSY_POLL_MAX_US);
    lab_open_gate(&lab);
    for (int i = 0; i < 20; i++)
        lab_open_flow(&lab);
    assert_true(lab_is_asleep());
    lab_open_flow(&lab);
    lab_stop(&lab);
}

int main(void)
{
    int rc = link_enter();
    if (rc < 0) {
        fprintf(stderr, "test_nat_rate: cannot make a network namespace: %s\n", strerror(-rc));
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hundred_thousand_go_out_unchanged_in_order_and_none_is_lost),
        cmocka_unit_test(mixed_sizes_go_out_unchanged_in_order_and_none_is_lost),
        cmocka_unit_test(a_busy_link_delays_but_loses_nothing),
        cmocka_unit_test(a_link_that_stays_busy_drops_what_is_too_old_and_stalls_nothing_else),
        cmocka_unit_test(a_hundred_thousand_come_in_unchanged_in_order_and_hardly_one_is_lost),
        cmocka_unit_test(with_a_time_to_look_for_work_it_sleeps_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

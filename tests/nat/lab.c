#include "tests/nat/lab.h"

#include "tests/cmocka.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/scope.h"
#include "tests/nat/link.h"

/* As vmm/ has them: whose end of a pair is closed can be seen. */
#ifdef __linux__
#define REPORTS SOCK_SEQPACKET
#else
#define REPORTS SOCK_DGRAM
#endif

static void limit_receive(int fd)
{
    struct timeval limit = {.tv_sec = 10};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
}

static void start(struct lab *lab, struct nat_config config)
{
    int frames[2];
    int reports[2];
    const int type = config.framing == NAT_FRAMING_STREAM ? SOCK_STREAM : SOCK_DGRAM;
    assert_int_equal(socketpair(AF_UNIX, type, 0, frames), 0);
    assert_int_equal(socketpair(AF_UNIX, REPORTS, 0, reports), 0);
    assert_int_equal(fcntl(frames[0], F_SETFL, O_NONBLOCK), 0);
    config.frame_fd = frames[0];
    config.peer_known = true;
    config.report_fd = reports[0];
    assert_int_equal(nat_start(&config, &lab->nat, NULL), 0);
    lab->framing = config.framing;
    lab->guest = frames[1];
    lab->reports = reports[1];
    lab->consumer = link_udp_socket(test_consumer);
    limit_receive(lab->guest);
    limit_receive(lab->reports);
}

void lab_start_with(struct lab *lab, const struct nat_link *link, enum nat_framing framing, uint32_t busy_poll_us)
{
    start(lab, (struct nat_config){.framing = framing, .link = *link, .busy_poll_us = busy_poll_us});
}

void lab_start_under(struct lab *lab, const struct nat_confinement *confinement)
{
    start(lab, (struct nat_config){.link = test_link, .confinement = confinement});
}

void lab_resume(struct lab *lab, struct nat_ports ports)
{
    start(lab, (struct nat_config){.link = test_link, .resume = ports});
}

void lab_start(struct lab *lab, const struct nat_link *link)
{
    lab_start_with(lab, link, NAT_FRAMING_DATAGRAM, 0);
}

struct nat_report lab_report(const struct lab *lab, enum nat_report_kind kind)
{
    struct nat_report report;
    do
        assert_int_equal(recv(lab->reports, &report, sizeof report, 0), sizeof report);
    while (report.kind != kind);
    return report;
}

void lab_apply(const struct lab *lab, const struct nat_policy *policy)
{
    assert_int_equal(nat_apply(lab->nat, policy, NULL), 0);
    assert_int_equal(lab_report(lab, NAT_REPORT_POLICY).generation, policy->generation);
}

void lab_open_gate(const struct lab *lab)
{
    lab_apply(lab, &test_policy);
}

struct lab lab_open(void)
{
    struct lab lab;
    lab_start(&lab, &test_link);
    lab_open_gate(&lab);
    return lab;
}

void lab_stop(struct lab *lab)
{
    nat_stop(lab->nat, NULL);
    fd_close(&lab->guest);
    fd_close(&lab->reports);
    fd_close(&lab->consumer);
}

void lab_guest_sends(const struct lab *lab, const struct frame *frame)
{
    const uint32_t prefix = htonl((uint32_t)frame->length);
    uint8_t bytes[sizeof prefix + FRAME_BYTES];
    const size_t skipped = lab->framing == NAT_FRAMING_STREAM ? 0 : sizeof prefix;
    memcpy(bytes, &prefix, sizeof prefix);
    memcpy(bytes + sizeof prefix, frame->bytes, frame->length);
    const size_t length = sizeof prefix + frame->length - skipped;
    assert_int_equal(send(lab->guest, bytes + skipped, length, MSG_NOSIGNAL), length);
}

ssize_t lab_guest_gets(const struct lab *lab, uint8_t *bytes, size_t capacity)
{
    if (lab->framing == NAT_FRAMING_DATAGRAM)
        return recv(lab->guest, bytes, capacity, 0);
    uint32_t prefix = 0;
    if (recv(lab->guest, &prefix, sizeof prefix, MSG_WAITALL) != (ssize_t)sizeof prefix)
        return -1;
    assert_true(ntohl(prefix) <= capacity);
    return recv(lab->guest, bytes, ntohl(prefix), MSG_WAITALL);
}

ssize_t lab_consumer_gets(struct lab *lab, uint8_t *bytes, size_t capacity)
{
    socklen_t length = sizeof lab->guest_uplink;
    return recvfrom(lab->consumer, bytes, capacity, 0, (struct sockaddr *)&lab->guest_uplink, &length);
}

void lab_open_flow(struct lab *lab)
{
    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    uint8_t bytes[64];
    lab_guest_sends(lab, &frame);
    assert_int_equal(lab_consumer_gets(lab, bytes, sizeof bytes), 8);
}

void lab_consumer_sends(const struct lab *lab, const void *bytes, size_t length)
{
    sendto(lab->consumer, bytes, length, 0, (const struct sockaddr *)&lab->guest_uplink, sizeof lab->guest_uplink);
}

bool lab_silent(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, 50) == 0;
}

void lab_await(const struct lab *lab, enum nat_reason reason, uint64_t count)
{
    struct nat_stats stats = {0};
    uint64_t limit = clock_monotonic_ms() + 10000;
    while (clock_monotonic_ms() < limit && stats.frames[reason] < count) {
        nat_read_stats(lab->nat, &stats);
        poll(NULL, 0, 1);
    }
    assert_int_equal(stats.frames[reason], count);
}

void lab_await_inbound(const struct lab *lab, enum nat_inbound what, uint64_t count)
{
    struct nat_stats stats = {0};
    uint64_t limit = clock_monotonic_ms() + 10000;
    while (clock_monotonic_ms() < limit && stats.inbound_packets[what] < count) {
        nat_read_stats(lab->nat, &stats);
        poll(NULL, 0, 1);
    }
    assert_int_equal(stats.inbound_packets[what], count);
}

void lab_limit_guest(const struct lab *lab, int limit_ms)
{
    struct timeval limit = {.tv_sec = limit_ms / 1000, .tv_usec = limit_ms % 1000 * 1000};
    assert_int_equal(setsockopt(lab->guest, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
}

static uint64_t processor_us(void)
{
    struct timespec used;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used), 0);
    return (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000;
}

bool lab_is_asleep(void)
{
    uint64_t before_us = processor_us();
    poll(NULL, 0, 200);
    return processor_us() - before_us < 20000; /* a loop without sleep takes all it gets */
}

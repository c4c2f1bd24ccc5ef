#include "tests/cmocka.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/scope.h"
#include "nat/segment.h"
#include "nat/uplink.h"
#include "tests/nat/frames.h"
#include "tests/nat/link.h"

#ifndef OMERTAD_PORTABLE
enum { JOINS = 1 };
#else
enum { JOINS = 0 };
#endif

/* ---- the seam: these take the place of the C library's ------------------------------------------------------------ */

static struct {
    int error; /* what the next @failures sends fail with */
    int failures;
    int calls;
    int stranger; /* a socket that sends something between the making of a socket and its connection; 0: none */
} seam;

static bool seam_fails(void)
{
    seam.calls++;
    if (seam.failures == 0)
        return false;
    seam.failures--;
    errno = seam.error;
    return true;
}

#ifndef OMERTAD_PORTABLE
int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    return seam_fails() ? -1 : (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
}
#else
ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    return seam_fails() ? -1 : (ssize_t)syscall(SYS_sendto, fd, bytes, length, flags, NULL, 0);
}
#endif

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    if (seam.stranger != 0 && level == SOL_SOCKET && name == SO_RCVBUF) {
        struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(0xC6336401)}};
        socklen_t own_length = sizeof own;
        assert_int_equal(bind(fd, (const struct sockaddr *)&own, sizeof own), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &own_length), 0);
        for (int i = 0; i < 3; i++)
            assert_int_equal(sendto(seam.stranger, "let me in", 9, 0, (struct sockaddr *)&own, sizeof own), 9);
    }
    return (int)syscall(SYS_setsockopt, fd, level, name, value, length);
}

/* ---- the lab ------------------------------------------------------------------------------------------------------ */

struct lab {
    struct uplink uplink;
    struct uplink_batch *batch;
    int consumer;
    struct uplink_run run;
    uint8_t bytes[UPLINK_RUN_MAX][SEGMENT_BYTES_MAX];
};

static struct lab *open_lab(void)
{
    struct lab *lab = calloc(1, sizeof *lab);
    assert_non_null(lab);
    lab->batch = calloc(1, sizeof *lab->batch);
    assert_non_null(lab->batch);
    lab->consumer = link_udp_socket(test_consumer);
    const int room = 4 * 1024 * 1024;
    assert_int_equal(setsockopt(lab->consumer, SOL_SOCKET, SO_RCVBUF, &room, sizeof room), 0);
    uplink_init(&lab->uplink);
    memset(&seam, 0, sizeof seam);
    assert_int_equal(uplink_open(&lab->uplink, 0, test_consumer, true), 0);
    return lab;
}

static void close_lab(struct lab *lab)
{
    uplink_close(&lab->uplink, 1);
    assert_int_equal(lab->uplink.fds[0], -1);
    fd_close(&lab->consumer);
    free(lab->batch);
    free(lab);
}

/* A run of these sizes; each payload begins with its place in the run and goes on with a pattern of its own. */
static void fill_run(struct lab *lab, const size_t *sizes, size_t count)
{
    lab->run.count = count;
    for (size_t i = 0; i < count; i++) {
        for (size_t at = 0; at < sizes[i]; at++)
            lab->bytes[i][at] = (uint8_t)(at == 0 ? i : i * 7 + at);
        lab->run.payloads[i] = (struct iovec){.iov_base = lab->bytes[i], .iov_len = sizes[i]};
    }
}

static void fill_equal(struct lab *lab, size_t size, size_t count)
{
    size_t sizes[UPLINK_RUN_MAX];
    for (size_t i = 0; i < count; i++)
        sizes[i] = size;
    fill_run(lab, sizes, count);
}

static void arrives(const struct lab *lab, size_t from)
{
    static uint8_t got[SEGMENT_BYTES_MAX + 1];
    for (size_t i = from; i < lab->run.count; i++) {
        assert_int_equal(recv(lab->consumer, got, sizeof got, 0), lab->run.payloads[i].iov_len);
        assert_memory_equal(got, lab->bytes[i], lab->run.payloads[i].iov_len);
    }
    struct pollfd more = {.fd = lab->consumer, .events = POLLIN};
    assert_int_equal(poll(&more, 1, 0), 0);
}

static void none_refused(const struct uplink_sent *sent)
{
    for (size_t i = 0; i < UPLINK_RUN_MAX; i++)
        assert_false(marks_has(&sent->refused, i));
}

static void sends_all(struct lab *lab)
{
    struct uplink_sent sent = uplink_send(&lab->uplink, 0, &lab->run, 0);
    assert_int_equal(sent.done, lab->run.count);
    none_refused(&sent);
    arrives(lab, 0);
}

static void set_link_mtu(int mtu)
{
    int fd SCOPED_FD = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {.ifr_mtu = mtu};
    memcpy(request.ifr_name, "lo", 3);
    assert_int_equal(ioctl(fd, SIOCSIFMTU, &request), 0);
}

/* ---- out ---------------------------------------------------------------------------------------------------------- */

static void a_run_of_one_size_is_one_call_and_arrives_as_it_was(void **state)
{
    (void)state;
    struct lab *lab = open_lab();
    for (size_t size = 1; size <= 1472; size = size < 1472 && size * 3 > 1472 ? 1472 : size * 3) {
        fill_equal(lab, size, UPLINK_RUN_MAX);
        seam.calls = 0;
        sends_all(lab);
        assert_int_equal(seam.calls, JOINS ? 1 : UPLINK_RUN_MAX);
    }
    close_lab(lab);
}

static void mixed_sizes_keep_their_order_and_their_ends(void **state)
{
    (void)state;
    struct lab *lab = open_lab();
    static const size_t sizes[] = {1400, 1400, 600, 1400, 0, 5, 5, 5, 9, 0, 0, 1472, 1473, 1, 1, 0, 65507, 65507, 2};
    fill_run(lab, sizes, sizeof sizes / sizeof sizes[0]);
    sends_all(lab);
    uint32_t seed = 1;
    for (int rounds = 0; rounds < 200; rounds++) {
        size_t random_sizes[UPLINK_RUN_MAX];
        for (size_t i = 0; i < UPLINK_RUN_MAX; i++) {
            seed = seed * 1103515245u + 12345u;
            random_sizes[i] = (seed >> 16) % 4 == 0 ? (seed >> 18) % 1473 : 1332;
        }
        fill_run(lab, random_sizes, 1 + (seed >> 20) % UPLINK_RUN_MAX);
        sends_all(lab);
    }
    close_lab(lab);
}

static void what_the_link_does_not_take_joined_goes_one_by_one(void **state)
{
    (void)state;
    struct lab *lab = open_lab();
    set_link_mtu(1000);
    fill_equal(lab, 1400, 8);
    sends_all(lab); /* as fragments */
    assert_int_equal(lab->uplink.largest[0], JOINS ? 1399 : SEGMENT_BYTES_MAX);
    seam.calls = 0;
    fill_equal(lab, 900, 8);
    sends_all(lab);
    assert_int_equal(seam.calls, JOINS ? 1 : 8);
    set_link_mtu(65536);
    close_lab(lab);
}

static void a_kernel_that_cuts_fewer_segments_gets_as_many_as_it_takes(void **state)
{
    (void)state;
    struct lab *lab = open_lab();
    fill_equal(lab, 100, UPLINK_RUN_MAX);
    seam.error = EINVAL; /* what udp_send_skb() says of more than UDP_MAX_SEGMENTS */
    seam.failures = JOINS;
    sends_all(lab);
    seam.calls = 0;
    sends_all(lab); /* two messages, one call */
    assert_int_equal(seam.calls, JOINS ? 1 : UPLINK_RUN_MAX);
    assert_int_equal(lab->uplink.segments[0], JOINS ? SEGMENT_COUNT_OLD_MAX : SEGMENT_COUNT_MAX);
    assert_int_equal(lab->uplink.largest[0], SEGMENT_BYTES_MAX); /* it says nothing about large ones */
    close_lab(lab);
}

static void a_socket_without_segmentation_sends_all_the_same(void **state)
{
    (void)state;
    static const int errors[] = {EIO, EINVAL, EMSGSIZE, EOPNOTSUPP};
    for (size_t i = 0; JOINS && i < 4; i++) {
        struct lab *lab = open_lab();
        fill_equal(lab, 1400, 8);
        for (int refused = 0; refused < UPLINK_REFUSALS_MAX; refused++) {
            seam.error = errors[i];
            seam.failures = lab->uplink.largest[0] > 0;
            fill_equal(lab, 1400 - (size_t)refused, 8);
            sends_all(lab);
        }
        assert_int_equal(lab->uplink.largest[0], 0);
        close_lab(lab);
    }
}

static void a_consumer_that_is_gone_costs_no_datagram_once_it_is_back(void **state)
{
    (void)state;
    struct lab *lab = open_lab();
    fd_close(&lab->consumer);
    fill_equal(lab, 100, 4);
    assert_int_equal(uplink_send(&lab->uplink, 0, &lab->run, 0).done, 4); /* an ICMP error comes back */
    lab->consumer = link_udp_socket(test_consumer);
    fill_equal(lab, 200, 4);
    sends_all(lab);
    close_lab(lab);
}

static void a_busy_link_takes_nothing_and_loses_nothing(void **state)
{
    (void)state;
    static const int errors[] = {EAGAIN, ENOBUFS};
    for (size_t i = 0; i < 2; i++) {
        struct lab *lab = open_lab();
        seam.error = errors[i];
        seam.failures = 1;
        fill_equal(lab, 700, 16);
        struct uplink_sent sent = uplink_send(&lab->uplink, 0, &lab->run, 0);
        assert_int_equal(sent.done, 0);
        none_refused(&sent);
        sends_all(lab);
        /* From the middle on, as after a link that took only a part. */
        assert_int_equal(uplink_send(&lab->uplink, 0, &lab->run, 10).done, 6);
        arrives(lab, 10);
        close_lab(lab);
    }
}

static void what_the_system_forbids_is_refused_and_counted(void **state)
{
    (void)state;
    struct lab *lab = open_lab();
    seam.error = EPERM;
    seam.failures = 1;
    fill_equal(lab, 700, 16);
    struct uplink_sent sent = uplink_send(&lab->uplink, 0, &lab->run, 0);
    assert_int_equal(sent.done, 16);
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(marks_has(&sent.refused, i), JOINS || i == 0);
    arrives(lab, JOINS ? 16 : 1);
    close_lab(lab);
}

/* ---- back --------------------------------------------------------------------------------------------------------- */

static void consumer_sends(const struct lab *lab, const void *bytes, size_t length, uint16_t segment)
{
    struct sockaddr_in to;
    socklen_t to_length = sizeof to;
    assert_int_equal(getsockname(lab->uplink.fds[0], (struct sockaddr *)&to, &to_length), 0);
    int at = segment;
    (void)setsockopt(lab->consumer, IPPROTO_UDP, UDP_SEGMENT, &at, sizeof at);
    assert_int_equal(sendto(lab->consumer, bytes, length, 0, (struct sockaddr *)&to, sizeof to), length);
}

static void joined_datagrams_come_with_their_distance(void **state)
{
    (void)state;
    struct lab *lab = open_lab();
    static const struct {
        size_t length;
        uint16_t segment;
    } table[] = {{0, 0}, {1, 0}, {1472, 0}, {64, 1}, {14001, 1000}, {65507 / 1400 * 1400, 1400}, {4200, 1400}};
    static uint8_t bytes[SEGMENT_BYTES_MAX];
    for (size_t at = 0; at < sizeof bytes; at++)
        bytes[at] = (uint8_t)(at * 31 / 7);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        consumer_sends(lab, bytes, table[i].length, table[i].segment);
        size_t at = 0;
        size_t datagrams = 0;
        while (uplink_receive(&lab->uplink, 0, lab->batch) > 0) {
            for (size_t m = 0; m < lab->batch->count; m++) {
                const struct uplink_message *message = lab->batch->messages[m];
                assert_false(message->truncated);
                assert_memory_equal(message->bytes, bytes + at, message->length);
                at += message->length;
                datagrams += message->length == 0 ? 1 : (message->length + message->segment - 1) / message->segment;
            }
        }
        assert_int_equal(at, table[i].length);
        size_t expected = table[i].segment == 0 ? 1 : (table[i].length + table[i].segment - 1) / table[i].segment;
        assert_int_equal(datagrams, expected);
    }
    close_lab(lab);
}

static void a_stranger_is_not_heard_even_between_socket_and_connection(void **state)
{
    (void)state;
    struct lab *lab = open_lab();
    const struct nat_endpoint strangers[] = {{test_consumer.ip + 1, test_consumer.port},
                                             {test_consumer.ip, (uint16_t)(test_consumer.port + 1)}};
    for (size_t i = 0; i < 2; i++) {
        seam.stranger = link_udp_socket(strangers[i]);
        assert_int_equal(uplink_open(&lab->uplink, 0, test_consumer, true), 0);
        fd_close(&seam.stranger);
        seam.stranger = 0;
        consumer_sends(lab, "it is me", 8, 0);
        size_t heard = 0;
        while (uplink_receive(&lab->uplink, 0, lab->batch) > 0) {
            for (size_t m = 0; m < lab->batch->count; m++, heard++) {
                assert_int_equal(lab->batch->messages[m]->length, 8);
                assert_memory_equal(lab->batch->messages[m]->bytes, "it is me", 8);
            }
        }
        assert_int_equal(heard, 1);
        assert_int_equal(lab->uplink.strangers, 3 * (i + 1));
    }
    close_lab(lab);
}

static void errors_that_icmp_brought_are_nothing_received(void **state)
{
    (void)state;
    struct lab *lab = open_lab();
    fd_close(&lab->consumer);
    fill_equal(lab, 100, 1);
    assert_int_equal(uplink_send(&lab->uplink, 0, &lab->run, 0).done, 1);
    assert_int_equal(uplink_receive(&lab->uplink, 0, lab->batch), 0);
    assert_int_equal(uplink_receive(&lab->uplink, 0, lab->batch), 0);
    close_lab(lab);
}

int main(void)
{
    if (link_enter() < 0) {
        fprintf(stderr, "no network namespace: these tests need one\n");
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_of_one_size_is_one_call_and_arrives_as_it_was),
        cmocka_unit_test(mixed_sizes_keep_their_order_and_their_ends),
        cmocka_unit_test(what_the_link_does_not_take_joined_goes_one_by_one),
        cmocka_unit_test(a_kernel_that_cuts_fewer_segments_gets_as_many_as_it_takes),
        cmocka_unit_test(a_socket_without_segmentation_sends_all_the_same),
        cmocka_unit_test(a_consumer_that_is_gone_costs_no_datagram_once_it_is_back),
        cmocka_unit_test(a_busy_link_takes_nothing_and_loses_nothing),
        cmocka_unit_test(what_the_system_forbids_is_refused_and_counted),
        cmocka_unit_test(joined_datagrams_come_with_their_distance),
        cmocka_unit_test(a_stranger_is_not_heard_even_between_socket_and_connection),
        cmocka_unit_test(errors_that_icmp_brought_are_nothing_received),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

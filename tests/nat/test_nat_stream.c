/* The NAT's thread with a stream as its attachment: what is another there than with datagrams (test_nat.c). */
#include "tests/cmocka.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/scope.h"
#include "tests/nat/lab.h"
#include "tests/nat/link.h"

static struct lab open_stream(void)
{
    struct lab lab;
    lab_start_with(&lab, &test_link, NAT_FRAMING_STREAM, 0);
    lab_open_gate(&lab);
    return lab;
}

static void what_is_forbidden_is_dropped_and_reported(void **state)
{
    (void)state;
    struct lab lab = open_stream();
    struct nat_endpoint elsewhere = {test_consumer.ip, 53};
    struct frame frame = frame_udp(test_guest, elsewhere, 10);
    lab_guest_sends(&lab, &frame);
    assert_int_equal(lab_report(&lab, NAT_REPORT_VIOLATION).violation.reason, NAT_REASON_PORT_NOT_ALLOWED);
    lab_stop(&lab);
}

static void an_oversized_frame_is_malformed_and_the_next_one_passes(void **state)
{
    (void)state;
    struct lab lab = open_stream();
    static uint8_t bytes[4 + 9014];
    const uint32_t prefix = htonl(9014);
    memcpy(bytes, &prefix, sizeof prefix);
    assert_int_equal(send(lab.guest, bytes, sizeof bytes, 0), sizeof bytes);
    assert_int_equal(lab_report(&lab, NAT_REPORT_VIOLATION).violation.reason, NAT_REASON_MALFORMED);
    lab_open_flow(&lab);
    struct nat_stats stats;
    nat_read_stats(lab.nat, &stats);
    assert_int_equal(stats.frames[NAT_REASON_MALFORMED], 1);
    lab_stop(&lab);
}

static void an_empty_frame_is_malformed_and_the_next_one_passes(void **state)
{
    (void)state;
    struct lab lab = open_stream();
    const uint8_t empty[4] = {0};
    assert_int_equal(send(lab.guest, empty, sizeof empty, 0), sizeof empty);
    assert_int_equal(lab_report(&lab, NAT_REPORT_VIOLATION).violation.reason, NAT_REASON_MALFORMED);
    lab_open_flow(&lab);
    lab_stop(&lab);
}

static void a_length_that_no_frame_has_shuts_the_gate(void **state)
{
    (void)state;
    struct lab lab = open_stream();
    lab_open_flow(&lab);
    assert_int_equal(send(lab.guest, "\xff\xff\xff\xff", 4, 0), 4);
    struct nat_report report = lab_report(&lab, NAT_REPORT_FAILED);
    assert_int_equal(report.error_code, -EPROTO);
    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    const uint8_t prefix[] = {0, 0, 0, (uint8_t)frame.length};
    /* Told before the stream is closed, so either may find it open or not; what is sent arrives nowhere. */
    (void)send(lab.guest, prefix, sizeof prefix, MSG_NOSIGNAL);
    (void)send(lab.guest, frame.bytes, frame.length, MSG_NOSIGNAL);
    assert_true(lab_silent(lab.consumer));
    lab_stop(&lab);
}

static void a_vm_that_closes_is_told_once_and_nothing_spins(void **state)
{
    (void)state;
    struct lab lab = open_stream();
    lab_open_flow(&lab);
    const uint8_t half[] = {0, 0, 1, 0, 1, 2, 3};
    assert_int_equal(send(lab.guest, half, sizeof half, 0), sizeof half);
    fd_close(&lab.guest);
    (void)lab_report(&lab, NAT_REPORT_DETACHED);
    lab_consumer_sends(&lab, "late", 4);
    lab_await_inbound(&lab, NAT_INBOUND_VM_GONE, 1);
    assert_true(lab_is_asleep());
    assert_true(lab_silent(lab.reports));
    lab_stop(&lab);
}

static void a_vm_that_does_not_read_stalls_neither_the_way_out_nor_memory(void **state)
{
    (void)state;
    struct lab lab = open_stream();
    lab_open_flow(&lab);
    uint8_t bytes[1400] = {0};
    for (int i = 0; i < 3000; i++)
        lab_consumer_sends(&lab, bytes, sizeof bytes);
    for (int i = 0; i < 100; i++) {
        struct frame frame = frame_udp(test_guest, test_consumer, 100);
        lab_guest_sends(&lab, &frame);
        assert_int_equal(lab_consumer_gets(&lab, bytes, sizeof bytes), 100);
    }
    /* An answer does not get into the middle of a frame. */
    struct frame arp = frame_arp(1, test_link.guest_ip, test_link.gateway_ip);
    lab_guest_sends(&lab, &arp);
    size_t frames = 0;
    uint8_t frame[2048];
    lab_limit_guest(&lab, 200);
    for (ssize_t length; (length = lab_guest_gets(&lab, frame, sizeof frame)) > 0; frames++)
        assert_true(length == 42 + 1400 || length == 42);
    assert_true(frames > 100);
    lab_stop(&lab);
}

static void the_first_to_connect_is_the_vm_and_the_only_one(void **state)
{
    (void)state;
    char folder[] = "/tmp/omertad-stream-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/nat", folder);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(fcntl(listener, F_SETFL, O_NONBLOCK), 0);

    struct lab lab = {.framing = NAT_FRAMING_STREAM, .guest = socket(AF_UNIX, SOCK_STREAM, 0)};
    int reports[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, reports), 0);
    struct nat_config config = {
        .frame_fd = listener, .framing = NAT_FRAMING_STREAM, .report_fd = reports[0], .link = test_link};
    assert_int_equal(nat_start(&config, &lab.nat, NULL), 0);
    lab.reports = reports[1];
    lab.consumer = link_udp_socket(test_consumer);
    lab_open_gate(&lab);
    assert_int_equal(connect(lab.guest, (struct sockaddr *)&address, sizeof address), 0);
    lab_open_flow(&lab);
    int stranger SCOPED_FD = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(stranger, (struct sockaddr *)&address, sizeof address), -1);
    assert_int_equal(errno, ECONNREFUSED);
    lab_stop(&lab);
    unlink(address.sun_path);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    int rc = link_enter();
    if (rc < 0) {
        fprintf(stderr, "test_nat_stream: cannot make a network namespace: %s\n", strerror(-rc));
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_forbidden_is_dropped_and_reported),
        cmocka_unit_test(an_oversized_frame_is_malformed_and_the_next_one_passes),
        cmocka_unit_test(an_empty_frame_is_malformed_and_the_next_one_passes),
        cmocka_unit_test(a_length_that_no_frame_has_shuts_the_gate),
        cmocka_unit_test(a_vm_that_closes_is_told_once_and_nothing_spins),
        cmocka_unit_test(a_vm_that_does_not_read_stalls_neither_the_way_out_nor_memory),
        cmocka_unit_test(the_first_to_connect_is_the_vm_and_the_only_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

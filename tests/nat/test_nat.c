#include "tests/cmocka.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/scope.h"
#include "tests/nat/lab.h"
#include "tests/nat/link.h"

/* A test whose state is the framing of the attachment. */
#define IN_BOTH_FRAMINGS(test)                                                                                         \
    cmocka_unit_test_prestate(test, &framings[0]), cmocka_unit_test_prestate(test, &framings[1])

static void nothing_passes_before_the_first_policy(void **state)
{
    (void)state;
    struct lab lab;
    lab_start(&lab, &test_link);
    struct frame frame = frame_udp(test_guest, test_consumer, 10);
    lab_guest_sends(&lab, &frame);
    lab_await(&lab, NAT_REASON_GATE_SHUT, 1);
    assert_true(lab_silent(lab.consumer));
    lab_stop(&lab);
}

static void payloads_of_every_size_go_there_and_back_unchanged(void **state)
{
    struct lab lab;
    lab_start_with(&lab, &test_link, *(enum nat_framing *)*state, 0);
    lab_open_gate(&lab);
    static const size_t sizes[] = {0, 1, 31, 148, 1400, 1471, 1472};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct frame frame = frame_udp(test_guest, test_consumer, sizes[i]);
        uint8_t bytes[2048];
        lab_guest_sends(&lab, &frame);
        assert_int_equal(lab_consumer_gets(&lab, bytes, sizeof bytes), sizes[i]);
        assert_memory_equal(bytes, frame.bytes + 42, sizes[i]);

        lab_consumer_sends(&lab, bytes, sizes[i]);
        struct frame back;
        back.length = (size_t)lab_guest_gets(&lab, back.bytes, sizeof back.bytes);
        struct packet packet = frame_parse(&back);
        assert_int_equal(packet.kind, PACKET_UDP);
        assert_int_equal(packet.destination.port, test_guest.port);
        assert_int_equal(packet.payload_bytes, sizes[i]);
        assert_memory_equal(packet.payload, bytes, sizes[i]);
    }
    lab_stop(&lab);
}

static void order_is_kept_over_many_batches(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    for (uint32_t sent = 0; sent < 2000; sent++) {
        struct frame frame = frame_udp(test_guest, test_consumer, 4);
        memcpy(frame.bytes + 42, &sent, sizeof sent);
        frame_fix_udp(&frame);
        lab_guest_sends(&lab, &frame);
        if (sent % 50 != 49)
            continue;
        for (uint32_t expected = sent - 49; expected <= sent; expected++) {
            uint32_t got = 0;
            assert_int_equal(lab_consumer_gets(&lab, (uint8_t *)&got, sizeof got), sizeof got);
            assert_int_equal(got, expected);
        }
    }
    lab_await(&lab, NAT_REASON_ALLOWED, 2000);
    lab_stop(&lab);
}

static void each_guest_port_has_a_flow_of_its_own(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    uint8_t bytes[64];
    struct sockaddr_in uplinks[2];
    for (uint16_t i = 0; i < 2; i++) {
        struct nat_endpoint from = {test_guest.ip, (uint16_t)(41000 + i)};
        struct frame frame = frame_udp(from, test_consumer, 8);
        lab_guest_sends(&lab, &frame);
        assert_int_equal(lab_consumer_gets(&lab, bytes, sizeof bytes), 8);
        uplinks[i] = lab.guest_uplink;
    }
    assert_int_not_equal(uplinks[0].sin_port, uplinks[1].sin_port);
    for (uint16_t i = 0; i < 2; i++) {
        sendto(lab.consumer, "answer", 6, 0, (struct sockaddr *)&uplinks[i], sizeof uplinks[i]);
        struct frame back;
        back.length = (size_t)recv(lab.guest, back.bytes, sizeof back.bytes, 0);
        assert_int_equal(frame_parse(&back).destination.port, 41000 + i);
    }
    lab_stop(&lab);
}

static void a_stranger_cannot_reach_the_vm(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    uint8_t bytes[64];
    lab_open_flow(&lab);
    struct nat_endpoint strangers[] = {{test_consumer.ip, 51901}, {test_consumer.ip + 1, test_consumer.port}};
    for (size_t i = 0; i < 2; i++) {
        int stranger = link_udp_socket(strangers[i]);
        sendto(stranger, "hello", 5, 0, (struct sockaddr *)&lab.guest_uplink, sizeof lab.guest_uplink);
        assert_true(lab_silent(lab.guest));
        fd_close(&stranger);
    }
    lab_consumer_sends(&lab, "hello", 5);
    assert_int_equal(recv(lab.guest, bytes, sizeof bytes, 0), 42 + 5);
    lab_stop(&lab);
}

static void arp_and_dhcp_are_answered(void **state)
{
    struct lab lab;
    lab_start_with(&lab, &test_link, *(enum nat_framing *)*state, 0);
    lab_open_gate(&lab);
    struct frame frame = frame_arp(1, test_link.guest_ip, test_link.gateway_ip);
    uint8_t bytes[2048];
    lab_guest_sends(&lab, &frame);
    assert_int_equal(lab_guest_gets(&lab, bytes, sizeof bytes), 42);
    frame = frame_dhcp(1, 3);
    lab_guest_sends(&lab, &frame);
    assert_int_equal(lab_guest_gets(&lab, bytes, sizeof bytes), 342);
    lab_stop(&lab);
}

static void a_violation_is_reported_once_and_then_its_growth(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    struct nat_endpoint to = {0x08080808, 53};
    struct frame frame = frame_udp(test_guest, to, 30);
    lab_guest_sends(&lab, &frame);
    struct nat_report report = lab_report(&lab, NAT_REPORT_VIOLATION);
    assert_int_equal(report.violation.reason, NAT_REASON_DESTINATION_NOT_ALLOWED);
    assert_int_equal(report.violation.destination.ip, 0x08080808);
    assert_int_equal(report.violation.count, 1);
    for (int i = 0; i < 20; i++)
        lab_guest_sends(&lab, &frame);
    lab_await(&lab, NAT_REASON_DESTINATION_NOT_ALLOWED, 21);
    struct nat_report grown = lab_report(&lab, NAT_REPORT_VIOLATION);
    assert_int_equal(grown.violation.serial, report.violation.serial);
    assert_int_equal(grown.violation.count, 21);
    assert_true(grown.at_ms - report.at_ms >= 900);
    assert_true(lab_silent(lab.consumer));
    lab_stop(&lab);
}

static void what_grew_since_the_last_report_is_told_at_the_end(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    struct nat_endpoint to = {0x08080808, 53};
    struct frame frame = frame_udp(test_guest, to, 30);
    for (int i = 0; i < 7; i++)
        lab_guest_sends(&lab, &frame);
    lab_await(&lab, NAT_REASON_DESTINATION_NOT_ALLOWED, 7);
    nat_stop(lab.nat, NULL);
    lab.nat = NULL;
    uint64_t count = 0;
    while (count < 7)
        count = lab_report(&lab, NAT_REPORT_VIOLATION).violation.count;
    lab_stop(&lab);
}

static void odd_datagrams_are_dropped_and_counted(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    static const uint8_t zeros[9000];
    static const size_t sizes[] = {0, 1, 13, 14, 41, 1515, 1600, 1601, 9000};
    uint64_t malformed = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(send(lab.guest, zeros, sizes[i], 0), sizes[i]);
        malformed += sizes[i] < 14 || sizes[i] > 1514;
    }
    lab_await(&lab, NAT_REASON_MALFORMED, malformed);
    lab_await(&lab, NAT_REASON_SOURCE_MAC_SPOOFED, 2);
    lab_open_flow(&lab);
    lab_stop(&lab);
}

static void a_vm_that_never_reads_stalls_nobody_and_loses_nothing_that_fits(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    uint8_t bytes[2048];
    lab_open_flow(&lab);
    for (uint32_t i = 0; i < 400; i++) {
        memset(bytes, 0, 1000);
        memcpy(bytes, &i, sizeof i);
        lab_consumer_sends(&lab, bytes, 1000);
    }
    /* Outbound still works while frames wait for the VM. */
    lab_guest_sends(&lab, &frame);
    assert_int_equal(lab_consumer_gets(&lab, bytes, sizeof bytes), 8);
    for (uint32_t i = 0; i < 400; i++) {
        struct frame back;
        back.length = (size_t)recv(lab.guest, back.bytes, sizeof back.bytes, 0);
        assert_int_equal(back.length, 1042);
        assert_memory_equal(back.bytes + 42, &i, sizeof i);
    }
    lab_await_inbound(&lab, NAT_INBOUND_DELIVERED, 400);
    lab_stop(&lab);
}

static void a_datagram_above_the_mtu_is_dropped_and_counted(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    static uint8_t bytes[65000];
    lab_open_flow(&lab);
    static const size_t sizes[] = {1473, 1558, 1559, 65000};
    for (size_t i = 0; i < 4; i++)
        lab_consumer_sends(&lab, bytes, sizes[i]);
    lab_consumer_sends(&lab, bytes, 1472);
    assert_int_equal(recv(lab.guest, bytes, sizeof bytes, 0), 1514);
    lab_await_inbound(&lab, NAT_INBOUND_TOO_BIG, 4);
    lab_stop(&lab);
}

static void a_consumer_that_is_gone_and_back_loses_no_later_datagram(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    uint8_t bytes[64];
    fd_close(&lab.consumer);
    for (uint64_t i = 1; i <= 3; i++) { /* each brings an ICMP error that the next send hears of */
        lab_guest_sends(&lab, &frame);
        lab_await(&lab, NAT_REASON_ALLOWED, i);
    }
    lab.consumer = link_udp_socket(test_consumer);
    lab_guest_sends(&lab, &frame);
    assert_int_equal(lab_consumer_gets(&lab, bytes, sizeof bytes), 8);
    lab_stop(&lab);
}

static void a_new_policy_closes_the_old_endpoints_flow(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    lab_open_flow(&lab);
    struct nat_policy moved = test_policy;
    moved.generation = 2;
    moved.allow[0].port = 51999;
    assert_int_equal(nat_apply(lab.nat, &moved, NULL), 0);
    assert_int_equal(lab_report(&lab, NAT_REPORT_POLICY).generation, 2);
    lab_consumer_sends(&lab, "late", 4);
    assert_true(lab_silent(lab.guest));
    lab_guest_sends(&lab, &frame);
    lab_await(&lab, NAT_REASON_PORT_NOT_ALLOWED, 1);
    struct nat_stats stats;
    nat_read_stats(lab.nat, &stats);
    assert_int_equal(stats.flows_open, 0);
    assert_int_equal(stats.policy_generation, 2);
    lab_stop(&lab);
}

static void a_policy_that_may_not_be_enforced_leaves_the_old_one(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    struct error err = {0};
    struct nat_policy wrong = test_policy;
    assert_int_equal(nat_apply(lab.nat, &wrong, &err), -EINVAL);
    wrong.generation = 2;
    wrong.allow[0].ip = 0xC0A84001;
    assert_int_equal(nat_apply(lab.nat, &wrong, &err), -EINVAL);
    assert_non_null(strstr(err.message, "192.168.64.1:51900"));
    wrong.allow[0].ip = 0x7F000001;
    assert_int_equal(nat_apply(lab.nat, &wrong, &err), -EINVAL);
    lab_open_flow(&lab);
    lab_stop(&lab);
}

static void a_shut_gate_stays_shut_both_ways(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    lab_open_flow(&lab);
    nat_shut(lab.nat);
    struct nat_policy later = test_policy;
    later.generation = 5;
    assert_int_equal(nat_apply(lab.nat, &later, NULL), 0);
    struct nat_stats stats = {.policy_generation = 1};
    while (stats.policy_generation != 0)
        nat_read_stats(lab.nat, &stats);
    lab_guest_sends(&lab, &frame);
    lab_await(&lab, NAT_REASON_GATE_SHUT, 1);
    assert_true(lab_silent(lab.consumer));
    lab_consumer_sends(&lab, "late", 4);
    assert_true(lab_silent(lab.guest));
    lab_stop(&lab);
}

static void the_first_frames_mac_is_learnt_and_kept(void **state)
{
    (void)state;
    struct lab lab;
    struct nat_link unknown = test_link;
    memset(&unknown.guest_mac, 0, sizeof unknown.guest_mac);
    lab_start(&lab, &unknown);
    lab_open_gate(&lab);
    struct frame broken = {.length = 3};
    lab_guest_sends(&lab, &broken); /* teaches nothing */
    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    lab_guest_sends(&lab, &frame);
    lab_await(&lab, NAT_REASON_ALLOWED, 1);
    struct nat_stats stats;
    nat_read_stats(lab.nat, &stats);
    assert_memory_equal(&stats.guest_mac, &test_link.guest_mac, 6);
    frame.bytes[11] ^= 1;
    lab_guest_sends(&lab, &frame);
    lab_await(&lab, NAT_REASON_SOURCE_MAC_SPOOFED, 1);
    lab_stop(&lab);
}

static void guest_sends_wireguard(struct lab *lab, uint8_t type, size_t length)
{
    struct frame frame = frame_udp(test_guest, test_consumer, length);
    memset(frame.bytes + 42, 0, 4);
    frame.bytes[42] = type;
    frame_fix_udp(&frame);
    lab_guest_sends(lab, &frame);
}

static void exchange_handshake(struct lab *lab)
{
    uint8_t bytes[256];
    uint8_t response[92] = {2};
    guest_sends_wireguard(lab, 1, 148);
    assert_int_equal(lab_consumer_gets(lab, bytes, sizeof bytes), 148);
    lab_consumer_sends(lab, response, sizeof response);
    assert_int_equal(recv(lab->guest, bytes, sizeof bytes, 0), 42 + 92);
    guest_sends_wireguard(lab, 4, 32);
    assert_int_equal(lab_consumer_gets(lab, bytes, sizeof bytes), 32);
}

static void the_tunnel_is_told_as_it_comes_up_and_with_each_new_key(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    struct nat_stats stats;
    exchange_handshake(&lab);
    assert_int_equal(lab_report(&lab, NAT_REPORT_TUNNEL).tunnel, NAT_TUNNEL_HANDSHAKING);
    struct nat_report first = lab_report(&lab, NAT_REPORT_TUNNEL);
    assert_int_equal(first.tunnel, NAT_TUNNEL_ESTABLISHED);
    nat_read_stats(lab.nat, &stats);
    assert_int_equal(stats.tunnel, NAT_TUNNEL_ESTABLISHED);
    assert_true(stats.tunnel_established_ms > 0);
    for (int often = 0; often < 3; often++)
        exchange_handshake(&lab); /* so soon that they are not news */
    usleep(1100 * 1000);
    exchange_handshake(&lab);
    struct nat_report second = lab_report(&lab, NAT_REPORT_TUNNEL);
    assert_int_equal(second.tunnel, NAT_TUNNEL_ESTABLISHED);
    assert_true(second.at_ms >= first.at_ms + 1000);
    lab_stop(&lab);
}

static void a_tunnel_goes_on_under_another_nat_from_its_ports(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    exchange_handshake(&lab);
    struct nat_ports ports = lab_report(&lab, NAT_REPORT_TUNNEL).ports;
    assert_int_equal(ports.guest, 0); /* it is not up yet */
    ports = lab_report(&lab, NAT_REPORT_TUNNEL).ports;
    assert_int_equal(ports.guest, test_guest.port);
    assert_int_equal(ports.local, ntohs(lab.guest_uplink.sin_port));
    const struct sockaddr_in uplink = lab.guest_uplink;
    lab_stop(&lab);

    uint8_t bytes[2048];
    lab_resume(&lab, ports);
    lab.guest_uplink = uplink;
    lab_consumer_sends(&lab, "early", 5);
    assert_true(lab_silent(lab.guest)); /* the gate is shut, and there is no socket */
    lab_open_gate(&lab);
    lab_consumer_sends(&lab, "on", 2); /* before the guest has said anything */
    assert_int_equal(lab_guest_gets(&lab, bytes, sizeof bytes), 42 + 2);
    struct nat_stats stats;
    nat_read_stats(lab.nat, &stats);
    assert_int_equal(stats.tunnel, NAT_TUNNEL_ESTABLISHED);
    assert_int_equal(stats.flows_open, 1);
    for (int packets = 0; packets < 40; packets++) { /* more than may go to a consumer that has not agreed */
        guest_sends_wireguard(&lab, 4, 64);
        assert_true(lab_consumer_gets(&lab, bytes, sizeof bytes) > 0);
    }
    assert_int_equal(lab.guest_uplink.sin_port, uplink.sin_port);
    lab_stop(&lab);
}

static void a_link_that_makes_no_sense_is_refused_by_field(void **state)
{
    (void)state;
    struct error err = {0};
    struct nat *nat = NULL;
    struct nat_config config = {.frame_fd = -1, .report_fd = -1, .link = test_link};
    config.link.prefix = 31;
    assert_int_equal(nat_start(&config, &nat, &err), -EINVAL);
    assert_string_equal(err.field, "prefix");
    config.link = test_link;
    config.link.mtu = 575;
    assert_int_equal(nat_start(&config, &nat, &err), -EINVAL);
    assert_string_equal(err.field, "mtu");
    config.link = test_link;
    config.link.gateway_ip = config.link.guest_ip;
    assert_int_equal(nat_start(&config, &nat, &err), -EINVAL);
    assert_string_equal(err.field, "gateway-ip");
    config.link.gateway_ip = 0xC0A84101;
    assert_int_equal(nat_start(&config, &nat, &err), -EINVAL);
    config.link.guest_ip = 0x7F000002;
    assert_int_equal(nat_start(&config, &nat, &err), -EINVAL);
    assert_string_equal(err.field, "guest-ip");
    assert_null(nat);
}

static void an_end_that_connects_elsewhere_does_not_make_it_spin(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    lab_open_flow(&lab);
    lab_consumer_sends(&lab, "unread",
                       6); /* the system tells of the disconnection when this is lost with it: unix(7) */
    lab_await_inbound(&lab, NAT_INBOUND_DELIVERED, 1);
    struct sockaddr_un elsewhere = {.sun_family = AF_UNIX};
    int other SCOPED_FD = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(other, (struct sockaddr *)&elsewhere, sizeof elsewhere.sun_family), 0); /* any free name */
    socklen_t length = sizeof elsewhere;
    assert_int_equal(getsockname(other, (struct sockaddr *)&elsewhere, &length), 0);
    assert_int_equal(connect(lab.guest, (struct sockaddr *)&elsewhere, length), 0);
    assert_true(lab_is_asleep());
    lab_stop(&lab);
}

int main(void)
{
    int rc = link_enter();
    if (rc < 0) {
        fprintf(stderr, "test_nat: cannot make a network namespace: %s\n", strerror(-rc));
        return 1;
    }
    static enum nat_framing framings[] = {NAT_FRAMING_DATAGRAM, NAT_FRAMING_STREAM};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_passes_before_the_first_policy),
        cmocka_unit_test(an_end_that_connects_elsewhere_does_not_make_it_spin),
        IN_BOTH_FRAMINGS(payloads_of_every_size_go_there_and_back_unchanged),
        cmocka_unit_test(order_is_kept_over_many_batches),
        cmocka_unit_test(each_guest_port_has_a_flow_of_its_own),
        cmocka_unit_test(a_stranger_cannot_reach_the_vm),
        IN_BOTH_FRAMINGS(arp_and_dhcp_are_answered),
        cmocka_unit_test(a_violation_is_reported_once_and_then_its_growth),
        cmocka_unit_test(what_grew_since_the_last_report_is_told_at_the_end),
        cmocka_unit_test(odd_datagrams_are_dropped_and_counted),
        cmocka_unit_test(a_vm_that_never_reads_stalls_nobody_and_loses_nothing_that_fits),
        cmocka_unit_test(a_datagram_above_the_mtu_is_dropped_and_counted),
        cmocka_unit_test(a_consumer_that_is_gone_and_back_loses_no_later_datagram),
        cmocka_unit_test(a_new_policy_closes_the_old_endpoints_flow),
        cmocka_unit_test(a_policy_that_may_not_be_enforced_leaves_the_old_one),
        cmocka_unit_test(a_shut_gate_stays_shut_both_ways),
        cmocka_unit_test(the_first_frames_mac_is_learnt_and_kept),
        cmocka_unit_test(the_tunnel_is_told_as_it_comes_up_and_with_each_new_key),
        cmocka_unit_test(a_tunnel_goes_on_under_another_nat_from_its_ports),
        cmocka_unit_test(a_link_that_makes_no_sense_is_refused_by_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

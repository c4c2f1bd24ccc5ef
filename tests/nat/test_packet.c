#include "tests/cmocka.h"

#include <string.h>

#include "tests/nat/frames.h"

static enum packet_kind kind_of(const struct frame *frame)
{
    return frame_parse(frame).kind;
}

static void a_right_udp_frame_yields_its_values(void **state)
{
    (void)state;
    struct frame frame = frame_udp(test_guest, test_consumer, 148);
    struct packet packet = frame_parse(&frame);
    assert_int_equal(packet.kind, PACKET_UDP);
    assert_int_equal(packet.ethertype, 0x0800);
    assert_memory_equal(&packet.source_mac, &test_link.guest_mac, 6);
    assert_int_equal(packet.source.ip, test_guest.ip);
    assert_int_equal(packet.source.port, test_guest.port);
    assert_int_equal(packet.destination.ip, test_consumer.ip);
    assert_int_equal(packet.destination.port, test_consumer.port);
    assert_int_equal(packet.payload_bytes, 148);
    assert_ptr_equal(packet.payload, frame.bytes + 42);
}

static void ports_are_read_in_network_order(void **state)
{
    (void)state;
    struct nat_endpoint to = {test_consumer.ip, 0x1234};
    struct frame frame = frame_udp(test_guest, to, 4);
    assert_int_equal(frame.bytes[36], 0x12);
    assert_int_equal(frame_parse(&frame).destination.port, 0x1234);
}

static void every_truncation_of_a_right_frame_is_malformed(void **state)
{
    (void)state;
    struct frame whole = frame_udp(test_guest, test_consumer, 100);
    for (size_t length = 0; length < whole.length; length++) {
        struct frame cut = whole;
        cut.length = length;
        assert_int_equal(kind_of(&cut), PACKET_MALFORMED);
    }
    assert_int_equal(kind_of(&whole), PACKET_UDP);
}

static void padding_behind_the_ip_packet_is_not_payload(void **state)
{
    (void)state;
    struct frame frame = frame_udp(test_guest, test_consumer, 4);
    frame.length = 60;
    struct packet packet = frame_parse(&frame);
    assert_int_equal(packet.kind, PACKET_UDP);
    assert_int_equal(packet.payload_bytes, 4);
}

static void the_mtu_is_the_largest_ip_packet(void **state)
{
    (void)state;
    struct frame fits = frame_udp(test_guest, test_consumer, 1472);
    struct frame above = frame_udp(test_guest, test_consumer, 1473);
    assert_int_equal(kind_of(&fits), PACKET_UDP);
    assert_int_equal(kind_of(&above), PACKET_MALFORMED);
}

static void an_empty_udp_payload_is_fine(void **state)
{
    (void)state;
    struct frame frame = frame_udp(test_guest, test_consumer, 0);
    assert_int_equal(kind_of(&frame), PACKET_UDP);
}

/* One field is spoilt, the IPv4 checksum is made right again where it covers it: the kind must be as told. */
struct spoilt {
    const char *what;
    size_t offset;
    uint8_t value;
    enum packet_kind kind;
};

static void a_single_wrong_field_is_noticed(void **state)
{
    (void)state;
    static const struct spoilt table[] = {
        {"version 6 in an IPv4 frame", 14, 0x65, PACKET_MALFORMED},
        {"version 0", 14, 0x05, PACKET_MALFORMED},
        {"header of four words", 14, 0x44, PACKET_MALFORMED},
        {"header of no words", 14, 0x40, PACKET_MALFORMED},
        {"total length below the header", 17, 19, PACKET_MALFORMED},
        {"total length above the frame", 16, 0x05, PACKET_MALFORMED},
        {"total length one short of the UDP length", 17, 127, PACKET_MALFORMED},
        {"UDP length below its header", 39, 7, PACKET_MALFORMED},
        {"UDP length above the IP payload", 39, 109, PACKET_MALFORMED},
        {"UDP length below the IP payload", 39, 107, PACKET_MALFORMED},
        {"reserved fragment bit", 20, 0x80, PACKET_MALFORMED},
        {"more fragments", 20, 0x20, PACKET_FRAGMENT},
        {"last fragment with an offset", 21, 0x01, PACKET_FRAGMENT},
        {"fragment offset in the high byte", 20, 0x1f, PACKET_FRAGMENT},
        {"wrong UDP checksum", 41, 0x5a, PACKET_MALFORMED},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct frame frame = frame_udp(test_guest, test_consumer, 100);
        assert_int_not_equal(frame.bytes[table[i].offset], table[i].value);
        frame.bytes[table[i].offset] = table[i].value;
        if (table[i].offset < 34 && frame.bytes[14] % 16 >= 5)
            frame_fix_ipv4(&frame);
        if (kind_of(&frame) != table[i].kind)
            fail_msg("%s: kind %d instead of %d", table[i].what, (int)kind_of(&frame), (int)table[i].kind);
    }
}

/* With a checksum the length would be noticed by that alone. */
static void a_wrong_udp_length_is_noticed_without_a_checksum(void **state)
{
    (void)state;
    for (unsigned length = 0; length < 256; length++) {
        struct frame frame = frame_udp(test_guest, test_consumer, 100);
        frame.bytes[39] = (uint8_t)length;
        frame.bytes[40] = 0;
        frame.bytes[41] = 0;
        assert_int_equal(kind_of(&frame), length == 108 ? PACKET_UDP : PACKET_MALFORMED);
    }
}

static void a_wrong_header_checksum_is_malformed(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < 16; bit++) {
        struct frame frame = frame_udp(test_guest, test_consumer, 8);
        frame.bytes[24 + bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(kind_of(&frame), PACKET_MALFORMED);
    }
}

static void a_udp_checksum_may_be_absent_or_left_to_the_card(void **state)
{
    (void)state;
    struct frame frame = frame_udp(test_guest, test_consumer, 33);
    frame.bytes[40] = 0;
    frame.bytes[41] = 0;
    assert_int_equal(kind_of(&frame), PACKET_UDP);

    /* The pseudo header's sum by hand: addresses, protocol 17, length 41. */
    unsigned sum = 0xC0A8 + 0x4002 + 0xC633 + 0x6402 + 17 + 41;
    sum = (sum & 0xffff) + (sum >> 16);
    frame.bytes[40] = (uint8_t)(sum >> 8);
    frame.bytes[41] = (uint8_t)sum;
    assert_int_equal(kind_of(&frame), PACKET_UDP);
    frame.bytes[41] ^= 1;
    assert_int_equal(kind_of(&frame), PACKET_MALFORMED);
}

static void port_zero_is_malformed_at_either_end(void **state)
{
    (void)state;
    struct nat_endpoint nowhere = {test_consumer.ip, 0};
    struct nat_endpoint nobody = {test_guest.ip, 0};
    struct frame to = frame_udp(test_guest, nowhere, 8);
    struct frame from = frame_udp(nobody, test_consumer, 8);
    assert_int_equal(kind_of(&to), PACKET_MALFORMED);
    assert_int_equal(kind_of(&from), PACKET_MALFORMED);
}

static void options_are_told_apart_with_their_addresses(void **state)
{
    (void)state;
    struct frame frame = frame_ipv4(17, test_guest.ip, test_consumer.ip, 24);
    frame.bytes[14] = 0x46;
    frame_fix_ipv4(&frame);
    struct packet packet = frame_parse(&frame);
    assert_int_equal(packet.kind, PACKET_IP_OPTIONS);
    assert_int_equal(packet.destination.ip, test_consumer.ip);
    assert_null(packet.payload);
}

static void vlan_tags_of_all_three_kinds_are_vlan(void **state)
{
    (void)state;
    static const uint8_t types[][2] = {{0x81, 0x00}, {0x88, 0xa8}, {0x91, 0x00}};
    for (size_t i = 0; i < 3; i++) {
        struct frame frame = frame_udp(test_guest, test_consumer, 8);
        memcpy(frame.bytes + 12, types[i], 2);
        assert_int_equal(kind_of(&frame), PACKET_VLAN);
    }
}

static void ipv6_and_unknown_types_are_not_read_further(void **state)
{
    (void)state;
    struct frame frame = {.length = 14};
    frame.bytes[12] = 0x86;
    frame.bytes[13] = 0xdd;
    assert_int_equal(kind_of(&frame), PACKET_IPV6);
    frame.bytes[12] = 0x88;
    frame.bytes[13] = 0xcc;
    assert_int_equal(kind_of(&frame), PACKET_OTHER);
}

static void arp_must_be_for_ipv4_over_ethernet(void **state)
{
    (void)state;
    struct frame right = frame_arp(1, test_link.guest_ip, test_link.gateway_ip);
    struct packet packet = frame_parse(&right);
    assert_int_equal(packet.kind, PACKET_ARP);
    assert_int_equal(packet.arp_operation, 1);
    assert_int_equal(packet.arp_sender_ip, test_link.guest_ip);
    assert_int_equal(packet.arp_target_ip, test_link.gateway_ip);
    static const size_t offsets[] = {15, 17, 18, 19, 21};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        struct frame wrong = right;
        wrong.bytes[offsets[i]] = 9;
        assert_int_equal(kind_of(&wrong), PACKET_MALFORMED);
    }
    right.length = 41;
    assert_int_equal(kind_of(&right), PACKET_MALFORMED);
}

static void tcp_is_whole_ip_with_ports_for_the_report_alone(void **state)
{
    (void)state;
    struct frame frame = frame_ipv4(6, test_guest.ip, 0x08080808, 20);
    frame.bytes[34] = 0x9c;
    frame.bytes[35] = 0x40;
    frame.bytes[36] = 0x01;
    frame.bytes[37] = 0xbb;
    struct packet packet = frame_parse(&frame);
    assert_int_equal(packet.kind, PACKET_NOT_UDP);
    assert_int_equal(packet.ip_protocol, 6);
    assert_int_equal(packet.destination.port, 443);
    assert_null(packet.payload);
}

static void tcp_that_ends_before_its_ports_has_none(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes <= 4; bytes++) {
        struct frame frame = frame_ipv4(6, test_guest.ip, 0x08080808, bytes);
        memset(frame.bytes + 34, 0xff, 4); /* of another frame: they are not read before the length allows it */
        struct packet packet = frame_parse(&frame);
        assert_int_equal(packet.kind, PACKET_NOT_UDP);
        assert_int_equal(packet.destination.port, bytes < 4 ? 0 : 0xffff);
        assert_int_equal(packet.source.port, bytes < 4 ? 0 : 0xffff);
    }
}

/* A seeded million would take a minute under a sanitizer; this many take a second and find what a byte can do. */
static void mutated_frames_never_yield_a_payload_outside_the_frame(void **state)
{
    (void)state;
    uint32_t seed = 20260131;
    for (int round = 0; round < 100000; round++) {
        struct frame frame = round % 3 == 0 ? frame_arp(1, test_link.guest_ip, test_link.gateway_ip)
                                            : frame_udp(test_guest, test_consumer, (size_t)round % 1473);
        for (int flips = 0; flips < round % 5; flips++) {
            seed = seed * 1664525u + 1013904223u;
            frame.bytes[(seed >> 8) % 60] = (uint8_t)seed;
        }
        seed = seed * 1664525u + 1013904223u;
        if (seed % 4 == 0)
            frame.length = (seed >> 8) % (frame.length + 1);
        if (seed % 2 == 0)
            frame_fix_ipv4(&frame);
        struct packet packet = frame_parse(&frame);
        if (packet.kind != PACKET_UDP) {
            assert_null(packet.payload);
            continue;
        }
        assert_ptr_equal(packet.payload, frame.bytes + 42);
        assert_true(packet.payload_bytes <= frame.length - 42);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_udp_frame_yields_its_values),
        cmocka_unit_test(ports_are_read_in_network_order),
        cmocka_unit_test(every_truncation_of_a_right_frame_is_malformed),
        cmocka_unit_test(padding_behind_the_ip_packet_is_not_payload),
        cmocka_unit_test(the_mtu_is_the_largest_ip_packet),
        cmocka_unit_test(an_empty_udp_payload_is_fine),
        cmocka_unit_test(a_single_wrong_field_is_noticed),
        cmocka_unit_test(a_wrong_udp_length_is_noticed_without_a_checksum),
        cmocka_unit_test(a_wrong_header_checksum_is_malformed),
        cmocka_unit_test(a_udp_checksum_may_be_absent_or_left_to_the_card),
        cmocka_unit_test(port_zero_is_malformed_at_either_end),
        cmocka_unit_test(options_are_told_apart_with_their_addresses),
        cmocka_unit_test(vlan_tags_of_all_three_kinds_are_vlan),
        cmocka_unit_test(ipv6_and_unknown_types_are_not_read_further),
        cmocka_unit_test(arp_must_be_for_ipv4_over_ethernet),
        cmocka_unit_test(tcp_is_whole_ip_with_ports_for_the_report_alone),
        cmocka_unit_test(tcp_that_ends_before_its_ports_has_none),
        cmocka_unit_test(mutated_frames_never_yield_a_payload_outside_the_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

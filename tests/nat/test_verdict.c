#include "tests/cmocka.h"

#include <stdbool.h>
#include <string.h>

#include "nat/verdict.h"
#include "tests/nat/frames.h"

static void set_group_destination(struct frame *frame)
{
    memset(frame->bytes, 0xff, 6);
}

static void udp_to_the_consumer_is_allowed(void **state)
{
    (void)state;
    struct frame frame = frame_udp(test_guest, test_consumer, 148);
    assert_int_equal(frame_reason(&frame), NAT_REASON_ALLOWED);
}

static void a_shut_gate_drops_everything(void **state)
{
    (void)state;
    struct nat_policy shut = test_policy;
    shut.generation = 0;
    struct frame frames[] = {
        frame_udp(test_guest, test_consumer, 8),
        frame_arp(1, test_link.guest_ip, test_link.gateway_ip),
        frame_dhcp(1, 7),
    };
    for (size_t i = 0; i < 3; i++) {
        for (int mode = 0; mode < NAT_MODE_COUNT; mode++) {
            shut.mode = (enum nat_mode)mode;
            struct verdict verdict = frame_verdict(&frames[i], &shut, NULL);
            assert_int_equal(verdict.what, NAT_DROP);
            assert_int_equal(verdict.reason, NAT_REASON_GATE_SHUT);
            assert_false(nat_reason_is_violation(verdict.reason));
        }
    }
}

/* Where a guest may try to send from its own address, and what that is called. */
struct destination_row {
    const char *what;
    uint8_t protocol;
    uint32_t ip;
    uint16_t port;
    enum nat_reason reason;
};

static void each_destination_has_its_reason(void **state)
{
    (void)state;
    static const struct destination_row rows[] = {
        {"consumer's tunnel port", 17, 0xC6336402, 51900, NAT_REASON_ALLOWED},
        {"consumer, port below", 17, 0xC6336402, 51899, NAT_REASON_PORT_NOT_ALLOWED},
        {"consumer, port above", 17, 0xC6336402, 51901, NAT_REASON_PORT_NOT_ALLOWED},
        {"consumer, port with swapped bytes", 17, 0xC6336402, 0xBCCA, NAT_REASON_PORT_NOT_ALLOWED},
        {"consumer by TCP on the tunnel port", 6, 0xC6336402, 51900, NAT_REASON_PROTOCOL_NOT_ALLOWED},
        {"consumer by ICMP", 1, 0xC6336402, 0, NAT_REASON_PROTOCOL_NOT_ALLOWED},
        {"neighbour of the consumer below", 17, 0xC6336401, 51900, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"neighbour of the consumer above", 17, 0xC6336403, 51900, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"consumer with swapped bytes", 17, 0x026433C6, 51900, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"internet by UDP", 17, 0x08080808, 53, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"internet by TCP", 6, 0x08080808, 443, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"internet by ICMP", 1, 0x08080808, 0, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"provider's LAN", 17, 0xC0A84D32, 51900, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"provider's localhost", 17, 0x7F000001, 51900, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"gateway", 17, 0xC0A84001, 53, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"gateway's DHCP from the wrong port", 17, 0xC0A84001, 67, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"another VM's usual address", 17, 0xC0A84003, 51900, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"metadata service", 6, 0xA9FEA9FE, 80, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"itself", 17, 0xC0A84002, 51900, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"multicast DNS", 17, 0xE00000FB, 5353, NAT_REASON_IGNORED},
        {"highest multicast address", 17, 0xEFFFFFFF, 51900, NAT_REASON_IGNORED},
        {"below multicast", 17, 0xDFFFFFFF, 51900, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"above multicast", 17, 0xF0000000, 51900, NAT_REASON_DESTINATION_NOT_ALLOWED},
        {"limited broadcast", 17, 0xFFFFFFFF, 51900, NAT_REASON_IGNORED},
        {"link's broadcast", 17, 0xC0A840FF, 51900, NAT_REASON_IGNORED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct nat_endpoint to = {rows[i].ip, rows[i].port};
        struct frame frame = rows[i].protocol == 17 ? frame_udp(test_guest, to, 32)
                                                    : frame_ipv4(rows[i].protocol, test_guest.ip, to.ip, 32);
        enum nat_reason reason = frame_reason(&frame);
        if (reason != rows[i].reason)
            fail_msg("%s: %s instead of %s", rows[i].what, nat_reason_name(reason), nat_reason_name(rows[i].reason));
    }
}

static void every_bit_of_the_source_address_counts(void **state)
{
    (void)state;
    for (int bit = 0; bit < 32; bit++) {
        struct nat_endpoint from = {test_guest.ip ^ UINT32_C(1) << bit, test_guest.port};
        struct frame frame = frame_udp(from, test_consumer, 8);
        assert_int_equal(frame_reason(&frame), NAT_REASON_SOURCE_IP_SPOOFED);
    }
}

static void every_bit_of_the_source_mac_counts(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < 48; bit++) {
        struct frame frame = frame_udp(test_guest, test_consumer, 8);
        frame.bytes[6 + bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(frame_reason(&frame), NAT_REASON_SOURCE_MAC_SPOOFED);
    }
}

static void every_bit_of_the_destination_counts(void **state)
{
    (void)state;
    for (int bit = 0; bit < 32; bit++) {
        struct nat_endpoint to = {test_consumer.ip ^ UINT32_C(1) << bit, test_consumer.port};
        struct frame frame = frame_udp(test_guest, to, 8);
        assert_int_not_equal(frame_reason(&frame), NAT_REASON_ALLOWED);
    }
    for (int bit = 0; bit < 16; bit++) {
        struct nat_endpoint to = {test_consumer.ip, (uint16_t)(test_consumer.port ^ 1u << bit)};
        struct frame frame = frame_udp(test_guest, to, 8);
        assert_int_equal(frame_reason(&frame), NAT_REASON_PORT_NOT_ALLOWED);
    }
}

static void fragments_and_options_to_the_consumer_are_violations(void **state)
{
    (void)state;
    struct frame first = frame_udp(test_guest, test_consumer, 64);
    first.bytes[20] = 0x20;
    frame_fix_ipv4(&first);
    assert_int_equal(frame_reason(&first), NAT_REASON_FRAGMENT);
    struct frame later = frame_udp(test_guest, test_consumer, 64);
    later.bytes[21] = 3;
    frame_fix_ipv4(&later);
    assert_int_equal(frame_reason(&later), NAT_REASON_FRAGMENT);
    struct frame options = frame_ipv4(17, test_guest.ip, test_consumer.ip, 40);
    options.bytes[14] = 0x46;
    frame_fix_ipv4(&options);
    assert_int_equal(frame_reason(&options), NAT_REASON_IP_OPTIONS);
}

static void what_a_guest_kernel_says_by_itself_is_ignored(void **state)
{
    (void)state;
    struct frame igmp = frame_ipv4(2, 0, 0xE0000016, 16);
    igmp.bytes[14] = 0x46; /* router alert */
    frame_fix_ipv4(&igmp);
    assert_int_equal(frame_reason(&igmp), NAT_REASON_IGNORED);

    struct frame neighbour_discovery = frame_udp(test_guest, test_consumer, 40);
    neighbour_discovery.bytes[0] = 0x33;
    neighbour_discovery.bytes[1] = 0x33;
    neighbour_discovery.bytes[12] = 0x86;
    neighbour_discovery.bytes[13] = 0xdd;
    assert_int_equal(frame_reason(&neighbour_discovery), NAT_REASON_IGNORED);

    struct frame lldp = frame_udp(test_guest, test_consumer, 40);
    set_group_destination(&lldp);
    lldp.bytes[12] = 0x88;
    lldp.bytes[13] = 0xcc;
    assert_int_equal(frame_reason(&lldp), NAT_REASON_IGNORED);
}

static void unicast_ipv6_and_unknown_types_are_violations(void **state)
{
    (void)state;
    struct frame frame = frame_udp(test_guest, test_consumer, 40);
    frame.bytes[12] = 0x86;
    frame.bytes[13] = 0xdd;
    assert_int_equal(frame_reason(&frame), NAT_REASON_IPV6);
    frame.bytes[12] = 0x88;
    frame.bytes[13] = 0x64; /* PPPoE */
    assert_int_equal(frame_reason(&frame), NAT_REASON_PROTOCOL_NOT_ALLOWED);
}

static void a_forbidden_destination_stays_forbidden_behind_a_broadcast_mac(void **state)
{
    (void)state;
    struct nat_endpoint to = {0x08080808, 53};
    struct frame frame = frame_udp(test_guest, to, 8);
    set_group_destination(&frame);
    assert_int_equal(frame_reason(&frame), NAT_REASON_DESTINATION_NOT_ALLOWED);
}

static void arp_must_speak_for_the_leased_addresses(void **state)
{
    (void)state;
    struct frame own = frame_arp(1, test_link.guest_ip, test_link.gateway_ip);
    struct frame probe = frame_arp(1, 0, test_link.guest_ip);
    struct frame other_ip = frame_arp(1, test_link.guest_ip + 1, test_link.gateway_ip);
    struct frame gateway = frame_arp(2, test_link.gateway_ip, test_link.gateway_ip);
    struct frame other_mac = own;
    other_mac.bytes[27] ^= 1;
    assert_int_equal(frame_reason(&own), NAT_REASON_ARP);
    assert_int_equal(frame_reason(&probe), NAT_REASON_ARP);
    assert_int_equal(frame_reason(&other_ip), NAT_REASON_ARP_SPOOFED);
    assert_int_equal(frame_reason(&gateway), NAT_REASON_ARP_SPOOFED);
    assert_int_equal(frame_reason(&other_mac), NAT_REASON_ARP_SPOOFED);
}

static void dhcp_is_answered_from_the_client_port_alone(void **state)
{
    (void)state;
    struct frame discover = frame_dhcp(1, 99);
    assert_int_equal(frame_reason(&discover), NAT_REASON_DHCP);
    struct nat_endpoint server = {test_link.gateway_ip, 67};
    struct nat_endpoint client = {test_link.guest_ip, 68};
    struct frame renewal = frame_udp(client, server, 250);
    assert_int_equal(frame_reason(&renewal), NAT_REASON_DHCP);
    struct nat_endpoint elsewhere = {0x08080808, 67};
    struct frame relay = frame_udp(client, elsewhere, 250);
    assert_int_equal(frame_reason(&relay), NAT_REASON_DESTINATION_NOT_ALLOWED);
}

/* A second implementation of "filtered forwards", written from the table of the specification and nothing else. */
static bool oracle_forwards(const struct frame *frame, const struct nat_policy *policy)
{
    const uint8_t *f = frame->bytes;
    if (frame->length < 42 || frame->length > 1514 || memcmp(f + 6, test_link.guest_mac.b, 6) != 0)
        return false;
    if (f[12] != 8 || f[13] != 0 || f[14] != 0x45 || (f[20] & 0xbf) != 0 || f[21] != 0 || f[23] != 17)
        return false;
    size_t total = (size_t)f[16] << 8 | f[17];
    size_t udp_length = (size_t)f[38] << 8 | f[39];
    if (total < 28 || total > frame->length - 14 || udp_length != total - 20)
        return false;
    if (f[26] != 192 || f[27] != 168 || f[28] != 64 || f[29] != 2 || (f[34] == 0 && f[35] == 0))
        return false;
    struct frame fixed = *frame;
    frame_fix_ipv4(&fixed);
    if (memcmp(fixed.bytes + 24, f + 24, 2) != 0)
        return false;
    frame_fix_udp(&fixed);
    unsigned pseudo = 17 + (unsigned)udp_length;
    for (size_t i = 26; i < 34; i += 2)
        pseudo += (unsigned)f[i] << 8 | f[i + 1];
    while (pseudo > 0xffff)
        pseudo = (pseudo & 0xffff) + (pseudo >> 16);
    bool checksum = memcmp(fixed.bytes + 40, f + 40, 2) == 0 || (f[40] == 0 && f[41] == 0) ||
                    ((unsigned)f[40] << 8 | f[41]) == pseudo;
    for (size_t i = 0; checksum && i < policy->allow_count; i++) {
        uint32_t ip = (uint32_t)f[30] << 24 | (uint32_t)f[31] << 16 | (uint32_t)f[32] << 8 | f[33];
        unsigned port = (unsigned)f[36] << 8 | f[37];
        if (policy->allow[i].ip == ip && policy->allow[i].port == port && port != 0)
            return true;
    }
    return false;
}

static void every_mode_forwards_what_it_judges_if_and_only_if_the_oracle_does(void **state)
{
    (void)state;
    struct nat_policy policy = test_policy;
    policy.allow_count = 3;
    policy.allow[1] = (struct nat_endpoint){0xCB007150, 51900};
    policy.allow[2] = (struct nat_endpoint){0xC6336402, 1};
    policy.sampling_ppm = NAT_SAMPLING_PPM_MAX; /* every frame is drawn */
    struct verdict_memory memory = {.conntrack = {.generation = 0}};
    uint32_t seed = 7;
    int forwarded = 0;
    for (int round = 0; round < 100000; round++) {
        seed = seed * 1664525u + 1013904223u;
        struct nat_endpoint to = policy.allow[(seed >> 9) % 3];
        struct frame frame = frame_udp(test_guest, to, (seed >> 12) % 64);
        for (int flips = 0; flips < round % 4; flips++) {
            seed = seed * 1664525u + 1013904223u;
            frame.bytes[(seed >> 8) % 42] ^= (uint8_t)(1u << seed % 8);
        }
        if (round % 3 == 0)
            frame_fix_ipv4(&frame);
        bool expected = frame.bytes[14] == 0x45 && oracle_forwards(&frame, &policy);
        for (int mode = 0; mode < NAT_MODE_COUNT; mode++) {
            policy.mode = (enum nat_mode)mode;
            struct verdict verdict = frame_verdict(&frame, &policy, &memory);
            assert_int_equal(verdict.what == NAT_FORWARD, expected);
            assert_int_equal(verdict.reason == NAT_REASON_ALLOWED, expected);
        }
        forwarded += expected;
    }
    assert_in_range(forwarded, 20000, 90000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(udp_to_the_consumer_is_allowed),
        cmocka_unit_test(a_shut_gate_drops_everything),
        cmocka_unit_test(each_destination_has_its_reason),
        cmocka_unit_test(every_bit_of_the_source_address_counts),
        cmocka_unit_test(every_bit_of_the_source_mac_counts),
        cmocka_unit_test(every_bit_of_the_destination_counts),
        cmocka_unit_test(fragments_and_options_to_the_consumer_are_violations),
        cmocka_unit_test(what_a_guest_kernel_says_by_itself_is_ignored),
        cmocka_unit_test(unicast_ipv6_and_unknown_types_are_violations),
        cmocka_unit_test(a_forbidden_destination_stays_forbidden_behind_a_broadcast_mac),
        cmocka_unit_test(arp_must_speak_for_the_leased_addresses),
        cmocka_unit_test(dhcp_is_answered_from_the_client_port_alone),
        cmocka_unit_test(every_mode_forwards_what_it_judges_if_and_only_if_the_oracle_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What the modes make of the same frames: the table of "what a verdict means per mode", row by row. */
#include "tests/cmocka.h"

#include <string.h>

#include "nat/verdict.h"
#include "tests/nat/frames.h"

/* Samplers whose every word, or no word, is below the rate. */
static struct verdict_memory drawing(bool every)
{
    struct verdict_memory memory = {.sampler = {.left = SAMPLER_WORDS}};
    memset(memory.sampler.words, every ? 0 : 0xff, sizeof memory.sampler.words);
    return memory;
}

static struct nat_policy policy_of(enum nat_mode mode)
{
    struct nat_policy policy = test_policy;
    policy.mode = mode;
    policy.sampling_ppm = NAT_SAMPLING_PPM_DEFAULT;
    policy.terminate = mode != NAT_MODE_FILTERED; /* the defaults */
    policy.own_count = 1;
    policy.own[0] = 0xC6336401;
    return policy;
}

enum column { FILTERED, CONNTRACK, DRAWN, PASSED_OVER, COLUMN_COUNT };

static struct verdict verdict_in(enum column column, const struct frame *frame)
{
    static const enum nat_mode modes[COLUMN_COUNT] = {NAT_MODE_FILTERED, NAT_MODE_CONNTRACK, NAT_MODE_SAMPLED,
                                                      NAT_MODE_SAMPLED};
    struct nat_policy policy = policy_of(modes[column]);
    struct verdict_memory memory = drawing(column == DRAWN);
    return frame_verdict(frame, &policy, &memory);
}

static struct frame changed(struct frame frame, size_t offset, uint8_t value)
{
    frame.bytes[offset] = value;
    frame_fix_ipv4(&frame);
    return frame;
}

static struct frame spoofed_mac(void)
{
    struct frame frame = frame_udp(test_guest, test_consumer, 40);
    frame.bytes[11] ^= 1;
    return frame;
}

static struct frame to(uint32_t ip, uint16_t port)
{
    return frame_udp(test_guest, (struct nat_endpoint){ip, port}, 40);
}

struct wanted {
    enum nat_verdict what;
    enum nat_reason reason;
    bool violation;
};

struct mode_row {
    const char *what;
    struct frame frame;
    struct wanted wanted[COLUMN_COUNT];
};

#define DROPPED(reason)                                                                                                \
    {                                                                                                                  \
        NAT_DROP, NAT_REASON_##reason, false                                                                           \
    }
#define BROKEN(reason)                                                                                                 \
    {                                                                                                                  \
        NAT_DROP, NAT_REASON_##reason, true                                                                            \
    }
#define ENDED(reason)                                                                                                  \
    {                                                                                                                  \
        NAT_TERMINATE, NAT_REASON_##reason, true                                                                       \
    }
#define PASSED(reason)                                                                                                 \
    {                                                                                                                  \
        NAT_FORWARD, NAT_REASON_##reason, false                                                                        \
    }
#define ANSWERED(reason)                                                                                               \
    {                                                                                                                  \
        NAT_ANSWER, NAT_REASON_##reason, false                                                                         \
    }
#define EVERYWHERE(verdict)                                                                                            \
    {                                                                                                                  \
        verdict, verdict, verdict, verdict                                                                             \
    }

static void check_rows(const struct mode_row *rows, size_t count)
{
    static const char *const names[COLUMN_COUNT] = {"filtered", "conntrack", "sampled, drawn", "sampled, not drawn"};
    for (size_t i = 0; i < count; i++) {
        for (int column = 0; column < COLUMN_COUNT; column++) {
            struct verdict found = verdict_in((enum column)column, &rows[i].frame);
            const struct wanted *wanted = &rows[i].wanted[column];
            bool violation = nat_reason_is_violation(found.reason);
            if (found.what != wanted->what || found.reason != wanted->reason || violation != wanted->violation)
                fail_msg("%s in %s: %s %s %d instead of %s %s %d", rows[i].what, names[column],
                         nat_verdict_name(found.what), nat_reason_name(found.reason), violation,
                         nat_verdict_name(wanted->what), nat_reason_name(wanted->reason), wanted->violation);
        }
    }
}

static void local_frames_are_the_same_in_every_mode(void **state)
{
    (void)state;
    struct frame neighbour_discovery = frame_udp(test_guest, test_consumer, 40);
    memcpy(neighbour_discovery.bytes, "\x33\x33\0\0\0\1", 6);
    memcpy(neighbour_discovery.bytes + 12, "\x86\xdd", 2);
    const struct mode_row rows[] = {
        {"ARP", frame_arp(1, test_link.guest_ip, test_link.gateway_ip), EVERYWHERE(ANSWERED(ARP))},
        {"DHCP", frame_dhcp(1, 7), EVERYWHERE(ANSWERED(DHCP))},
        {"DHCP renewal", frame_udp((struct nat_endpoint){0xC0A84002, 68}, (struct nat_endpoint){0xC0A84001, 67}, 250),
         EVERYWHERE(ANSWERED(DHCP))},
        {"IPv6 neighbour discovery", neighbour_discovery, EVERYWHERE(DROPPED(IGNORED))},
        {"multicast DNS", to(0xE00000FB, 5353), EVERYWHERE(DROPPED(IGNORED))},
        {"broadcast", to(0xC0A840FF, 9), EVERYWHERE(DROPPED(IGNORED))},
    };
    check_rows(rows, sizeof rows / sizeof rows[0]);
}

static void what_a_broken_driver_may_send_ends_nobody(void **state)
{
    (void)state;
    struct frame truncated = frame_udp(test_guest, test_consumer, 40);
    truncated.length = 40;
    struct frame vlan = frame_udp(test_guest, test_consumer, 40);
    memcpy(vlan.bytes + 12, "\x81\0", 2);
    struct frame fragment = changed(frame_udp(test_guest, test_consumer, 40), 20, 0x20);
    const struct mode_row rows[] = {
        {"truncated", truncated, {BROKEN(MALFORMED), BROKEN(MALFORMED), BROKEN(MALFORMED), DROPPED(UNSAMPLED)}},
        {"VLAN", vlan, {BROKEN(VLAN), BROKEN(VLAN), BROKEN(VLAN), DROPPED(UNSAMPLED)}},
        {"fragment", fragment, {BROKEN(FRAGMENT), BROKEN(FRAGMENT), BROKEN(FRAGMENT), DROPPED(UNSAMPLED)}},
    };
    check_rows(rows, sizeof rows / sizeof rows[0]);
}

static void attacks_end_the_vm_where_the_mode_says_so(void **state)
{
    (void)state;
    struct frame options = changed(frame_ipv4(17, test_guest.ip, test_consumer.ip, 40), 14, 0x46);
    struct frame source_ip = frame_udp((struct nat_endpoint){0xC0A84009, 40000}, test_consumer, 40);
    struct frame arp = frame_arp(2, test_link.gateway_ip, test_link.gateway_ip);
    const struct mode_row rows[] = {
        {"IP options", options, {BROKEN(IP_OPTIONS), ENDED(IP_OPTIONS), ENDED(IP_OPTIONS), DROPPED(UNSAMPLED)}},
        {"spoofed source MAC",
         spoofed_mac(),
         {BROKEN(SOURCE_MAC_SPOOFED), ENDED(SOURCE_MAC_SPOOFED), ENDED(SOURCE_MAC_SPOOFED), DROPPED(UNSAMPLED)}},
        {"spoofed source IP",
         source_ip,
         {BROKEN(SOURCE_IP_SPOOFED), ENDED(SOURCE_IP_SPOOFED), ENDED(SOURCE_IP_SPOOFED), DROPPED(UNSAMPLED)}},
        {"spoofed ARP", arp, {BROKEN(ARP_SPOOFED), ENDED(ARP_SPOOFED), ENDED(ARP_SPOOFED), DROPPED(UNSAMPLED)}},
        {"TCP to the internet",
         frame_ipv4(6, test_guest.ip, 0x08080808, 40),
         {BROKEN(DESTINATION_NOT_ALLOWED), ENDED(DESTINATION_NOT_ALLOWED), ENDED(DESTINATION_NOT_ALLOWED),
          DROPPED(UNSAMPLED)}},
        {"ICMP to the consumer",
         frame_ipv4(1, test_guest.ip, test_consumer.ip, 40),
         {BROKEN(PROTOCOL_NOT_ALLOWED), ENDED(PROTOCOL_NOT_ALLOWED), ENDED(PROTOCOL_NOT_ALLOWED), DROPPED(UNSAMPLED)}},
    };
    check_rows(rows, sizeof rows / sizeof rows[0]);
}

static void udp_goes_where_the_mode_lets_it(void **state)
{
    (void)state;
#define FORBIDDEN(reason, passed_over)                                                                                 \
    {                                                                                                                  \
        BROKEN(reason), ENDED(reason), ENDED(reason), passed_over                                                      \
    }
    const struct mode_row rows[] = {
        {"the consumer's tunnel",
         to(0xC6336402, 51900),
         {PASSED(ALLOWED), PASSED(ALLOWED), PASSED(ALLOWED), PASSED(UNCHECKED)}},
        {"another port of it", to(0xC6336402, 53), FORBIDDEN(PORT_NOT_ALLOWED, PASSED(UNCHECKED))},
        {"the internet", to(0x08080808, 53), FORBIDDEN(DESTINATION_NOT_ALLOWED, PASSED(UNCHECKED))},
        {"loopback", to(0x7F000001, 53), FORBIDDEN(DESTINATION_NOT_ALLOWED, DROPPED(NEVER))},
        {"this network", to(0x00000001, 53), FORBIDDEN(DESTINATION_NOT_ALLOWED, DROPPED(NEVER))},
        {"metadata", to(0xA9FEA9FE, 80), FORBIDDEN(DESTINATION_NOT_ALLOWED, DROPPED(NEVER))},
        {"reserved", to(0xF0000001, 80), FORBIDDEN(DESTINATION_NOT_ALLOWED, DROPPED(NEVER))},
        {"the provider itself", to(0xC6336401, 53), FORBIDDEN(DESTINATION_NOT_ALLOWED, DROPPED(NEVER))},
        {"the gateway", to(0xC0A84001, 53), FORBIDDEN(DESTINATION_NOT_ALLOWED, DROPPED(NEVER))},
        {"a neighbour on the link", to(0xC0A84009, 53), FORBIDDEN(DESTINATION_NOT_ALLOWED, DROPPED(NEVER))},
    };
#undef FORBIDDEN
    check_rows(rows, sizeof rows / sizeof rows[0]);
}

static void on_violation_may_be_set_against_the_modes_default(void **state)
{
    (void)state;
    struct frame frame = to(0x08080808, 53);
    struct nat_policy strict = policy_of(NAT_MODE_FILTERED);
    strict.terminate = true;
    struct nat_policy lenient = policy_of(NAT_MODE_CONNTRACK);
    lenient.terminate = false;
    assert_int_equal(frame_verdict(&frame, &strict, NULL).what, NAT_TERMINATE);
    struct verdict verdict = frame_verdict(&frame, &lenient, NULL);
    assert_int_equal(verdict.what, NAT_DROP);
    assert_true(nat_reason_is_violation(verdict.reason));
}

static void conntrack_asks_the_table_only_after_a_full_check_of_the_same_policy(void **state)
{
    (void)state;
    struct nat_policy policy = policy_of(NAT_MODE_CONNTRACK);
    struct verdict_memory memory = drawing(false);
    struct frame frame = frame_udp(test_guest, test_consumer, 40);
    assert_int_equal(frame_verdict(&frame, &policy, &memory).what, NAT_FORWARD);

    /* The table answers now: the allowlist is not asked again under the same generation ... */
    policy.allow_count = 0;
    assert_int_equal(frame_verdict(&frame, &policy, &memory).what, NAT_FORWARD);
    /* ... but is under the next, and a hit helps no other port, no spoofed source and no fragment. */
    struct frame other = to(test_consumer.ip, 51901);
    struct frame fragment = changed(frame, 20, 0x20);
    struct frame source = frame_udp((struct nat_endpoint){0xC0A84009, 40000}, test_consumer, 40);
    struct frame mac = spoofed_mac();
    assert_int_equal(frame_verdict(&other, &policy, &memory).what, NAT_TERMINATE);
    assert_int_equal(frame_verdict(&fragment, &policy, &memory).what, NAT_DROP);
    assert_int_equal(frame_verdict(&source, &policy, &memory).what, NAT_TERMINATE);
    assert_int_equal(frame_verdict(&mac, &policy, &memory).what, NAT_TERMINATE);
    policy.generation = 2;
    assert_int_equal(frame_verdict(&frame, &policy, &memory).what, NAT_TERMINATE);
}

static void what_has_not_the_shape_of_wireguard_is_a_violation_where_it_is_required(void **state)
{
    (void)state;
    for (int mode = 0; mode < NAT_MODE_COUNT; mode++) {
        struct nat_policy policy = policy_of((enum nat_mode)mode);
        policy.require_wireguard = true;
        struct verdict_memory memory = drawing(true);
        struct frame wireguard = frame_udp(test_guest, test_consumer, 148);
        memcpy(wireguard.bytes + 42, "\1\0\0\0", 4);
        frame_fix_udp(&wireguard);
        struct frame other = frame_udp(test_guest, test_consumer, 148);
        for (int round = 0; round < 2; round++) { /* the second is a hit in conntrack */
            assert_int_equal(frame_verdict(&wireguard, &policy, &memory).reason, NAT_REASON_ALLOWED);
            assert_int_equal(frame_verdict(&other, &policy, &memory).reason, NAT_REASON_NOT_WIREGUARD);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(local_frames_are_the_same_in_every_mode),
        cmocka_unit_test(what_a_broken_driver_may_send_ends_nobody),
        cmocka_unit_test(attacks_end_the_vm_where_the_mode_says_so),
        cmocka_unit_test(udp_goes_where_the_mode_lets_it),
        cmocka_unit_test(on_violation_may_be_set_against_the_modes_default),
        cmocka_unit_test(conntrack_asks_the_table_only_after_a_full_check_of_the_same_policy),
        cmocka_unit_test(what_has_not_the_shape_of_wireguard_is_a_violation_where_it_is_required),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

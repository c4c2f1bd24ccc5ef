#include "tests/cmocka.h"

#include <string.h>

#include "nat/nat.h"

static void every_reason_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int a = 0; a < NAT_REASON_COUNT; a++) {
        assert_true(strlen(nat_reason_name((enum nat_reason)a)) > 0);
        for (int b = 0; b < a; b++)
            assert_string_not_equal(nat_reason_name((enum nat_reason)a), nat_reason_name((enum nat_reason)b));
    }
}

static void two_reasons_forward_and_two_answer(void **state)
{
    (void)state;
    int counts[NAT_VERDICT_COUNT] = {0};
    for (int reason = 0; reason < NAT_REASON_COUNT; reason++)
        counts[nat_verdict_of((enum nat_reason)reason)]++;
    assert_int_equal(counts[NAT_FORWARD], 2);
    assert_int_equal(counts[NAT_ANSWER], 2);
    assert_int_equal(nat_verdict_of(NAT_REASON_ALLOWED), NAT_FORWARD);
    assert_int_equal(nat_verdict_of(NAT_REASON_UNCHECKED), NAT_FORWARD);
}

static void the_reasons_from_malformed_on_are_violations(void **state)
{
    (void)state;
    for (int reason = 0; reason < NAT_REASON_COUNT; reason++)
        assert_int_equal(nat_reason_is_violation((enum nat_reason)reason), reason >= NAT_REASON_MALFORMED);
}

static void what_a_broken_driver_sends_is_a_violation_but_no_attack(void **state)
{
    (void)state;
    for (int reason = 0; reason < NAT_REASON_COUNT; reason++) {
        bool broken = reason == NAT_REASON_MALFORMED || reason == NAT_REASON_VLAN || reason == NAT_REASON_FRAGMENT;
        bool violation = nat_reason_is_violation((enum nat_reason)reason);
        assert_int_equal(nat_reason_is_attack((enum nat_reason)reason), violation && !broken);
    }
}

static void every_mode_is_known_by_its_name_and_direct_is_none(void **state)
{
    (void)state;
    for (int mode = 0; mode < NAT_MODE_COUNT; mode++) {
        enum nat_mode found = NAT_MODE_COUNT;
        assert_true(nat_mode_parse(nat_mode_name((enum nat_mode)mode), &found));
        assert_int_equal(found, mode);
    }
    enum nat_mode untouched = NAT_MODE_COUNT;
    assert_false(nat_mode_parse("direct", &untouched));
    assert_false(nat_mode_parse("", &untouched));
    assert_int_equal(untouched, NAT_MODE_COUNT);
}

struct endpoint_row {
    const char *text;
    bool good;
};

static void endpoints_are_read_strictly(void **state)
{
    (void)state;
    static const struct endpoint_row rows[] = {
        {"198.51.100.2:51900", true},
        {"0.0.0.0:1", true},
        {"255.255.255.255:65535", true},
        {"198.51.100.2:0", false},
        {"198.51.100.2:65536", false},
        {"198.51.100.2:051900", false},
        {"198.51.100.2:", false},
        {"198.51.100.2", false},
        {"198.51.100:51900", false},
        {"256.51.100.2:1", false},
        {"01.2.3.4:1", false},
        {"1.2.3.4.5:1", false},
        {" 1.2.3.4:1", false},
        {"1.2.3.4:1 ", false},
        {"1.2.3.4:+1", false},
        {"1.2.3.4:0x10", false},
        {"[::1]:1", false},
        {"host:1", false},
        {"1.2.3.4:1:2", false},
        {"", false},
        {":", false},
        {"1..3.4:5", false},
        {"1.2.3.4:999999", false},
        {"-1.2.3.4:5", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct nat_endpoint endpoint;
        char text[NAT_ENDPOINT_TEXT_BYTES];
        bool good = nat_endpoint_parse(rows[i].text, &endpoint);
        if (good != rows[i].good)
            fail_msg("\"%s\" is %s", rows[i].text, good ? "taken" : "refused");
        if (good)
            assert_string_equal(nat_endpoint_format(endpoint, text), rows[i].text);
    }
}

static void hardware_addresses_are_read_strictly(void **state)
{
    (void)state;
    static const struct endpoint_row rows[] = {
        {"52:54:00:aB:Cd:ef", true},
        {"02:00:00:00:00:00", true},
        {"00:00:00:00:00:00", false},
        {"53:54:00:ab:cd:ef", false},
        {"ff:ff:ff:ff:ff:ff", false},
        {"52:54:00:ab:cd", false},
        {"52-54-00-ab-cd-ef", false},
        {"52:54:00:ab:cd:ef:", false},
        {"5:54:00:ab:cd:ef", false},
        {"52:54:00:ab:cd:eg", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct nat_mac mac;
        assert_int_equal(nat_mac_parse(rows[i].text, &mac), rows[i].good);
    }
    struct nat_mac mac;
    char text[NAT_MAC_TEXT_BYTES];
    assert_true(nat_mac_parse("52:54:00:AB:cd:0f", &mac));
    assert_string_equal(nat_mac_format(mac, text), "52:54:00:ab:cd:0f");
}

struct range_row {
    uint32_t ip;
    bool never;
};

static void the_never_ranges_end_where_they_should(void **state)
{
    (void)state;
    static const struct range_row rows[] = {
        {0x00000000, true},  {0x00FFFFFF, true},  {0x01000000, false}, {0x7EFFFFFF, false}, {0x7F000000, true},
        {0x7FFFFFFF, true},  {0x80000000, false}, {0xA9FDFFFF, false}, {0xA9FE0000, true},  {0xA9FEFFFF, true},
        {0xA9FF0000, false}, {0xDFFFFFFF, false}, {0xE0000000, true},  {0xFFFFFFFF, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(nat_ip_is_never(rows[i].ip) != NULL, rows[i].never);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reason_has_a_name_of_its_own),
        cmocka_unit_test(two_reasons_forward_and_two_answer),
        cmocka_unit_test(the_reasons_from_malformed_on_are_violations),
        cmocka_unit_test(what_a_broken_driver_sends_is_a_violation_but_no_attack),
        cmocka_unit_test(every_mode_is_known_by_its_name_and_direct_is_none),
        cmocka_unit_test(endpoints_are_read_strictly),
        cmocka_unit_test(hardware_addresses_are_read_strictly),
        cmocka_unit_test(the_never_ranges_end_where_they_should),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

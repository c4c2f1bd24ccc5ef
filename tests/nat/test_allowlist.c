#include "tests/cmocka.h"

#include <errno.h>
#include <string.h>

#include "nat/allowlist.h"
#include "tests/nat/frames.h"

static void agrees_with_an_oracle_over_small_address_and_port_spaces(void **state)
{
    (void)state;
    uint32_t seed = 3;
    for (int round = 0; round < 200; round++) {
        bool table[16][16] = {{false}};
        struct nat_policy policy = {.generation = 1};
        policy.allow_count = (size_t)round % (NAT_ALLOW_MAX + 1);
        for (size_t i = 0; i < policy.allow_count; i++) {
            seed = seed * 1664525u + 1013904223u;
            uint32_t ip = seed >> 28;
            uint16_t port = seed >> 24 & 15;
            policy.allow[i] = (struct nat_endpoint){0xC6336400 + ip, port};
            table[ip][port] = true;
        }
        for (uint32_t ip = 0; ip < 16; ip++) {
            bool any = false;
            for (uint16_t port = 0; port < 16; port++) {
                struct nat_endpoint endpoint = {0xC6336400 + ip, port};
                assert_int_equal(allowlist_holds(&policy, endpoint), table[ip][port]);
                any = any || table[ip][port];
            }
            assert_int_equal(allowlist_holds_ip(&policy, 0xC6336400 + ip), any);
        }
    }
}

static void an_empty_allowlist_holds_nothing(void **state)
{
    (void)state;
    struct nat_policy empty = {.generation = 1, .allow = {{0xC6336402, 51900}}};
    assert_false(allowlist_holds(&empty, test_consumer));
    assert_false(allowlist_holds_ip(&empty, test_consumer.ip));
}

static void a_policy_that_must_not_be_enforced_is_refused_by_name(void **state)
{
    (void)state;
    static const uint32_t never[] = {0x00000001, 0x7F000001, 0x7FFFFFFF, 0xA9FEA9FE,
                                     0xE0000001, 0xF0000001, 0xFFFFFFFF};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        struct nat_policy policy = test_policy;
        policy.allow[0].ip = never[i];
        struct error err = {0};
        char text[NAT_IP_TEXT_BYTES];
        assert_int_equal(allowlist_check(&policy, &err), -EINVAL);
        assert_non_null(strstr(err.message, nat_ip_format(never[i], text)));
    }
    struct nat_policy policy = test_policy;
    policy.allow[0].port = 0;
    assert_int_equal(allowlist_check(&policy, NULL), -EINVAL);
    policy = test_policy;
    policy.allow_count = NAT_ALLOW_MAX + 1;
    assert_int_equal(allowlist_check(&policy, NULL), -EINVAL);
    policy = test_policy;
    policy.generation = 0;
    assert_int_equal(allowlist_check(&policy, NULL), -EINVAL);
    policy = test_policy;
    policy.limits.ingress_packets_per_s = NAT_RATE_MAX + 1;
    assert_int_equal(allowlist_check(&policy, NULL), -EINVAL);
    policy.limits.ingress_packets_per_s = NAT_RATE_MAX;
    assert_int_equal(allowlist_check(&policy, NULL), 0);
    policy = test_policy;
    policy.own_count = NAT_OWN_MAX + 1;
    assert_int_equal(allowlist_check(&policy, NULL), -EINVAL);
    assert_int_equal(allowlist_check(&test_policy, NULL), 0);
}

static void a_sampling_rate_has_its_bounds_in_sampled_mode_alone(void **state)
{
    (void)state;
    static const struct {
        uint32_t ppm;
        int rc;
    } rows[] = {{0, -EINVAL}, {999, -EINVAL}, {1000, 0}, {1000000, 0}, {1000001, -EINVAL}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct nat_policy policy = test_policy;
        policy.sampling_ppm = rows[i].ppm;
        assert_int_equal(allowlist_check(&policy, NULL), 0);
        policy.mode = NAT_MODE_SAMPLED;
        assert_int_equal(allowlist_check(&policy, NULL), rows[i].rc);
    }
}

static void a_name_for_no_endpoint_is_no_place(void **state)
{
    (void)state;
    const struct nat_endpoint named = {0xCB007163, 51900};
    struct nat_policy policy = {.generation = 1, .known_as = named};
    policy.allow[0] = test_consumer; /* beyond allow_count: not there */
    assert_int_equal(allowlist_translate(&policy, named).ip, named.ip);
    assert_int_equal(allowlist_name(&policy, test_consumer).ip, test_consumer.ip);
    policy.allow_count = 1;
    assert_int_equal(allowlist_translate(&policy, named).ip, test_consumer.ip);
    assert_int_equal(allowlist_name(&policy, test_consumer).ip, named.ip);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_an_oracle_over_small_address_and_port_spaces),
        cmocka_unit_test(an_empty_allowlist_holds_nothing),
        cmocka_unit_test(a_name_for_no_endpoint_is_no_place),
        cmocka_unit_test(a_sampling_rate_has_its_bounds_in_sampled_mode_alone),
        cmocka_unit_test(a_policy_that_must_not_be_enforced_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

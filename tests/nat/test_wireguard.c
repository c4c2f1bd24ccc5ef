#include "tests/cmocka.h"

#include "nat/wireguard.h"

struct shape_row {
    uint8_t type;
    uint8_t reserved;
    size_t length;
    enum wireguard_message message;
};

static void types_and_lengths_are_exact(void **state)
{
    (void)state;
    static const struct shape_row rows[] = {
        {1, 0, 148, WIREGUARD_INITIATION}, {1, 0, 147, WIREGUARD_NONE},       {1, 0, 149, WIREGUARD_NONE},
        {2, 0, 92, WIREGUARD_RESPONSE},    {2, 0, 91, WIREGUARD_NONE},        {2, 0, 148, WIREGUARD_NONE},
        {3, 0, 64, WIREGUARD_COOKIE},      {3, 0, 63, WIREGUARD_NONE},        {4, 0, 32, WIREGUARD_TRANSPORT},
        {4, 0, 31, WIREGUARD_NONE},        {4, 0, 1452, WIREGUARD_TRANSPORT}, {4, 1, 32, WIREGUARD_NONE},
        {0, 0, 148, WIREGUARD_NONE},       {5, 0, 64, WIREGUARD_NONE},        {1, 9, 148, WIREGUARD_NONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t payload[1500] = {rows[i].type, 0, rows[i].reserved, 0};
        assert_int_equal(wireguard_classify(payload, rows[i].length), rows[i].message);
    }
    for (size_t at = 1; at < 4; at++) {
        uint8_t payload[32] = {4};
        payload[at] = 1;
        assert_int_equal(wireguard_classify(payload, sizeof payload), WIREGUARD_NONE);
    }
    uint8_t nothing[1] = {4};
    assert_int_equal(wireguard_classify(nothing, 0), WIREGUARD_NONE);
}

static void a_handshake_needs_initiation_response_and_data(void **state)
{
    (void)state;
    struct wireguard_observer tunnel = {0};
    assert_false(wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_TRANSPORT, 1));
    assert_int_equal(tunnel.state, NAT_TUNNEL_WAITING);
    assert_true(wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_INITIATION, 2));
    assert_int_equal(tunnel.state, NAT_TUNNEL_HANDSHAKING);
    assert_false(wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_TRANSPORT, 3));
    assert_false(wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_RESPONSE, 4));
    assert_false(wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_TRANSPORT, 5));
    assert_false(wireguard_observe(&tunnel, WIREGUARD_CONSUMER, WIREGUARD_RESPONSE, 6));
    assert_false(wireguard_observe(&tunnel, WIREGUARD_CONSUMER, WIREGUARD_TRANSPORT, 7));
    assert_int_equal(tunnel.state, NAT_TUNNEL_HANDSHAKING);
    assert_true(wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_TRANSPORT, 8));
    assert_int_equal(tunnel.state, NAT_TUNNEL_ESTABLISHED);
    assert_int_equal(tunnel.established_ms, 8);
    assert_int_equal(tunnel.last_handshake_ms, 8);
}

static void new_keys_move_the_last_handshake_and_not_the_first(void **state)
{
    (void)state;
    struct wireguard_observer tunnel = {0};
    wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_INITIATION, 10);
    wireguard_observe(&tunnel, WIREGUARD_CONSUMER, WIREGUARD_RESPONSE, 11);
    wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_TRANSPORT, 12);
    assert_false(wireguard_observe(&tunnel, WIREGUARD_CONSUMER, WIREGUARD_INITIATION, 120));
    assert_false(wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_RESPONSE, 121));
    assert_false(wireguard_observe(&tunnel, WIREGUARD_CONSUMER, WIREGUARD_TRANSPORT, 122));
    assert_int_equal(tunnel.state, NAT_TUNNEL_ESTABLISHED);
    assert_int_equal(tunnel.established_ms, 12);
    assert_int_equal(tunnel.last_handshake_ms, 122);
}

static void a_consumer_that_is_silent_too_long_has_lost_its_tunnel(void **state)
{
    (void)state;
    struct wireguard_observer tunnel = {0};
    assert_true(wireguard_next_expiry(&tunnel) == UINT64_MAX);
    wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_INITIATION, 10);
    wireguard_observe(&tunnel, WIREGUARD_CONSUMER, WIREGUARD_RESPONSE, 11);
    wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_TRANSPORT, 12);
    assert_int_equal(wireguard_next_expiry(&tunnel), 11 + WIREGUARD_LOST_MS);
    wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_TRANSPORT, 5000); /* the VM's own words do not count */
    wireguard_observe(&tunnel, WIREGUARD_CONSUMER, WIREGUARD_NONE, 6000);   /* nor what is no WireGuard */
    assert_false(wireguard_expire(&tunnel, 10 + WIREGUARD_LOST_MS));
    assert_true(wireguard_expire(&tunnel, 11 + WIREGUARD_LOST_MS));
    assert_int_equal(tunnel.state, NAT_TUNNEL_LOST);
    assert_false(wireguard_expire(&tunnel, UINT64_MAX - 1));
    wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_INITIATION, 300000);
    wireguard_observe(&tunnel, WIREGUARD_CONSUMER, WIREGUARD_RESPONSE, 300001);
    assert_true(wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_TRANSPORT, 300002));
    assert_int_equal(tunnel.state, NAT_TUNNEL_ESTABLISHED);
}

static void what_nobody_asked_for_changes_nothing(void **state)
{
    (void)state;
    const struct wireguard_observer blank = {0};
    struct wireguard_observer tunnel = {0};
    assert_false(wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_RESPONSE, 1));
    assert_false(wireguard_observe(&tunnel, WIREGUARD_GUEST, WIREGUARD_COOKIE, 2));
    assert_memory_equal(&tunnel, &blank, sizeof blank);
    assert_false(wireguard_observe(&tunnel, WIREGUARD_CONSUMER, WIREGUARD_COOKIE, 3)); /* but that it is alive */
    assert_int_equal(tunnel.heard_ms, 3);
    assert_int_equal(tunnel.state, NAT_TUNNEL_WAITING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_and_lengths_are_exact),
        cmocka_unit_test(what_nobody_asked_for_changes_nothing),
        cmocka_unit_test(a_handshake_needs_initiation_response_and_data),
        cmocka_unit_test(a_consumer_that_is_silent_too_long_has_lost_its_tunnel),
        cmocka_unit_test(new_keys_move_the_last_handshake_and_not_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <errno.h>
#include <string.h>

#include "tests/store/store_fixture.h"

static const char boot[] = "11111111-1111-4111-8111-111111111111";

static const struct store_renewal renewal = {
    .at_ms = UINT64_C(1700000100007),
    .ttl_s = 60,
    .expires_ms = UINT64_C(1700000160007),
    .deadline_ms = 99060000,
    .deadline_boot_id = boot,
};

static void a_renewal_moves_the_end_and_is_told(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_lease lease;
    struct id id = fixture_reserve(fixture, 1);
    assert_works(store_lease_renew(fixture->store, id.text, &renewal, &err), err);
    assert_works(store_lease_get(fixture->store, id.text, &lease, &err), err);
    struct store_lease expected = fixture_lease(1);
    expected.generation = 2;
    expected.ttl_s = 60;
    expected.expires_ms = renewal.expires_ms;
    expected.deadline_ms = renewal.deadline_ms;
    set_text(expected.deadline_boot_id, boot);
    set_text(expected.tunnel_state, "waiting");
    expected.exit_code = -1;
    fixture_assert_same_lease(&lease, &expected);
    assert_string_equal(fixture_text(fixture, "SELECT data FROM events WHERE type = 'lease.renewed'"),
                        "{\"ttl_s\":60,\"expires_at\":\"2023-11-14T22:16:00.007Z\"}");
    assert_int_equal(fixture_number(fixture, "SELECT at_ms FROM events WHERE type = 'lease.renewed'"), renewal.at_ms);
}

static void the_warning_is_an_event_and_no_change(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_lease lease;
    struct id id = fixture_reserve(fixture, 1);
    assert_works(store_lease_expiring(fixture->store, id.text, 5, &err), err);
    assert_works(store_lease_get(fixture->store, id.text, &lease, &err), err);
    assert_int_equal(lease.generation, 1);
    assert_string_equal(fixture_text(fixture, "SELECT data FROM events WHERE type = 'lease.expiring'"),
                        "{\"ttl_s\":3600,\"expires_at\":\"2023-11-14T23:13:20.001Z\"}");
}

static void a_lease_that_ends_is_not_renewed_and_not_warned(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = fixture_reserve(fixture, 1);
    const struct store_change stopping = {.to = LEASE_STOPPING, .at_ms = 7};
    const struct store_end end = fixture_end();
    assert_works(store_lease_transition(fixture->store, id.text, &stopping, &err), err);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(store_lease_renew(fixture->store, id.text, &renewal, &err), -EALREADY);
        assert_string_equal(err.slug, "lease-ended");
        assert_int_equal(store_lease_expiring(fixture->store, id.text, 5, &err), -EALREADY);
        if (round == 0)
            assert_works(store_lease_terminate(fixture->store, id.text, &end, &err), err);
    }
    const struct id unknown = fixture_lease(9).id;
    assert_int_equal(store_lease_renew(fixture->store, unknown.text, &renewal, &err), -ENOENT);
    assert_string_equal(err.slug, "lease-not-found");
    assert_int_equal(store_lease_expiring(fixture->store, unknown.text, 5, &err), -ENOENT);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'lease.renewed'"), 0);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'lease.expiring'"), 0);
}

int main(void)
{
#define STORED(test) cmocka_unit_test_setup_teardown(test, store_fixture_setup, store_fixture_teardown)
    const struct CMUnitTest tests[] = {
        STORED(a_renewal_moves_the_end_and_is_told),
        STORED(the_warning_is_an_event_and_no_change),
        STORED(a_lease_that_ends_is_not_renewed_and_not_warned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

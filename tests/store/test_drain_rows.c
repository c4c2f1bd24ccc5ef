#include "tests/store/store_fixture.h"

#include <errno.h>

static void set(struct store_fixture *fixture, uint64_t generation, bool draining, uint64_t expected_generation)
{
    struct error err = {0};
    struct store_drain drain = {0};
    assert_works(store_drain_set(fixture->store, generation, draining, 77, &drain, &err), err);
    assert_int_equal(drain.generation, expected_generation);
    assert_int_equal(drain.draining, draining);
}

static void a_new_database_is_not_drained(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_drain drain = {.draining = true};
    assert_works(store_drain_get(fixture->store, &drain, &err), err);
    assert_false(drain.draining);
    assert_int_equal(drain.generation, 1);
    assert_int_equal(drain.changed_ms, 0);
}

static void a_drained_machine_admits_nothing_until_it_is_not(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_lease lease = fixture_lease(1);
    struct store_resources capacity = fixture_capacity(9);
    fixture_reserve(fixture, 2); /* what is there stays */
    set(fixture, 1, true, 2);
    assert_int_equal(store_lease_reserve(fixture->store, &lease, &capacity, &err), -EAGAIN);
    assert_string_equal(err.slug, "draining");
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM leases"), 1);
    store_fixture_close(fixture);
    store_fixture_open(fixture);
    assert_int_equal(store_lease_reserve(fixture->store, &lease, &capacity, &err), -EAGAIN);
    set(fixture, 2, false, 3);
    assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err);
}

static void a_change_is_told_once_and_what_is_none_is_not(void **state)
{
    struct store_fixture *fixture = *state;
    set(fixture, 1, false, 1);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), 0);
    set(fixture, 1, true, 2);
    set(fixture, 2, true, 2);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'node.drain_changed'"), 1);
    assert_string_equal(fixture_text(fixture, "SELECT data FROM events"), "{\"draining\":true,\"generation\":2}");
    assert_int_equal(fixture_number(fixture, "SELECT changed_ms FROM drain"), 77);
}

static void another_generation_changes_nothing_and_is_told(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_drain drain = {0};
    set(fixture, 1, true, 2);
    assert_int_equal(store_drain_set(fixture->store, 1, false, 78, &drain, &err), -ESTALE);
    assert_string_equal(err.slug, "precondition-failed");
    assert_int_equal(drain.generation, 2);
    assert_works(store_drain_get(fixture->store, &drain, &err), err);
    assert_true(drain.draining);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_new_database_is_not_drained),
        WITH_STORE(a_drained_machine_admits_nothing_until_it_is_not),
        WITH_STORE(a_change_is_told_once_and_what_is_none_is_not),
        WITH_STORE(another_generation_changes_nothing_and_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

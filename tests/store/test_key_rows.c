#include <errno.h>
#include <string.h>

#include "tests/store/store_fixture.h"

enum { HOUR_MS = 3600000 };

static const uint8_t one[STORE_REQUEST_HASH_BYTES] = {1};
static const uint8_t other[STORE_REQUEST_HASH_BYTES] = {2};
static const struct store_once once = {.key = "key-1", .request_hash = one, .answer = "{\"a\":1}"};

static int recall(const struct store_fixture *fixture, const uint8_t *hash, uint64_t now_ms)
{
    struct store_answer answer;
    struct error err = {0};
    return store_key_recall(fixture->store, "key-1", hash, now_ms, &answer, &err);
}

static void a_key_is_kept_with_its_lease_and_recalled_for_a_day(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_answer answer;
    const struct store_lease lease = fixture_lease(1);
    const struct store_resources capacity = fixture_capacity(9);
    uint64_t now_ms = lease.created_ms;
    assert_int_equal(recall(fixture, one, now_ms), -ENOENT);
    assert_works(store_lease_reserve_once(fixture->store, &lease, &capacity, &once, &err), err);
    assert_works(store_key_recall(fixture->store, "key-1", one, now_ms, &answer, &err), err);
    assert_string_equal(answer.lease_id.text, lease.id.text);
    assert_string_equal(answer.body, "{\"a\":1}");
    assert_int_equal(recall(fixture, one, now_ms + UINT64_C(24) * HOUR_MS), 0);
    assert_int_equal(recall(fixture, one, now_ms + UINT64_C(24) * HOUR_MS + 1), -ENOENT);
    assert_int_equal(store_key_recall(fixture->store, "key-1", other, now_ms, &answer, &err), -EINVAL);
    assert_string_equal(err.slug, "idempotency-key-reused");

    /* It outlives the daemon. */
    store_fixture_close(fixture);
    store_fixture_open(fixture);
    assert_int_equal(recall(fixture, one, now_ms), 0);

    assert_works(store_key_forget(fixture->store, "key-1", &err), err);
    assert_works(store_key_forget(fixture->store, "key-1", &err), err);
    assert_int_equal(recall(fixture, one, now_ms), -ENOENT);
}

static void neither_key_nor_lease_is_kept_without_the_other(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    const struct store_lease lease = fixture_lease(1);
    const struct store_lease second = fixture_lease(2);
    const struct store_resources none = fixture_capacity(0);
    const struct store_resources capacity = fixture_capacity(9);
    assert_int_equal(store_lease_reserve_once(fixture->store, &lease, &none, &once, &err), -ENOSPC);
    assert_int_equal(recall(fixture, one, lease.created_ms), -ENOENT);
    assert_works(store_lease_reserve_once(fixture->store, &lease, &capacity, &once, &err), err);
    assert_int_equal(store_lease_reserve_once(fixture->store, &second, &capacity, &once, &err), -EEXIST);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM leases"), 1);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'lease.created'"), 1);
}

static void old_keys_go_with_the_next_one(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    const struct store_resources capacity = fixture_capacity(9);
    struct store_lease lease = fixture_lease(1);
    assert_works(store_lease_reserve_once(fixture->store, &lease, &capacity, &once, &err), err);
    lease = fixture_lease(2);
    lease.created_ms += UINT64_C(25) * HOUR_MS;
    /* The same key again means another request by now. */
    const struct store_once later = {.key = "key-1", .request_hash = other, .answer = "{}"};
    assert_works(store_lease_reserve_once(fixture->store, &lease, &capacity, &later, &err), err);
    assert_int_equal(recall(fixture, other, lease.created_ms), 0);
    /* And one from a future that was taken back. */
    lease = fixture_lease(3);
    const struct store_once before = {.key = "key-2", .request_hash = one, .answer = "{}"};
    assert_works(store_lease_reserve_once(fixture->store, &lease, &capacity, &before, &err), err);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM idempotency_keys"), 1);
}

static void a_day_has_a_bounded_number_of_keys(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    const struct store_resources capacity = fixture_capacity(9);
    struct store_lease lease = fixture_lease(1);
    char sql[400];
    snprintf(sql, sizeof sql,
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO"
             " idempotency_keys SELECT NULL, i, zeroblob(32), printf('%%036d', i), '{}', %llu FROM n",
             STORE_KEYS_MAX, (unsigned long long)lease.created_ms);
    assert_int_equal(fixture_sql(fixture, sql), 0);
    assert_int_equal(store_lease_reserve_once(fixture->store, &lease, &capacity, &once, &err), -EDQUOT);
    assert_string_equal(err.slug, "too-many-keys");
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM leases"), 0);
    assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err); /* without one it goes */
    lease = fixture_lease(2);
    lease.created_ms += UINT64_C(25) * HOUR_MS;
    assert_works(store_lease_reserve_once(fixture->store, &lease, &capacity, &once, &err), err);
}

static void a_trial_says_what_a_reservation_would_and_changes_nothing(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    const struct store_resources capacity = fixture_capacity(1);
    const struct store_lease lease = fixture_lease(1);
    struct store_lease rival = fixture_lease(2);
    assert_works(store_lease_try(fixture->store, &lease, &capacity, &err), err);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM leases"), 0);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), 0);
    assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err);
    assert_int_equal(store_lease_try(fixture->store, &rival, &capacity, &err), -ENOSPC);
    assert_string_equal(err.slug, "insufficient-capacity");
    set_text(rival.consumer_public_key, lease.consumer_public_key);
    assert_int_equal(store_lease_try(fixture->store, &rival, &capacity, &err), -EEXIST);
    assert_string_equal(err.slug, "peer-in-use");
}

int main(void)
{
#define STORED(test) cmocka_unit_test_setup_teardown(test, store_fixture_setup, store_fixture_teardown)
    const struct CMUnitTest tests[] = {
        STORED(a_key_is_kept_with_its_lease_and_recalled_for_a_day),
        STORED(neither_key_nor_lease_is_kept_without_the_other),
        STORED(old_keys_go_with_the_next_one),
        STORED(a_day_has_a_bounded_number_of_keys),
        STORED(a_trial_says_what_a_reservation_would_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

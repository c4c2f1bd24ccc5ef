#include <string.h>

#include "tests/store/store_fixture.h"

/* What one census told, as lines. */
struct lines {
    size_t count;
    char text[64][160];
};

static int take(void *context, const struct store_number *number)
{
    struct lines *lines = context;
    assert_true(lines->count < 64);
    snprintf(lines->text[lines->count++], sizeof lines->text[0], "%s %s %s %llu", number->subject, number->label,
             number->mode, (unsigned long long)number->value);
    return 0;
}

static struct lines census(const struct store_fixture *fixture)
{
    struct lines lines = {0};
    struct error err = {0};
    assert_works(store_census(fixture->store, take, &lines, &err), err);
    return lines;
}

static void assert_told(const struct lines *lines, const char *wanted)
{
    for (size_t i = 0; i < lines->count; i++) {
        if (strcmp(lines->text[i], wanted) == 0)
            return;
    }
    for (size_t i = 0; i < lines->count; i++)
        print_message("told: %s\n", lines->text[i]);
    fail_msg("not told: %s", wanted);
}

static void an_empty_store_has_no_numbers(void **state)
{
    struct lines lines = census(*state);
    assert_int_equal(lines.count, 0);
}

static void leases_and_tunnels_are_counted_by_state(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id first = fixture_reserve(fixture, 1);
    fixture_reserve(fixture, 2);
    struct id ended = fixture_reserve(fixture, 3);
    const struct store_change change = {.to = LEASE_PREPARING, .at_ms = 1700000002000};
    assert_works(store_lease_transition(fixture->store, first.text, &change, &err), err);
    assert_works(
        store_lease_tunnel(fixture->store, first.text, "established", (struct store_ports){0}, 1700000002500, &err),
        err);
    struct store_end end = fixture_end();
    assert_works(store_lease_terminate(fixture->store, ended.text, &end, &err), err);

    struct lines lines = census(fixture);
    assert_told(&lines, "leases pending filtered 1");
    assert_told(&lines, "leases preparing filtered 1");
    assert_told(&lines, "leases terminated filtered 1");
    assert_told(&lines, "tunnels established  1");
    assert_told(&lines, "tunnels waiting  1"); /* not the one of the lease that has ended */
    assert_told(&lines, "terminations released  1");
    assert_told(&lines, "events   6");
}

static void violations_are_counted_by_frames_and_survive_their_lease(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id lease = fixture_reserve(fixture, 1);
    struct store_violation violation = fixture_violation(1, lease);
    assert_works(store_violation_record(fixture->store, &violation, NULL, &err), err);
    violation.count = 5;
    assert_works(store_violation_record(fixture->store, &violation, NULL, &err), err);
    violation = fixture_violation(2, lease);
    set_text(violation.code, "ipv6");
    violation.count = 7;
    assert_works(store_violation_record(fixture->store, &violation, NULL, &err), err);
    struct lines lines = census(fixture);
    assert_told(&lines, "violations destination_not_allowed  5");
    assert_told(&lines, "violations ipv6  7");

    struct store_end end = fixture_end();
    assert_works(store_lease_terminate(fixture->store, lease.text, &end, &err), err);
    store_fixture_close(fixture);
    assert_int_equal(fixture_sql(fixture, "DELETE FROM violations; DELETE FROM leases; DELETE FROM terminations"), 0);
    store_fixture_open(fixture);
    lines = census(fixture);
    assert_told(&lines, "violations destination_not_allowed  5");
    assert_told(&lines, "terminations released  1");
    assert_told(&lines, "events   4");
}

static void a_total_never_falls(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id lease = fixture_reserve(fixture, 1);
    struct store_violation violation = fixture_violation(1, lease);
    assert_works(store_violation_record(fixture->store, &violation, NULL, &err), err);
    assert_int_not_equal(fixture_sql(fixture, "UPDATE totals SET value = 0"), 0);
}

static int refuse(void *context, const struct store_number *number)
{
    (void)context;
    (void)number;
    return -7;
}

static void what_stops_a_census_comes_back(void **state)
{
    struct store_fixture *fixture = *state;
    fixture_reserve(fixture, 1);
    assert_int_equal(store_census(fixture->store, refuse, NULL, NULL), -7);
    struct lines lines = census(fixture); /* and the reader is free again */
    assert_true(lines.count > 0);
}

static void commits_are_timed(void **state)
{
    struct store_fixture *fixture = *state;
    struct histogram_view before;
    struct histogram_view after;
    store_commit_times(fixture->store, &before);
    fixture_reserve(fixture, 1);
    store_commit_times(fixture->store, &after);
    assert_int_equal(after.total, before.total + 1);
    assert_true(after.sum_us > before.sum_us);
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, store_fixture_setup, store_fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_STORE(an_empty_store_has_no_numbers),
        WITH_STORE(leases_and_tunnels_are_counted_by_state),
        WITH_STORE(violations_are_counted_by_frames_and_survive_their_lease),
        WITH_STORE(a_total_never_falls),
        WITH_STORE(what_stops_a_census_comes_back),
        WITH_STORE(commits_are_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

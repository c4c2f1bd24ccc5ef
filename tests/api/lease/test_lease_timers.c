#include "api/lease/lease_timers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/cmocka.h"
#include "tests/store/store_fixture.h"

static const char boot[] = "11111111-1111-4111-8111-111111111111";
static const char other_boot[] = "22222222-2222-4222-8222-222222222222";

static struct lease_now at(uint64_t ms)
{
    return (struct lease_now){.boot_ms = ms, .mono_ms = ms};
}

static struct id id_of(unsigned n)
{
    return fixture_lease(n).id;
}

/* What is due, as a letter: w(arning), d(eadline), s(ilence), - nothing. */
static char take(struct lease_timers *timers, struct lease_now now)
{
    struct id id;
    enum lease_due due;
    if (!lease_timers_take(timers, now, &id, &due))
        return '-';
    switch (due) {
    case LEASE_DUE_WARNING:
        return 'w';
    case LEASE_DUE_DEADLINE:
        return 'd';
    case LEASE_DUE_SILENCE:
        return 's';
    }
    return '?';
}

static struct store_lease lease_of(uint64_t ttl_s)
{
    struct store_lease lease = fixture_lease(1);
    lease.ttl_s = ttl_s;
    lease.heartbeat_timeout_s = 7;
    lease.expires_ms = UINT64_C(1700000000000) + ttl_s * 1000;
    lease.deadline_ms = 5000000 + ttl_s * 1000;
    set_text(lease.deadline_boot_id, boot);
    return lease;
}

static void a_deadline_stays_whatever_the_wall_clock_says(void **state)
{
    (void)state;
    const struct store_lease lease = lease_of(600);
    const uint64_t walls[] = {0, UINT64_C(1700000000000), UINT64_C(4000000000000)};
    for (size_t i = 0; i < sizeof walls / sizeof walls[0]; i++) {
        struct lease_span span = lease_span_of(&lease, 60, boot, 5300000, walls[i]);
        assert_int_equal(span.deadline_ms, 5600000);
        assert_int_equal(span.warn_ms, 5540000);
        assert_int_equal(span.silence_ms, 7000);
    }
}

static void after_a_boot_the_wall_clock_is_all_there_is_but_gives_no_more_than_the_ttl(void **state)
{
    (void)state;
    const struct store_lease lease = lease_of(600);
    const struct {
        uint64_t wall_ms;
        uint64_t deadline_ms;
    } rows[] = {
        {UINT64_C(1700000000000), 1000 + 600000}, {UINT64_C(1700000500000), 1000 + 100000},
        {UINT64_C(1700000600000), 1000},          {UINT64_C(1800000000000), 1000},
        {UINT64_C(1600000000000), 1000 + 600000},
    };
    const char *boots[] = {other_boot, ""};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t b = 0; b < 2; b++)
            assert_int_equal(lease_span_of(&lease, 60, boots[b], 1000, rows[i].wall_ms).deadline_ms,
                             rows[i].deadline_ms);
    }
}

static void a_warning_comes_a_tenth_of_the_time_before_or_the_lead_before(void **state)
{
    (void)state;
    const struct {
        uint64_t ttl_s;
        uint32_t lead_s;
        uint64_t before_ms;
    } rows[] = {{600, 60, 60000}, {601, 60, 60000}, {100, 60, 10000}, {1, 60, 100}, {86400, 60, 60000}, {600, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct store_lease lease = lease_of(rows[i].ttl_s);
        struct lease_span span = lease_span_of(&lease, rows[i].lead_s, boot, 0, 0);
        assert_int_equal(span.deadline_ms - span.warn_ms, rows[i].before_ms);
    }
    const struct store_lease endless = lease_of(0);
    struct lease_span span = lease_span_of(&endless, 60, boot, 0, 0);
    assert_int_equal(span.deadline_ms, 0);
    assert_int_equal(span.warn_ms, 0);
}

static void a_lease_is_warned_once_and_then_ended_until_it_is_gone(void **state)
{
    (void)state;
    struct lease_timers timers = {0};
    struct id id = id_of(1);
    const struct lease_span span = {.deadline_ms = 1000, .warn_ms = 900};
    assert_int_equal(lease_timers_add(&timers, &id, &span, at(0)), 0);
    assert_int_equal(lease_timers_add(&timers, &id, &span, at(0)), -EEXIST);
    assert_int_equal(lease_timers_wait_ms(&timers, at(0)), 900);
    assert_int_equal(take(&timers, at(899)), '-');
    assert_int_equal(take(&timers, at(900)), 'w');
    assert_int_equal(take(&timers, at(900)), '-');
    assert_int_equal(lease_timers_wait_ms(&timers, at(900)), 100);
    assert_int_equal(take(&timers, at(1000)), 'd');
    assert_int_equal(take(&timers, at(1000)), '-');
    assert_int_equal(lease_timers_hold(&timers, &id), -EALREADY);
    assert_int_equal(lease_timers_beat(&timers, &id, at(1000)), -EALREADY);
    assert_int_equal(lease_timers_wait_ms(&timers, at(1000)), LEASE_TIMERS_AGAIN_MS);
    assert_int_equal(take(&timers, at(1000 + LEASE_TIMERS_AGAIN_MS)), 'd');
    assert_true(lease_timers_remove(&timers, &id));
    assert_false(lease_timers_remove(&timers, &id));
    assert_true(lease_timers_wait_ms(&timers, at(5000)) == UINT64_MAX);
    assert_int_equal(lease_timers_hold(&timers, &id), -ENOENT);
    lease_timers_done(&timers);
}

static void sleep_counts_for_the_deadline_and_not_for_silence(void **state)
{
    (void)state;
    struct lease_timers timers = {0};
    struct id limited = id_of(1);
    struct id watched = id_of(2);
    const struct lease_span deadline = {.deadline_ms = 1000, .warn_ms = 900};
    const struct lease_span silence = {.silence_ms = 500};
    lease_timers_add(&timers, &limited, &deadline, at(0));
    lease_timers_add(&timers, &watched, &silence, at(0));
    /* Awake for 100 ms, asleep for an hour: no warning of what is over, and nobody was too silent. */
    const struct lease_now morning = {.boot_ms = 3600100, .mono_ms = 100};
    assert_int_equal(take(&timers, morning), 'd');
    assert_int_equal(take(&timers, morning), '-');
    const struct lease_now later = {.boot_ms = 3600500, .mono_ms = 500};
    assert_int_equal(take(&timers, later), 's');
    lease_timers_done(&timers);
}

static void a_heartbeat_puts_the_silence_off(void **state)
{
    (void)state;
    struct lease_timers timers = {0};
    struct id id = id_of(1);
    struct id calm = id_of(2);
    struct id unknown = id_of(3);
    const struct lease_span span = {.silence_ms = 500};
    const struct lease_span none = {0};
    lease_timers_add(&timers, &id, &span, at(100));
    lease_timers_add(&timers, &calm, &none, at(100));
    assert_int_equal(lease_timers_beat(&timers, &id, at(550)), 0);
    assert_int_equal(lease_timers_beat(&timers, &calm, at(550)), -ENODATA);
    assert_int_equal(lease_timers_beat(&timers, &unknown, at(550)), -ENOENT);
    assert_int_equal(lease_timers_wait_ms(&timers, at(600)), 450);
    assert_int_equal(take(&timers, at(1049)), '-');
    assert_int_equal(take(&timers, at(1050)), 's');
    assert_int_equal(lease_timers_beat(&timers, &id, at(1051)), -EALREADY);
    lease_timers_done(&timers);
}

static void a_renewal_moves_the_end_and_warns_again(void **state)
{
    (void)state;
    struct lease_timers timers = {0};
    struct id id = id_of(1);
    const struct lease_span first = {.deadline_ms = 1000, .warn_ms = 900, .silence_ms = 60000};
    const struct lease_span second = {.deadline_ms = 2000, .warn_ms = 1900};
    lease_timers_add(&timers, &id, &first, at(0));
    assert_int_equal(take(&timers, at(950)), 'w');
    assert_int_equal(lease_timers_hold(&timers, &id), 0);
    assert_int_equal(lease_timers_hold(&timers, &id), -EBUSY);
    assert_int_equal(take(&timers, at(1500)), '-'); /* while it is being renewed it does not end */
    lease_timers_release(&timers, &id, &second);
    assert_int_equal(take(&timers, at(1500)), '-');
    assert_int_equal(take(&timers, at(1900)), 'w');
    /* One that fails changes nothing. */
    assert_int_equal(lease_timers_hold(&timers, &id), 0);
    lease_timers_release(&timers, &id, NULL);
    assert_int_equal(take(&timers, at(2000)), 'd');
    lease_timers_remove(&timers, &id);
    lease_timers_release(&timers, &id, &second); /* it ended meanwhile */
    lease_timers_done(&timers);
}

static void many_leases_each_have_their_own_time(void **state)
{
    (void)state;
    enum { LEASES = 300 };
    struct lease_timers timers = {0};
    for (unsigned n = 0; n < LEASES; n++) {
        struct id id = id_of(n);
        const struct lease_span span = {.deadline_ms = 1000 + n};
        assert_int_equal(lease_timers_add(&timers, &id, &span, at(0)), 0);
    }
    for (unsigned n = 0; n < LEASES; n += 2) {
        struct id id = id_of(n);
        assert_true(lease_timers_remove(&timers, &id));
    }
    for (unsigned n = 1; n < LEASES; n += 2) {
        struct id id;
        enum lease_due due;
        assert_int_equal(lease_timers_wait_ms(&timers, at(1000)), n);
        assert_true(lease_timers_take(&timers, at(1000 + n), &id, &due));
        assert_string_equal(id.text, id_of(n).text);
        assert_true(lease_timers_remove(&timers, &id));
    }
    assert_int_equal(timers.count, 0);
    lease_timers_done(&timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_deadline_stays_whatever_the_wall_clock_says),
        cmocka_unit_test(after_a_boot_the_wall_clock_is_all_there_is_but_gives_no_more_than_the_ttl),
        cmocka_unit_test(a_warning_comes_a_tenth_of_the_time_before_or_the_lead_before),
        cmocka_unit_test(a_lease_is_warned_once_and_then_ended_until_it_is_gone),
        cmocka_unit_test(sleep_counts_for_the_deadline_and_not_for_silence),
        cmocka_unit_test(a_heartbeat_puts_the_silence_off),
        cmocka_unit_test(a_renewal_moves_the_end_and_warns_again),
        cmocka_unit_test(many_leases_each_have_their_own_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

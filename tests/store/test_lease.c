#include "store/lease.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The rules in words, as the API document has them, not as a table. */
static bool expected(enum lease_state from, enum lease_state to)
{
    static const char line[] = "PpsrS"; /* the straight line of a life: each letter leads to the next */
    static const char letters[LEASE_STATE_COUNT] = {
        [LEASE_PENDING] = 'P',  [LEASE_PREPARING] = 'p',  [LEASE_STARTING] = 's',  [LEASE_RUNNING] = 'r',
        [LEASE_STOPPING] = 'S', [LEASE_TERMINATED] = 'T', [LEASE_RECOVERING] = 'R'};
    char a = letters[from];
    char b = letters[to];
    if (a == 'T' || a == b)
        return false;
    if (b == 'T' || b == 'R')
        return true;
    if (a == 'R')
        return b == 'r' || b == 'S';
    if (b == 'S')
        return true;
    return strchr(line, a)[1] == b;
}

static void every_pair_of_states_follows_the_rules(void **state)
{
    (void)state;
    unsigned allowed = 0;
    for (unsigned from = 0; from < LEASE_STATE_COUNT; from++) {
        for (unsigned to = 0; to < LEASE_STATE_COUNT; to++) {
            bool may = lease_may_follow((enum lease_state)from, (enum lease_state)to);
            if (may != expected((enum lease_state)from, (enum lease_state)to))
                fail_msg("%s -> %s is %d", lease_state_name((enum lease_state)from),
                         lease_state_name((enum lease_state)to), may);
            allowed += may;
        }
    }
    assert_int_equal(allowed, 20);
}

static void nothing_follows_a_final_state(void **state)
{
    (void)state;
    unsigned final = 0;
    for (unsigned from = 0; from < LEASE_STATE_COUNT; from++) {
        if (!lease_is_final((enum lease_state)from))
            continue;
        final++;
        for (unsigned to = 0; to < LEASE_STATE_COUNT; to++)
            assert_false(lease_may_follow((enum lease_state)from, (enum lease_state)to));
    }
    assert_int_equal(final, 1);
    assert_true(lease_is_final(LEASE_TERMINATED));
}

static void every_living_state_may_end_at_once(void **state)
{
    (void)state;
    for (unsigned from = 0; from < LEASE_STATE_COUNT; from++)
        assert_int_equal(lease_may_follow((enum lease_state)from, LEASE_TERMINATED),
                         !lease_is_final((enum lease_state)from));
}

static void a_number_that_is_no_state_has_no_place_in_the_table(void **state)
{
    (void)state;
    assert_false(lease_may_follow(LEASE_STATE_COUNT, LEASE_TERMINATED));
    assert_false(lease_may_follow(LEASE_PENDING, LEASE_STATE_COUNT));
    assert_false(lease_may_follow((enum lease_state)1000, (enum lease_state)1000));
    assert_string_equal(lease_state_name(LEASE_STATE_COUNT), "");
    assert_string_equal(lease_reason_name(LEASE_REASON_COUNT), "");
}

static void state_names_are_the_words_of_the_api(void **state)
{
    (void)state;
    static const char *const words[] = {"pending",  "preparing",  "starting",  "running",
                                        "stopping", "terminated", "recovering"};
    assert_int_equal(sizeof words / sizeof words[0], LEASE_STATE_COUNT);
    for (unsigned i = 0; i < LEASE_STATE_COUNT; i++) {
        enum lease_state parsed = LEASE_STATE_COUNT;
        assert_string_equal(lease_state_name((enum lease_state)i), words[i]);
        assert_true(lease_state_parse(words[i], &parsed));
        assert_int_equal(parsed, i);
    }
}

static void reason_names_are_the_words_of_the_api(void **state)
{
    (void)state;
    static const char *const words[] = {"released",       "lease_expired",     "heartbeat_lost", "policy_violation",
                                        "tunnel_timeout", "tunnel_lost",       "guest_shutdown", "guest_crash",
                                        "vmm_crash",      "filter_failure",    "start_failed",   "start_timeout",
                                        "image_rejected", "provider_shutdown", "recovery_failed"};
    assert_int_equal(sizeof words / sizeof words[0], LEASE_REASON_COUNT - 1);
    for (unsigned i = 1; i < LEASE_REASON_COUNT; i++) {
        enum lease_reason parsed = LEASE_REASON_NONE;
        assert_string_equal(lease_reason_name((enum lease_reason)i), words[i - 1]);
        assert_true(lease_reason_parse(words[i - 1], &parsed));
        assert_int_equal(parsed, i);
    }
    assert_string_equal(lease_reason_name(LEASE_REASON_NONE), "");
}

static void unknown_words_are_refused_and_change_nothing(void **state)
{
    (void)state;
    static const char *const words[] = {"", "Pending", "pending ", "pendin", "ended"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        enum lease_state parsed = LEASE_STARTING;
        enum lease_reason reason = LEASE_GUEST_CRASH;
        assert_false(lease_state_parse(words[i], &parsed));
        assert_false(lease_reason_parse(words[i], &reason));
        assert_int_equal(parsed, LEASE_STARTING);
        assert_int_equal(reason, LEASE_GUEST_CRASH);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_of_states_follows_the_rules),
        cmocka_unit_test(nothing_follows_a_final_state),
        cmocka_unit_test(every_living_state_may_end_at_once),
        cmocka_unit_test(a_number_that_is_no_state_has_no_place_in_the_table),
        cmocka_unit_test(state_names_are_the_words_of_the_api),
        cmocka_unit_test(reason_names_are_the_words_of_the_api),
        cmocka_unit_test(unknown_words_are_refused_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

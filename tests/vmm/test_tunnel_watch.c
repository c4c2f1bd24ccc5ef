#include "vmm/tunnel_watch.h"

#include <stddef.h>

#include "tests/cmocka.h"

static void a_watch_without_limits_never_has_anything_to_say(void **state)
{
    (void)state;
    struct tunnel_watch watch;
    tunnel_watch_init(&watch, 0, 0);
    tunnel_watch_running(&watch, 1000);
    assert_int_equal(watch.due_ms, 0);
    tunnel_watch_established(&watch, 2000);
    assert_int_equal(watch.due_ms, 0);
    assert_int_equal(tunnel_watch_look(&watch, 0, UINT64_MAX), TUNNEL_WATCH_WELL);
}

static void a_tunnel_has_until_its_timeout_and_not_a_moment_more(void **state)
{
    (void)state;
    struct tunnel_watch watch;
    tunnel_watch_init(&watch, 120000, 0);
    assert_int_equal(tunnel_watch_look(&watch, 0, UINT64_MAX), TUNNEL_WATCH_WELL); /* it does not run yet */
    tunnel_watch_running(&watch, 1000);
    assert_int_equal(tunnel_watch_look(&watch, 0, 120999), TUNNEL_WATCH_WELL);
    assert_int_equal(tunnel_watch_look(&watch, 0, 121000), TUNNEL_WATCH_NEVER_UP);
    assert_int_equal(watch.due_ms, 0);
}

static void a_tunnel_that_came_up_in_time_stops_the_timeout(void **state)
{
    (void)state;
    struct tunnel_watch watch;
    tunnel_watch_init(&watch, 120000, 0);
    tunnel_watch_running(&watch, 1000);
    tunnel_watch_established(&watch, 120999);
    assert_int_equal(tunnel_watch_look(&watch, 0, 500000), TUNNEL_WATCH_WELL);
    tunnel_watch_init(&watch, 120000, 0);
    tunnel_watch_established(&watch, 500);
    tunnel_watch_running(&watch, 1000); /* it was faster than QMP */
    assert_int_equal(watch.due_ms, 0);
}

static void silence_counts_from_what_was_heard_last(void **state)
{
    (void)state;
    static const struct {
        uint64_t heard_ms;
        uint64_t now_ms;
        enum tunnel_watch_verdict verdict;
        uint64_t due_ms;
    } steps[] = {
        {0, 10999, TUNNEL_WATCH_WELL, 11000},     {9000, 11000, TUNNEL_WATCH_WELL, 19000},
        {9000, 11001, TUNNEL_WATCH_WELL, 19000},  {18999, 19000, TUNNEL_WATCH_WELL, 28999},
        {18999, 28998, TUNNEL_WATCH_WELL, 28999}, {18999, 28999, TUNNEL_WATCH_SILENT, 0},
    };
    struct tunnel_watch watch;
    tunnel_watch_init(&watch, 0, 10000);
    tunnel_watch_running(&watch, 500);
    assert_int_equal(watch.due_ms, 0); /* silence before the tunnel is up does not count */
    tunnel_watch_established(&watch, 1000);
    for (size_t at = 0; at < sizeof steps / sizeof *steps; at++) {
        assert_int_equal(tunnel_watch_look(&watch, steps[at].heard_ms, steps[at].now_ms), steps[at].verdict);
        assert_int_equal(watch.due_ms, steps[at].due_ms);
    }
}

static void a_tunnel_that_comes_up_again_gets_no_new_time(void **state)
{
    (void)state;
    struct tunnel_watch watch;
    tunnel_watch_init(&watch, 0, 10000);
    tunnel_watch_established(&watch, 1000);
    tunnel_watch_established(&watch, 9000);
    assert_int_equal(watch.due_ms, 11000);
    assert_int_equal(tunnel_watch_look(&watch, 400, 11000), TUNNEL_WATCH_SILENT); /* heard before it was up */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_watch_without_limits_never_has_anything_to_say),
        cmocka_unit_test(a_tunnel_has_until_its_timeout_and_not_a_moment_more),
        cmocka_unit_test(a_tunnel_that_came_up_in_time_stops_the_timeout),
        cmocka_unit_test(silence_counts_from_what_was_heard_last),
        cmocka_unit_test(a_tunnel_that_comes_up_again_gets_no_new_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

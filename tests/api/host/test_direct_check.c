#include "api/host/direct_check.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/cmocka.h"

enum { PATIENCE_MS = 20000, AGAIN_MS = 30 };

/* What the probe answers, how often it was asked and whether it may answer; set by each test. */
static atomic_int answer;
static atomic_int asked;
static atomic_bool held;

static int probe(struct error *err)
{
    atomic_fetch_add(&asked, 1);
    for (int waited = 0; atomic_load(&held) && waited < PATIENCE_MS; waited++)
        usleep(1000);
    int result = atomic_load(&answer);
    return result < 0 ? error_set(err, result, "pasta is missing; apt install passt") : 0;
}

static void begin(struct direct_check *check, int will_answer)
{
    struct error err = {0};
    atomic_store(&answer, will_answer);
    atomic_store(&asked, 0);
    direct_check_init(check, probe, AGAIN_MS);
    assert_int_equal(atomic_load(&asked), 0);
    if (direct_check_begin(check, &err) != 0)
        fail_msg("%s", err.message);
}

static void what_works_is_probed_once(void **state)
{
    (void)state;
    struct direct_check check;
    begin(&check, 0);
    assert_int_equal(direct_check_result(&check, PATIENCE_MS, NULL), 0);
    usleep(3 * AGAIN_MS * 1000);
    assert_int_equal(direct_check_result(&check, 0, NULL), 0);
    assert_int_equal(atomic_load(&asked), 1);
    direct_check_done(&check);
}

static void a_refusal_says_why_and_is_looked_at_again_later(void **state)
{
    (void)state;
    struct direct_check check;
    struct error err = {0};
    begin(&check, -ENOENT);
    assert_int_equal(direct_check_result(&check, PATIENCE_MS, &err), -ENOENT);
    assert_string_equal(err.slug, "direct-unavailable");
    assert_string_equal(err.field, "/network/mode");
    assert_string_equal(err.message, "pasta is missing; apt install passt");
    atomic_store(&answer, 0); /* mended */
    for (int waited = 0; direct_check_result(&check, 0, NULL) != 0; waited++) {
        assert_true(waited < PATIENCE_MS);
        usleep(1000);
    }
    assert_true(atomic_load(&asked) >= 2);
    direct_check_done(&check);
}

static void who_asks_before_it_is_known_waits_no_longer_than_said(void **state)
{
    (void)state;
    struct direct_check check;
    struct error err = {0};
    atomic_store(&held, true);
    begin(&check, 0);
    assert_int_equal(direct_check_result(&check, 0, &err), -EAGAIN);
    assert_int_equal(direct_check_result(&check, 10, &err), -EAGAIN);
    assert_string_equal(err.slug, "direct-unavailable");
    atomic_store(&held, false);
    assert_int_equal(direct_check_result(&check, PATIENCE_MS, &err), 0);
    direct_check_done(&check);
}

static void one_that_was_never_begun_ends_as_well(void **state)
{
    (void)state;
    struct direct_check check;
    direct_check_init(&check, probe, AGAIN_MS);
    assert_int_equal(direct_check_result(&check, 0, NULL), -EAGAIN);
    direct_check_done(&check);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_works_is_probed_once),
        cmocka_unit_test(a_refusal_says_why_and_is_looked_at_again_later),
        cmocka_unit_test(who_asks_before_it_is_known_waits_no_longer_than_said),
        cmocka_unit_test(one_that_was_never_begun_ends_as_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

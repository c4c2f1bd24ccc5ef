#include "api/direct_check.h"

#include <errno.h>

#include "tests/cmocka.h"

/* What the probe answers, and how often it was asked; set by each test. */
static int answer;
static int asked;

static int probe(struct error *err)
{
    asked++;
    return answer < 0 ? error_set(err, answer, "pasta is missing; apt install passt") : 0;
}

static void what_works_is_asked_once(void **state)
{
    (void)state;
    struct direct_check check;
    answer = 0;
    asked = 0;
    direct_check_init(&check, probe);
    assert_int_equal(asked, 0); /* not before somebody wants it */
    for (uint64_t now_ms = 0; now_ms < 100000; now_ms += 5000)
        assert_int_equal(direct_check_result(&check, now_ms, NULL), 0);
    assert_int_equal(asked, 1);
    direct_check_done(&check);
}

static void a_refusal_says_why_and_is_looked_at_again_later(void **state)
{
    (void)state;
    struct direct_check check;
    answer = -ENOENT;
    asked = 0;
    direct_check_init(&check, probe);
    for (uint64_t now_ms = 50; now_ms < 50 + DIRECT_CHECK_AGAIN_MS; now_ms += 1000) {
        struct error err = {0};
        assert_int_equal(direct_check_result(&check, now_ms, &err), -ENOENT);
        assert_string_equal(err.slug, "direct-unavailable");
        assert_string_equal(err.field, "/network/mode");
        assert_string_equal(err.message, "pasta is missing; apt install passt");
    }
    assert_int_equal(asked, 1);
    answer = 0; /* mended */
    assert_int_equal(direct_check_result(&check, 49 + DIRECT_CHECK_AGAIN_MS, NULL), -ENOENT);
    assert_int_equal(direct_check_result(&check, 50 + DIRECT_CHECK_AGAIN_MS, NULL), 0);
    assert_int_equal(asked, 2);
    direct_check_done(&check);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_works_is_asked_once),
        cmocka_unit_test(a_refusal_says_why_and_is_looked_at_again_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/cmocka.h"

#include "nat/sampler.h"

static void a_dry_sampler_has_every_frame_judged(void **state)
{
    (void)state;
    struct sampler sampler = {0};
    for (int i = 0; i < 10; i++)
        assert_true(sampler_draw(&sampler, 1000));
}

static void each_word_is_used_once(void **state)
{
    (void)state;
    struct sampler sampler = {.left = 2, .words = {0, UINT32_MAX}};
    assert_false(sampler_draw(&sampler, 999999)); /* the largest word */
    assert_true(sampler_draw(&sampler, 1000));    /* the smallest */
    assert_int_equal(sampler.left, 0);
}

static void the_share_is_exact_over_all_words(void **state)
{
    (void)state;
    static const uint32_t shares[] = {1000, 10000, 500000, 999999, 1000000};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        uint64_t drawn = 0;
        const uint64_t steps = 1000000;
        for (uint64_t step = 0; step < steps; step++) {
            struct sampler sampler = {.left = 1, .words = {(uint32_t)(step * 4294967296 / steps + 1)}};
            drawn += sampler_draw(&sampler, shares[i]);
        }
        assert_in_range(drawn, shares[i] - 1, shares[i] + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dry_sampler_has_every_frame_judged),
        cmocka_unit_test(each_word_is_used_once),
        cmocka_unit_test(the_share_is_exact_over_all_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

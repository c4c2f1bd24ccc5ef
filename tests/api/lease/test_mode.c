#include "api/lease/mode.h"

#include <string.h>

#include "tests/cmocka.h"

static void a_name_stands_for_one_mode_and_no_other_text_does(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "Filtered", "filtered ", "filter", "none", "directly"};
    enum mode mode;
    for (int i = 0; i < MODE_COUNT; i++) {
        assert_true(mode_parse(mode_name((enum mode)i), &mode));
        assert_int_equal(mode, i);
    }
    mode = MODE_SAMPLED;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(mode_parse(wrong[i], &mode));
    assert_int_equal(mode, MODE_SAMPLED);
}

static void a_mode_of_the_nat_has_the_nat_s_name(void **state)
{
    (void)state;
    for (int i = 0; i < NAT_MODE_COUNT; i++)
        assert_string_equal(mode_name((enum mode)i), nat_mode_name(mode_to_nat((enum mode)i)));
}

static void conntrack_and_sampled_end_the_machine_by_default(void **state)
{
    (void)state;
    assert_false(mode_terminates(MODE_FILTERED));
    assert_true(mode_terminates(MODE_CONNTRACK));
    assert_true(mode_terminates(MODE_SAMPLED));
    assert_false(mode_terminates(MODE_DIRECT));
}

static void rates_are_kept_to_the_millionth(void **state)
{
    (void)state;
    static const struct {
        double rate;
        uint32_t ppm;
    } table[] = {{0.001, 1000}, {0.01, 10000}, {0.0123456, 12346}, {0.29, 290000}, {0.999999, 999999}, {1, 1000000}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        assert_int_equal(sampling_ppm(table[i].rate), table[i].ppm);
}

/* ceil(log(1-p) / log(1-rate)), worked out with 50 digits. */
static void miss_bounds_are_those_of_the_formula(void **state)
{
    (void)state;
    static const struct {
        uint32_t ppm;
        uint64_t half;
        uint64_t nearly_all;
    } table[] = {
        {1000, 693, 4603}, {10000, 69, 459}, {100000, 7, 44}, {500000, 1, 7},
        {900000, 1, 2},    {990000, 1, 1},   {1000000, 1, 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_int_equal(sampling_packets(table[i].ppm, 50), table[i].half);
        assert_int_equal(sampling_packets(table[i].ppm, 99), table[i].nearly_all);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_stands_for_one_mode_and_no_other_text_does),
        cmocka_unit_test(a_mode_of_the_nat_has_the_nat_s_name),
        cmocka_unit_test(conntrack_and_sampled_end_the_machine_by_default),
        cmocka_unit_test(rates_are_kept_to_the_millionth),
        cmocka_unit_test(miss_bounds_are_those_of_the_formula),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

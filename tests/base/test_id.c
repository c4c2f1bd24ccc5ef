#include "tests/cmocka.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"

static void the_example_of_rfc_9562_comes_out(void **state)
{
    (void)state;
    /* Appendix A.6: unix_ts_ms 0x017F22E279B0, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F */
    static const uint8_t random[ID_RANDOM_BYTES] = {0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f};
    struct id id = id_make(0x017F22E279B0, random);
    assert_string_equal(id.text, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
}

static void later_ids_sort_later_and_differ(void **state)
{
    (void)state;
    struct id before = id_new();
    assert_string_not_equal(before.text, id_new().text);
    static const uint8_t ones[ID_RANDOM_BYTES] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    static const uint8_t zeros[ID_RANDOM_BYTES] = {0};
    assert_true(strcmp(id_make(999, ones).text, id_make(1000, zeros).text) < 0);
}

static void only_the_canonical_text_is_taken(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f0",
        "017F22E2-79b0-7cc3-98c4-dc0c0c07398f",
        "017f22e2079b0-7cc3-98c4-dc0c0c07398f",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
        "../../../../../../../../../etc/passw",
    };
    struct id id;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(id_parse(wrong[i], strlen(wrong[i]), &id));
    struct id made = id_new();
    assert_true(id_parse(made.text, strlen(made.text), &id));
    assert_string_equal(id.text, made.text);
}

static void times_are_printed_in_utc_with_milliseconds(void **state)
{
    (void)state;
    char text[CLOCK_TEXT_BYTES];
    assert_string_equal(clock_format(0, text), "1970-01-01T00:00:00.000Z");
    assert_string_equal(clock_format(1769862896789, text), "2026-01-31T12:34:56.789Z");
    assert_string_equal(clock_format(UINT64_MAX, text), "9999-12-31T23:59:59.615Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_rfc_9562_comes_out),
        cmocka_unit_test(later_ids_sort_later_and_differ),
        cmocka_unit_test(only_the_canonical_text_is_taken),
        cmocka_unit_test(times_are_printed_in_utc_with_milliseconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

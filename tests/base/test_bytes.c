#include "tests/cmocka.h"

#include <stdio.h>

#include "base/bytes.h"

static void big_endian_values_keep_their_order(void **state)
{
    (void)state;
    assert_int_equal(be16_load((be16){{0x12, 0x34}}), 0x1234);
    assert_int_equal(be32_load((be32){{0xff, 0x02, 0x03, 0x04}}), 0xff020304);
    be16 small = be16_make(0xfe01);
    be32 large = be32_make(0x80000001);
    static const uint8_t small_bytes[] = {0xfe, 0x01};
    static const uint8_t large_bytes[] = {0x80, 0, 0, 0x01};
    assert_memory_equal(small.b, small_bytes, 2);
    assert_memory_equal(large.b, large_bytes, 4);
    for (uint32_t value = 0; value <= 0xffff; value++)
        assert_int_equal(be16_load(be16_make((uint16_t)value)), value);
}

static void a_cursor_that_failed_stays_failed_and_yields_zeros(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3};
    struct cursor cursor = cursor_make(bytes, sizeof bytes);
    assert_int_equal(cursor_u8(&cursor), 1);
    uint8_t three[3] = {9, 9, 9};
    assert_false(cursor_take(&cursor, three, 3));
    assert_true(cursor.failed);
    static const uint8_t zeros[3] = {0};
    assert_memory_equal(three, zeros, 3);
    assert_int_equal(cursor_u8(&cursor), 0);
    assert_false(cursor_skip(&cursor, 0));
}

static void a_cursor_reads_to_the_last_byte(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3, 4};
    struct cursor cursor = cursor_make(bytes, sizeof bytes);
    assert_true(cursor_skip(&cursor, 3));
    assert_int_equal(cursor_u8(&cursor), 4);
    assert_false(cursor.failed);
    assert_int_equal(cursor.left, 0);
    assert_int_equal(cursor_u8(&cursor), 0);
    assert_true(cursor.failed);
}

static void checked_arithmetic_refuses_what_does_not_fit(void **state)
{
    (void)state;
    size_t result = 7;
    assert_true(checked_add(SIZE_MAX - 1, 1, &result));
    assert_true(result == SIZE_MAX);
    assert_false(checked_add(SIZE_MAX, 1, &result));
    assert_true(result == SIZE_MAX);
    assert_true(checked_multiply(SIZE_MAX, 1, &result));
    assert_true(checked_multiply(0, SIZE_MAX, &result));
    assert_int_equal(result, 0);
    assert_false(checked_multiply(SIZE_MAX / 2 + 1, 2, &result));
    assert_int_equal(result, 0);
}

static void two_hexadecimal_digits_are_a_byte_and_nothing_else_is(void **state)
{
    (void)state;
    for (int value = 0; value < 256; value++) {
        char text[3];
        snprintf(text, sizeof text, "%02x", (unsigned)value);
        assert_int_equal(hex_byte(text), value);
        snprintf(text, sizeof text, "%02X", (unsigned)value);
        assert_int_equal(hex_byte(text), value);
    }
    static const char *const others[] = {"", "f", "g0", "0g", "/0", "0:", "@0", "0`", " 0", "-1"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(hex_byte(others[i]), -1);
    assert_int_equal(hex_byte("2fx"), 0x2f); /* what follows is not its business */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(big_endian_values_keep_their_order),
        cmocka_unit_test(a_cursor_that_failed_stays_failed_and_yields_zeros),
        cmocka_unit_test(a_cursor_reads_to_the_last_byte),
        cmocka_unit_test(checked_arithmetic_refuses_what_does_not_fit),
        cmocka_unit_test(two_hexadecimal_digits_are_a_byte_and_nothing_else_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

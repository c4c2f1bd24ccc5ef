#include "api/json/json_scan.h"

#include <string.h>

#include "tests/cmocka.h"

static void depth_counts_arrays_and_objects_outside_strings(void **state)
{
    (void)state;
    const struct {
        const char *text;
        size_t depth;
    } table[] = {
        {"", 0},     {"1", 0}, {"{}", 1}, {"[[]]", 2}, {"{\"a\":[{}]}", 3}, {"\"[[[[\"", 0}, {"{\"\\\"[\":1}", 1},
        {"]]]]", 0},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        size_t offset = 99;
        assert_int_equal(json_scan_depth((const uint8_t *)table[i].text, strlen(table[i].text), 16, &offset),
                         table[i].depth);
        assert_int_equal(offset, 99);
    }
}

static void depth_stops_at_the_byte_that_goes_beyond_the_limit(void **state)
{
    (void)state;
    const char *text = "[[ [ [1]]]]";
    size_t offset = 0;
    assert_int_equal(json_scan_depth((const uint8_t *)text, strlen(text), 2, &offset), 3);
    assert_int_equal(offset, 3);
}

static void pointer_names_the_place_of_a_byte(void **state)
{
    (void)state;
    const struct {
        const char *text;
        const char *before; /* the offset is where this stands */
        const char *pointer;
    } table[] = {
        {"{\"a\": 1}", "1", "/a"},
        {"{\"a\": {\"b\": [0, 7]}}", "7", "/a/b/1"},
        {"[10, 20]", "2", "/1"},
        {"{\"a/b\": {\"c~d\": 5}}", "5", "/a~1b/c~0d"},
        {"{\"a\": 1, \"b\": 2}", "2", "/b"},
        {"{\"\\u0001\": 3}", "3", "/\\u0001"},
        {"17", "17", ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char pointer[64];
        size_t offset = (size_t)(strstr(table[i].text, table[i].before) - table[i].text);
        assert_string_equal(
            json_scan_pointer((const uint8_t *)table[i].text, strlen(table[i].text), offset, pointer, sizeof pointer),
            table[i].pointer);
    }
}

static void pointer_is_cut_where_it_does_not_fit(void **state)
{
    (void)state;
    const char *text = "{\"a-rather-long-key\": 1}";
    char pointer[8];
    json_scan_pointer((const uint8_t *)text, strlen(text), strlen(text) - 2, pointer, sizeof pointer);
    assert_true(strlen(pointer) < sizeof pointer);
    assert_memory_equal(pointer, "/a-rat", 6);
}

static void text_cut_at_any_byte_is_never_read_past_its_end(void **state)
{
    (void)state;
    const char *text = "{\"a\\\"b\": [1, {\"c\": \"\\u12\"}], \"d\": \"x\\";
    for (size_t length = 0; length <= strlen(text); length++) {
        char pointer[32];
        size_t offset;
        uint8_t *exact = test_malloc(length + 1); /* the allocator's guards see a read past it */
        memcpy(exact, text, length);
        json_scan_depth(exact, length, 16, &offset);
        json_scan_pointer(exact, length, length + 5, pointer, sizeof pointer);
        test_free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(depth_counts_arrays_and_objects_outside_strings),
        cmocka_unit_test(depth_stops_at_the_byte_that_goes_beyond_the_limit),
        cmocka_unit_test(pointer_names_the_place_of_a_byte),
        cmocka_unit_test(pointer_is_cut_where_it_does_not_fit),
        cmocka_unit_test(text_cut_at_any_byte_is_never_read_past_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

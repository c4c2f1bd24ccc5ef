#include "vmm/console.h"

#include <string.h>

#include "tests/cmocka.h"

static struct console console;
static uint8_t bytes[VMM_CONSOLE_BYTES];

static int set_up(void **state)
{
    (void)state;
    memset(&console, 0, sizeof console);
    console_init(&console);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    console_done(&console);
    return 0;
}

static void an_empty_console_has_nothing(void **state)
{
    (void)state;
    uint64_t offset = 1;
    assert_int_equal(console_read(&console, bytes, sizeof bytes, &offset), 0);
    assert_int_equal(offset, 0);
    console_append(&console, bytes, 0);
    assert_int_equal(console_read(&console, NULL, 0, NULL), 0);
}

static void a_reader_with_little_room_gets_the_newest(void **state)
{
    (void)state;
    uint64_t offset;
    console_append(&console, (const uint8_t *)"abc", 3);
    console_append(&console, (const uint8_t *)"def", 3);
    assert_int_equal(console_read(&console, bytes, 4, &offset), 4);
    assert_memory_equal(bytes, "cdef", 4);
    assert_int_equal(offset, 2);
    assert_int_equal(console_read(&console, bytes, sizeof bytes, &offset), 6);
    assert_memory_equal(bytes, "abcdef", 6);
    assert_int_equal(offset, 0);
}

/* Byte n of all that was printed is n % 251, so that each kept byte shows where it came from. */
static void print(size_t *printed, size_t length)
{
    static uint8_t text[3 * VMM_CONSOLE_BYTES];
    for (size_t at = 0; at < length; at++)
        text[at] = (uint8_t)((*printed + at) % 251);
    console_append(&console, text, length);
    *printed += length;
}

static void the_ring_keeps_the_newest_bytes_at_every_boundary(void **state)
{
    (void)state;
    static const size_t lengths[] = {
        1,    VMM_CONSOLE_BYTES - 2, 1, 1, VMM_CONSOLE_BYTES - 1, VMM_CONSOLE_BYTES, VMM_CONSOLE_BYTES + 1,
        4096, 3 * VMM_CONSOLE_BYTES};
    size_t printed = 0;
    for (size_t at = 0; at < sizeof lengths / sizeof *lengths; at++) {
        print(&printed, lengths[at]);
        uint64_t offset;
        size_t length = console_read(&console, bytes, sizeof bytes, &offset);
        assert_int_equal(length, printed < VMM_CONSOLE_BYTES ? printed : VMM_CONSOLE_BYTES);
        assert_int_equal(offset, printed - length);
        for (size_t byte = 0; byte < length; byte++)
            assert_int_equal(bytes[byte], (offset + byte) % 251);
    }
}

/* All the complete lines of a text that comes in pieces of @piece bytes, joined by '|'. */
static void join_lines(const char *text, size_t length, size_t piece, char *ret_joined)
{
    struct console_line line = {0};
    *ret_joined = '\0';
    for (size_t at = 0; at < length;) {
        size_t left = length - at < piece ? length - at : piece;
        size_t taken = console_line_feed(&line, (const uint8_t *)text + at, left);
        assert_in_range(taken, 1, left);
        at += taken;
        if (line.ended && line.length > 0)
            strcat(strcat(ret_joined, line.text), "|");
    }
}

static void lines_are_the_same_however_they_are_cut(void **state)
{
    (void)state;
    static const char text[] = "one\r\ntwo\n\n\rth\0ree\xff\n\nunfinished";
    for (size_t piece = 1; piece <= sizeof text; piece++) {
        char joined[256];
        join_lines(text, sizeof text - 1, piece, joined);
        assert_string_equal(joined, "one|two|three\xff|");
    }
}

static void a_line_without_end_keeps_its_beginning(void **state)
{
    (void)state;
    struct console_line line = {0};
    memset(bytes, 'a', sizeof bytes);
    for (int round = 0; round < 100; round++)
        assert_int_equal(console_line_feed(&line, bytes, sizeof bytes), sizeof bytes);
    assert_false(line.ended);
    assert_int_equal(line.length, CONSOLE_LINE_BYTES - 1);
    assert_int_equal(strlen(line.text), CONSOLE_LINE_BYTES - 1);
    assert_int_equal(console_line_feed(&line, (const uint8_t *)"\nnext\n", 6), 1);
    assert_true(line.ended);
    assert_int_equal(console_line_feed(&line, (const uint8_t *)"next\n", 5), 5);
    assert_string_equal(line.text, "next");
    assert_int_equal(console_line_feed(&line, NULL, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_console_has_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reader_with_little_room_gets_the_newest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_ring_keeps_the_newest_bytes_at_every_boundary, set_up, tear_down),
        cmocka_unit_test(lines_are_the_same_however_they_are_cut),
        cmocka_unit_test(a_line_without_end_keeps_its_beginning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

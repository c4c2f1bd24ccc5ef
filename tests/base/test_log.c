#include "tests/cmocka.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static void a_line_is_one_event_with_its_pairs(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct log log = {.fd = ends[1], .least = LOG_INFO};
    log_line(&log, LOG_DEBUG, "not.shown", "x=%d", 1);
    log_line(&log, LOG_WARNING, "lease.created", "lease=%s vcpus=%d", "abc", 2);
    char line[LOG_LINE_BYTES] = {0};
    ssize_t length = read(ends[0], line, sizeof line - 1);
    assert_true(length > 0);
    assert_non_null(strstr(line, " level=warning event=lease.created lease=abc vcpus=2\n"));
    assert_null(strstr(line, "not.shown"));
    log_line(NULL, LOG_ERROR, "nobody.listens", "x=%d", 1);
    close(ends[0]);
    close(ends[1]);
}

static void a_long_line_is_cut_and_still_ends(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct log log = {.fd = ends[1], .least = LOG_INFO};
    char big[3000];
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    log_line(&log, LOG_INFO, "long.line", "text=%s", big);
    char line[4096];
    ssize_t length = read(ends[0], line, sizeof line);
    assert_int_equal(length, LOG_LINE_BYTES);
    assert_int_equal(line[length - 1], '\n');
    close(ends[0]);
    close(ends[1]);
}

static void a_full_pipe_drops_lines_and_says_so_later(void **state)
{
    (void)state;
    int ends[2];
    char line[LOG_LINE_BYTES];
    atomic_ulong dropped = 0;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    while (write(ends[1], line, sizeof line) > 0)
        ;
    assert_int_equal(fcntl(ends[1], F_SETFL, 0), 0); /* as a daemon's standard error is */
    struct log log = {.fd = ends[1], .least = LOG_INFO, .dropped = &dropped};
    for (int i = 0; i < 3; i++)
        log_line(&log, LOG_INFO, "not.read", "i=%d", i); /* waits for ever if it blocks */
    assert_int_equal(atomic_load(&dropped), 3);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    while (read(ends[0], line, sizeof line) > 0)
        ;
    log_line(&log, LOG_INFO, "read.again", "i=%d", 4);
    ssize_t length = read(ends[0], line, sizeof line - 1);
    assert_true(length > 0);
    line[length] = '\0';
    assert_non_null(strstr(line, "level=warning event=log.dropped lines=3\n"));
    assert_non_null(strstr(line, "event=read.again i=4\n"));
    close(ends[0]);
    close(ends[1]);
}

static void a_strangers_bytes_cannot_break_a_line(void **state)
{
    (void)state;
    char text[64];
    assert_string_equal(log_escape("a\"b\\c\nd\x1b\xff", 9, text, sizeof text), "a\\x22b\\x5cc\\x0ad\\x1b\\xff");
    assert_string_equal(log_escape("\0x", 2, text, sizeof text), "\\x00x");
    assert_string_equal(log_escape("abcdef", 6, text, 4), "abc");
    assert_string_equal(log_escape("\n\n", 2, text, 5), "\\x0a");
    assert_string_equal(log_escape("\n\n", 2, text, 4), "");
    assert_string_equal(log_escape("a", 1, text, 1), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_one_event_with_its_pairs),
        cmocka_unit_test(a_long_line_is_cut_and_still_ends),
        cmocka_unit_test(a_full_pipe_drops_lines_and_says_so_later),
        cmocka_unit_test(a_strangers_bytes_cannot_break_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

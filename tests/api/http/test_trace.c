#include "api/http/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cmocka.h"

#define ID "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"
#define GOOD "00-" ID "-" PARENT "-01"

static void a_traceparent_is_taken_apart(void **state)
{
    (void)state;
    struct trace trace = {0};
    assert_true(trace_parse(GOOD, &trace));
    assert_string_equal(trace.id, ID);
    assert_string_equal(trace.parent, PARENT);
}

static void a_later_version_may_say_more(void **state)
{
    (void)state;
    struct trace trace = {0};
    assert_true(trace_parse("01-" ID "-" PARENT "-01", &trace));
    assert_true(trace_parse("cc-" ID "-" PARENT "-01-what-comes", &trace));
    assert_string_equal(trace.id, ID);
}

static void what_is_nearly_one_is_none(void **state)
{
    (void)state;
    const char *const wrong[] = {
        NULL,
        "",
        "00",
        "00-",
        "ff-" ID "-" PARENT "-01",
        "FF-" ID "-" PARENT "-01",
        GOOD "-",
        GOOD "-more",
        GOOD " ",
        "cc-" ID "-" PARENT "-01.more",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-" ID "-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-" PARENT "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736a-" PARENT "-01",
        "00-" ID "-00f067aa0ba902bg-01",
        "00-" ID "-" PARENT "-0",
        "00-" ID "-" PARENT "-0x",
        "00_" ID "-" PARENT "-01",
        "00-" ID "_" PARENT "-01",
        " " GOOD,
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct trace trace = {.id = "before"};
        if (trace_parse(wrong[i], &trace))
            fail_msg("\"%s\" was taken", wrong[i]);
        assert_string_equal(trace.id, "before");
    }
}

static void every_beginning_of_one_is_none(void **state)
{
    (void)state;
    for (size_t length = 0; length < strlen(GOOD); length++) {
        char *text = strndup(GOOD, length); /* ends where a sanitizer sees what is read past it */
        struct trace trace = {0};
        assert_false(trace_parse(text, &trace));
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_traceparent_is_taken_apart),
        cmocka_unit_test(a_later_version_may_say_more),
        cmocka_unit_test(what_is_nearly_one_is_none),
        cmocka_unit_test(every_beginning_of_one_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

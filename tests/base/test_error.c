#include "tests/cmocka.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

static void a_failure_carries_its_code_message_slug_and_field(void **state)
{
    (void)state;
    struct error err = {0};
    assert_int_equal(error_set(&err, -ENOENT, "%s: not there", "image"), -ENOENT);
    assert_int_equal(error_tag(&err, "image-not-found", "/image"), -ENOENT);
    assert_string_equal(err.message, "image: not there");
    assert_string_equal(err.slug, "image-not-found");
    assert_string_equal(err.field, "/image");
    error_set(&err, -EIO, "again");
    assert_null(err.slug);
    assert_string_equal(err.field, "");
}

static void nobody_needs_to_listen(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, -EIO, "lost"), -EIO);
    assert_true(error_tag(NULL, "x", "y") < 0);
    error_prefix(NULL, "context");
}

static void context_stands_before_the_message_and_never_overflows_it(void **state)
{
    (void)state;
    struct error err = {0};
    error_set(&err, -EIO, "inner");
    error_prefix(&err, "outer %d", 1);
    assert_string_equal(err.message, "outer 1: inner");
    char big[400];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    for (size_t length = 300; length < 399; length++) {
        error_set(&err, -EIO, "inner message");
        error_prefix(&err, "%.*s", (int)length, big);
        assert_true(strlen(err.message) < sizeof err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_carries_its_code_message_slug_and_field),
        cmocka_unit_test(nobody_needs_to_listen),
        cmocka_unit_test(context_stands_before_the_message_and_never_overflows_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

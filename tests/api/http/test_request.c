#include "api/http/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cmocka.h"

static void a_target_is_split_and_decoded_once(void **state)
{
    (void)state;
    struct request *request = calloc(1, sizeof *request);
    assert_int_equal(request_parse_target(request, "/v1/peers/a%2Fb%3d?limit=5&x=%2541", NULL), 0);
    assert_int_equal(request->segment_count, 3);
    assert_string_equal(request->segments[2], "a/b=");
    assert_string_equal(request->instance, "/v1/peers/a%2Fb%3d");
    assert_string_equal(request_query(request, "limit"), "5");
    assert_string_equal(request_query(request, "x"), "%41");
    assert_null(request_query(request, "y"));
    free(request);
}

static void hostile_targets_are_refused(void **state)
{
    (void)state;
    const char *const table[] = {
        "",          "*",
        "v1/leases", "http://127.0.0.1/v1/leases",
        "/v1/%",     "/v1/%4",
        "/v1/%zz",   "/v1/%00",
        "/v1/%0a",   "/v1/%7f",
        "/v1/\x01",  "/v1/\xc3\xa9",
        "/v1/a#b",   "/a/b/c/d/e/f/g/h/i",
        "/v1?a",     "/v1?a=1&a=2",
        "/v1?a=%00", "/v1?a=1&b=1&c=1&d=1&e=1&f=1&g=1&h=1&i=1",
    };
    struct request *request = calloc(1, sizeof *request);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct error err = {0};
        assert_int_equal(request_parse_target(request, table[i], &err), -EINVAL);
        assert_int_equal(request->segment_count, 0);
        assert_int_equal(request->query_count, 0);
    }
    free(request);
}

static void a_target_of_the_greatest_length_is_taken_and_one_more_is_not(void **state)
{
    (void)state;
    struct request *request = calloc(1, sizeof *request);
    char target[REQUEST_TARGET_BYTES + 1];
    memset(target, 'a', sizeof target);
    target[0] = '/';
    target[REQUEST_TARGET_BYTES - 1] = '\0';
    assert_int_equal(request_parse_target(request, target, NULL), 0);
    target[REQUEST_TARGET_BYTES - 1] = 'a';
    target[REQUEST_TARGET_BYTES] = '\0';
    assert_int_equal(request_parse_target(request, target, NULL), -ENAMETOOLONG);
    free(request);
}

static void methods_are_case_sensitive(void **state)
{
    (void)state;
    assert_int_equal(request_method_parse("GET"), REQUEST_GET);
    assert_int_equal(request_method_parse("DELETE"), REQUEST_DELETE);
    assert_int_equal(request_method_parse("get"), REQUEST_OTHER);
    assert_int_equal(request_method_parse("TRACE"), REQUEST_OTHER);
    assert_int_equal(request_method_parse("other"), REQUEST_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_is_split_and_decoded_once),
        cmocka_unit_test(hostile_targets_are_refused),
        cmocka_unit_test(a_target_of_the_greatest_length_is_taken_and_one_more_is_not),
        cmocka_unit_test(methods_are_case_sensitive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

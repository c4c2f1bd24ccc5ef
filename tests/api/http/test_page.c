#include "api/http/page.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cmocka.h"

static struct request *request_for(const char *target)
{
    struct request *request = calloc(1, sizeof *request);
    assert_int_equal(request_parse_target(request, target, NULL), 0);
    return request;
}

static void the_query_becomes_a_filter(void **state)
{
    (void)state;
    static const char id[] = "01890000-0000-7000-8000-000000000000";
    char target[128];
    snprintf(target, sizeof target, "/x?limit=200&order=newest&after=%s&lease_id=%s", id, id);
    struct request *request = request_for(target);
    struct response response = {0};
    struct store_filter filter;
    struct page page;
    assert_true(page_begin(request, &response, PAGE_CURSOR_ID, &filter, &page));
    assert_int_equal(filter.limit, 200);
    assert_true(filter.newest_first);
    assert_string_equal(filter.after, id);
    assert_string_equal(filter.lease_id, id);
    page_drop(&page);
    free(request);
}

static void bad_queries_are_400(void **state)
{
    (void)state;
    const char *const targets[] = {
        "/x?limit=0", "/x?limit=201", "/x?limit=-1",   "/x?limit=", "/x?limit=1a", "/x?limit=0001",
        "/x?after=1", "/x?after=",    "/x?lease_id=1", "/x?order=", "/x?order=up"};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct request *request = request_for(targets[i]);
        struct response response = {0};
        struct store_filter filter;
        struct page page;
        if (page_begin(request, &response, PAGE_CURSOR_ID, &filter, &page))
            fail_msg("%s", targets[i]);
        assert_int_equal(response.status, 400);
        response_done(&response);
        free(request);
    }
}

static void cursor_after(const char *target, bool always, size_t rows, const char *expected)
{
    struct request *request = request_for(target);
    struct response response = {0};
    struct store_filter filter;
    struct page page;
    assert_true(page_begin(request, &response, PAGE_CURSOR_EVENT, &filter, &page));
    for (size_t i = 0; i < rows; i++) {
        char cursor[8];
        snprintf(cursor, sizeof cursor, "%zu", i + 1);
        assert_int_equal(page_add(&page, json_integer((json_int_t)i), cursor), 0);
    }
    page_finish(&page, &response, always);
    json_t *json = json_loadb(response.body, response.body_bytes, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(json, "items")), rows);
    const char *found = json_string_value(json_object_get(json, "next_cursor"));
    if (expected == NULL)
        assert_null(found);
    else
        assert_string_equal(found, expected);
    json_decref(json);
    response_done(&response);
    free(request);
}

static void a_full_page_has_a_cursor_and_a_last_one_has_none(void **state)
{
    (void)state;
    cursor_after("/x?limit=2", false, 2, "2");
    cursor_after("/x?limit=2", false, 1, NULL);
    cursor_after("/x?limit=2", false, 0, NULL);
}

static void a_list_that_grows_always_has_a_cursor(void **state)
{
    (void)state;
    cursor_after("/x?limit=2", true, 1, "1");
    cursor_after("/x?after=0123456789abcdef-77", true, 0, "0123456789abcdef-77");
    cursor_after("/x", true, 0, NULL);
}

static void a_lack_of_memory_is_500(void **state)
{
    (void)state;
    struct request *request = request_for("/x");
    struct response response = {0};
    struct store_filter filter;
    struct page page;
    assert_true(page_begin(request, &response, PAGE_CURSOR_ID, &filter, &page));
    assert_true(page_add(&page, NULL, "x") < 0);
    page_finish(&page, &response, false);
    assert_int_equal(response.status, 500);
    response_done(&response);
    free(request);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_query_becomes_a_filter),
        cmocka_unit_test(bad_queries_are_400),
        cmocka_unit_test(a_full_page_has_a_cursor_and_a_last_one_has_none),
        cmocka_unit_test(a_list_that_grows_always_has_a_cursor),
        cmocka_unit_test(a_lack_of_memory_is_500),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "api/http/etag.h"

#include <string.h>

#include "tests/cmocka.h"

static void if_match_lets_through_what_names_the_generation(void **state)
{
    (void)state;
    const struct {
        const char *header;
        bool matches;
    } rows[] = {
        {"\"7\"", true},          {"*", true},           {" * ", true},
        {"\"6\", \"7\"", true},   {"\"7\",\"8\"", true}, {", \"7\" ,, ", true},
        {"W/\"6\", \"7\"", true}, {"\"6\"", false},      {"\"77\"", false},
        {"\"\"", false},          {"", false},           {"W/\"7\"", false}, /* the comparison is strong */
        {"w/\"7\"", false},       {"7", false},          {"\"7", false},
        {"7\"", false},           {"* , \"7\"", false}, /* no list holds the star */
        {"\"7\" \"8\"", false},   {"\"7\", 8", false},   {"\"6,\"7\"", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (etag_matches(rows[i].header, 7) != rows[i].matches)
            fail_msg("If-Match: %s", rows[i].header);
    }
}

static void a_tag_is_the_generation_in_quotes(void **state)
{
    (void)state;
    char text[ETAG_BYTES];
    assert_string_equal(etag_format(0, text), "\"0\"");
    assert_string_equal(etag_format(UINT64_MAX, text), "\"18446744073709551615\"");
    assert_true(etag_matches(text, UINT64_MAX));
}

static void a_get_that_knows_the_generation_is_answered_304(void **state)
{
    (void)state;
    const struct {
        const char *header;
        unsigned status;
    } rows[] = {{NULL, 0}, {"\"6\"", 0}, {"\"7\"", 304}, {"W/\"7\"", 304}, {"*", 304}, {"7", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct request request = {.if_none_match = rows[i].header};
        struct response response = {0};
        assert_int_equal(etag_unchanged(&request, &response, 7), rows[i].status != 0);
        assert_int_equal(response.status, rows[i].status);
        response_done(&response);
    }
}

static void a_change_needs_the_present_generation(void **state)
{
    (void)state;
    const struct {
        const char *header;
        unsigned optional;
        unsigned required;
    } rows[] = {{NULL, 0, 428}, {"\"6\"", 412, 412}, {"W/\"7\"", 412, 412}, {"\"7\"", 0, 0}, {"*", 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct request request = {.if_match = rows[i].header};
        struct response response = {0};
        assert_int_equal(etag_allows(&request, &response, 7), rows[i].optional == 0);
        assert_int_equal(response.status, rows[i].optional);
        response_done(&response);
        assert_int_equal(etag_required(&request, &response, 7), rows[i].required == 0);
        assert_int_equal(response.status, rows[i].required);
        if (rows[i].required != 0) {
            assert_string_equal(response.headers[0].name, "ETag");
            assert_string_equal(response.headers[0].value, "\"7\"");
        }
        response_done(&response);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(if_match_lets_through_what_names_the_generation),
        cmocka_unit_test(a_tag_is_the_generation_in_quotes),
        cmocka_unit_test(a_get_that_knows_the_generation_is_answered_304),
        cmocka_unit_test(a_change_needs_the_present_generation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

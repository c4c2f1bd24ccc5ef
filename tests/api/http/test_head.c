#include "api/http/head.h"

#include <string.h>

#include "tests/cmocka.h"

static void a_head_ends_with_its_first_empty_line(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
    } table[] = {
        {"", 0},
        {"GET / HTTP/1.1\r\n", 0},
        {"GET / HTTP/1.1\r\nHost: x\r\n\r", 0},
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27},
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /", 27},
        {"GET / HTTP/1.1\r\n\r\n\r\n", 18},
        {"GET / HTTP/1.1\nHost: x\n\n", 24},
        {"GET / HTTP/1.1\nHost: x\n\r\n", 25},
        {"\r\n\r\n", 0}, /* empty lines before a request are none of its lines */
        {"\r\n\r\nGET / HTTP/1.1\r\n\r\n", 22},
        {"\n\n\n", 0},
        {"x\n", 0},
        {"x\n\r", 0},
        {"x\n\n", 3},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        size_t length = head_length(table[i].bytes, strlen(table[i].bytes));
        if (length != table[i].length)
            fail_msg("case %zu: %zu", i, length);
        /* Every shorter part of it is not whole yet. */
        for (size_t part = 0; table[i].length > 0 && part < table[i].length; part++)
            assert_int_equal(head_length(table[i].bytes, part), 0);
    }
}

static void a_header_that_goes_on_in_the_next_line_is_found(void **state)
{
    (void)state;
    const struct {
        const char *head;
        bool folded;
    } table[] = {
        {"GET / HTTP/1.1\r\nA: b\r\n\r\n", false},     {"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nA: b\n\tc\r\n\r\n", true}, {"GET / HTTP/1.1\r\n A: b\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nA:\t b \r\n\r\n", false},  {"", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        assert_int_equal(head_is_folded(table[i].head, strlen(table[i].head)), table[i].folded);
}

static void a_nul_in_a_head_is_found_wherever_it_stands(void **state)
{
    (void)state;
    char head[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const size_t length = sizeof head - 1;
    assert_false(head_holds_nul(head, length));
    assert_false(head_holds_nul(head, 0));
    for (size_t at = 0; at < length; at++) {
        const char before = head[at];
        head[at] = '\0';
        assert_true(head_holds_nul(head, length));
        head[at] = before;
    }
}

static void the_token_of_a_head_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        const char *token;
    } table[] = {
        {"GET / HTTP/1.1\r\nAuthorization: Bearer omt_x\r\n\r\n", "omt_x"},
        {"GET / HTTP/1.1\r\nauthorization:bearer omt_x\r\n\r\n", "omt_x"},
        {"GET / HTTP/1.1\r\nAuthorization: \t Bearer omt_x \r\n\r\n", "omt_x"},
        {"GET / HTTP/1.1\nAuthorization: Bearer omt_x\n\n", "omt_x"},
        {"GET / HTTP/1.1\r\nX: 1\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", "a"},
        {"GET / HTTP/1.1\r\nAuthorization: Basic omt_x\r\n\r\n", ""},
        {"GET / HTTP/1.1\r\nAuthorization: Bearer \r\n\r\n", ""},
        {"GET / HTTP/1.1\r\nAuthorization:\r\n\r\n", ""},
        {"GET / HTTP/1.1\r\nX-Authorization: Bearer omt_x\r\n\r\n", ""},
        {"GET /?Authorization: Bearer omt_x HTTP/1.1\r\n\r\n", ""},
        {"GET / HTTP/1.1\r\n\r\n", ""},
        {"\nAuthorization:", ""},
        {"\nAuthorization: Bearer", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const char *token = "";
        size_t length = head_bearer(table[i].bytes, strlen(table[i].bytes), &token);
        if (length != strlen(table[i].token) || memcmp(token, table[i].token, length) != 0)
            fail_msg("case %zu: %.*s", i, (int)length, token);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_ends_with_its_first_empty_line),
        cmocka_unit_test(a_header_that_goes_on_in_the_next_line_is_found),
        cmocka_unit_test(a_nul_in_a_head_is_found_wherever_it_stands),
        cmocka_unit_test(the_token_of_a_head_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

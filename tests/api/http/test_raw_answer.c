#include "api/http/raw_answer.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/cmocka.h"

/* Read to the end. Return: number of bytes; the text ends with a NUL */
static size_t read_all(int fd, char *ret_text, size_t capacity)
{
    size_t used = 0;
    for (ssize_t got; (got = recv(fd, ret_text + used, capacity - 1 - used, 0)) > 0;)
        used += (size_t)got;
    ret_text[used] = '\0';
    return used;
}

static void assert_common_headers(const char *text)
{
    for (const struct raw_answer_header *header = raw_answer_headers; header->name != NULL; header++) {
        char line[256];
        snprintf(line, sizeof line, "\r\n%s: %s\r\n", header->name, header->value);
        assert_non_null(strstr(text, line));
    }
    assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
}

static void a_head_has_the_answer_s_headers_and_those_of_all(void **state)
{
    (void)state;
    char bytes[RAW_ANSWER_HEAD_BYTES + 1] = {0};
    struct stream_text text = {.bytes = bytes, .capacity = RAW_ANSWER_HEAD_BYTES};
    struct request request = {.id = id_new()};
    struct response response = {.status = 200, .content_type = "text/event-stream"};
    response_header(&response, "X-Odd", "%d", 17);
    raw_answer_head("200 OK", &request, &response, &text);
    assert_int_equal(strncmp(bytes, "HTTP/1.1 200 OK\r\n", 17), 0);
    assert_non_null(strstr(bytes, "\r\nContent-Type: text/event-stream\r\n"));
    assert_non_null(strstr(bytes, "\r\nX-Odd: 17\r\n"));
    assert_non_null(strstr(bytes, request.id.text));
    assert_common_headers(bytes);
    assert_string_equal(bytes + text.used - 4, "\r\n\r\n");
    response_done(&response);
}

static void a_refusal_is_a_whole_problem_and_the_end(void **state)
{
    (void)state;
    char text[RAW_ANSWER_HEAD_BYTES + RESPONSE_SMALL_BYTES + 1];
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    raw_answer_refuse(pair[0], "431 Request Header Fields Too Large", PROBLEM_HEADERS_TOO_LARGE, "");
    read_all(pair[1], text, sizeof text); /* ends, although we still hold the other side */
    assert_int_equal(strncmp(text, "HTTP/1.1 431 Request Header Fields Too Large\r\n", 46), 0);
    assert_non_null(strstr(text, "\r\nContent-Type: application/problem+json\r\n"));
    assert_common_headers(text);
    const char *body = strstr(text, "\r\n\r\n");
    assert_non_null(body);
    json_t *problem = json_loads(body + 4, 0, NULL);
    assert_non_null(problem);
    assert_int_equal(json_integer_value(json_object_get(problem, "status")), 431);
    assert_string_equal(json_string_value(json_object_get(problem, "type")), "/v1/problems/headers-too-large");
    json_decref(problem);
    close(pair[0]);
    close(pair[1]);
}

/* Whoever has gone, or does not read, costs no wait. */
static void a_refusal_never_waits(void **state)
{
    (void)state;
    static const char bytes[65536];
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    while (send(pair[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
    raw_answer_refuse(pair[0], "431 Request Header Fields Too Large", PROBLEM_HEADERS_TOO_LARGE, "");
    close(pair[1]);
    raw_answer_refuse(pair[0], "431 Request Header Fields Too Large", PROBLEM_HEADERS_TOO_LARGE, "");
    close(pair[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_has_the_answer_s_headers_and_those_of_all),
        cmocka_unit_test(a_refusal_is_a_whole_problem_and_the_end),
        cmocka_unit_test(a_refusal_never_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

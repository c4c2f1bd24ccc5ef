/* Bodies and how they are framed: what comes whole, what is refused, and when. */
#include "api/http/http.h"

#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http/roster.h"
#include "base/clock.h"
#include "tests/api/http/http_fixture.h"
#include "tests/cmocka.h"

static void a_malformed_request_is_refused_and_its_connection_closed(void **state)
{
    const struct server *server = *state;
    const char *const headers[] = {
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 0\r\nContent-Length: 30\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
    };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        char request[512];
        char text[ANSWER_BYTES];
        int fd = connect_tcp(server);
        int length = snprintf(request, sizeof request, "POST /body HTTP/1.1\r\nHost: localhost:%u\r\n%s\r\n{}",
                              (unsigned)server->address.port, headers[i]);
        send_all(fd, request, (size_t)length);
        shutdown(fd, SHUT_WR);
        unsigned status = read_answer(fd, text);
        /* The library may itself refuse a framing before we are asked; then there is no answer at all. */
        if (status != 400 && status != 0)
            fail_msg("%s: %u", headers[i], status);
        assert_true(is_closed(fd));
        close(fd);
    }
}

/* The end of such a body is nowhere to be found, so nobody waits for it: the client has not hung up here. */
static void a_coding_that_is_not_ours_is_refused_at_once(void **state)
{
    const struct server *server = *state;
    const char *const codings[] = {"gzip",
                                   "gzip, chunked",
                                   "chunked, gzip",
                                   "identity",
                                   "Chunked, a",
                                   "chunke",
                                   "\"chunked\"",
                                   "chunked;q=1",
                                   "",
                                   "gzip,\r\n chunked",
                                   "chunked,\r\n\tgzip"};
    const char *const methods[] = {"POST /body", "GET /hello", "DELETE /hello", "PUT /nowhere"};
    for (size_t i = 0; i < sizeof codings / sizeof codings[0]; i++)
        for (size_t at = 0; at < sizeof methods / sizeof methods[0]; at++) {
            char request[512];
            char text[ANSWER_BYTES];
            int fd = connect_tcp(server);
            int length = snprintf(request, sizeof request,
                                  "%s HTTP/1.1\r\nHost: localhost:%u\r\nTransfer-Encoding: %s\r\n\r\n{}", methods[at],
                                  (unsigned)server->address.port, codings[i]);
            send_all(fd, request, (size_t)length);
            unsigned status = read_answer(fd, text);
            if (status != 400 || strstr(text, "/v1/problems/bad-request") == NULL)
                fail_msg("%s, %s: %u\n%s", methods[at], codings[i], status, text);
            assert_true(is_closed(fd));
            close(fd);
        }
}

static void bodies_arrive_whole_in_one_piece_or_in_many(void **state)
{
    const struct server *server = *state;
    char text[ANSWER_BYTES];
    const char json[] = "Content-Type: application/json\r\n";
    assert_int_equal(ask(server, "POST /body", "Content-Type: application/json\r\nContent-Length: 2\r\n", "{}", text),
                     200);
    assert_non_null(strstr(text, "{\"bytes\":2,\"sum\":248}"));
    assert_int_equal(ask(server, "POST /body", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
                         "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", text),
                     200);
    assert_non_null(strstr(text, "{\"bytes\":2,\"sum\":248}"));

    char *big = malloc(REQUEST_BODY_BYTES);
    memset(big, 1, REQUEST_BODY_BYTES);
    char head[256];
    int fd = connect_tcp(server);
    int length =
        snprintf(head, sizeof head, "POST /body HTTP/1.1\r\nHost: localhost:%u\r\n%sContent-Length: %d\r\n\r\n",
                 (unsigned)server->address.port, json, REQUEST_BODY_BYTES);
    send_all(fd, head, (size_t)length);
    send_all(fd, big, REQUEST_BODY_BYTES);
    assert_int_equal(read_answer(fd, text), 200);
    assert_non_null(strstr(text, "{\"bytes\":262144,\"sum\":262144}"));
    close(fd);
    free(big);
}

/* Send @pieces chunks or bytes of 1 KiB. Return: the status. */
static unsigned send_pieces(const struct server *server, bool chunked, size_t pieces, char *ret_text)
{
    char head[256];
    char piece[1024 + 7];
    char framing[64] = "Transfer-Encoding: chunked";
    if (!chunked)
        snprintf(framing, sizeof framing, "Content-Length: %zu", pieces * 1024);
    int fd = connect_tcp(server);
    int length = snprintf(head, sizeof head,
                          "POST /body HTTP/1.1\r\nHost: localhost:%u\r\nContent-Type: application/json\r\n%s\r\n\r\n",
                          (unsigned)server->address.port, framing);
    send_all(fd, head, (size_t)length);
    memcpy(piece, "400\r\n", 5);
    memset(piece + 5, 'x', 1024);
    memcpy(piece + 5 + 1024, "\r\n", 2);
    for (size_t i = 0; i < pieces; i++)
        send_all(fd, chunked ? piece : piece + 5, chunked ? sizeof piece : 1024);
    if (chunked)
        send_all(fd, "0\r\n\r\n", 5);
    unsigned status = read_answer(fd, ret_text);
    close(fd);
    return status;
}

static void a_body_that_is_too_large_is_413_however_it_is_framed(void **state)
{
    const struct server *server = *state;
    char text[ANSWER_BYTES];
    assert_int_equal(send_pieces(server, false, 257, text), 413);
    assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
    assert_int_equal(send_pieces(server, true, 257, text), 413);
    /* Far beyond the limit the connection may be cut without an answer that arrives. */
    unsigned status = send_pieces(server, true, 4096, text);
    assert_true(status == 413 || status == 0);
    assert_int_equal(ask(server, "GET /hello", "", "", text), 200);
}

static void headers_that_are_too_large_are_431(void **state)
{
    const struct server *server = *state;
    char text[ANSWER_BYTES];
    static char line[20000];
    memset(line, 'x', sizeof line);
    int fd = connect_unix(server);
    send_all(fd, "GET /hello HTTP/1.1\r\nX: ", 24);
    send_all(fd, line, sizeof line);
    assert_int_equal(read_answer(fd, text), 431);
    assert_non_null(strstr(text, "\r\nX-Content-Type-Options: nosniff\r\n"));
    close(fd);
}

static void a_body_where_none_is_expected_is_refused(void **state)
{
    char text[ANSWER_BYTES];
    const char headers[] = "Content-Type: application/json\r\nContent-Length: 2\r\n";
    assert_int_equal(ask(*state, "DELETE /hello", headers, "{}", text), 400);
    assert_non_null(strstr(text, "unexpected-body"));
    assert_int_equal(ask(*state, "GET /hello", headers, "{}", text), 400);
    assert_int_equal(ask(*state, "POST /body", "Content-Type: text/plain\r\nContent-Length: 2\r\n", "{}", text), 415);
}

static void a_body_that_ends_early_ends_the_connection(void **state)
{
    const struct server *server = *state;
    for (int i = 0; i < 4; i++) {
        int fd = i % 2 == 0 ? connect_tcp(server) : connect_unix(server);
        char request[160];
        int length = snprintf(request, sizeof request,
                              "POST /body HTTP/1.1\r\nHost: localhost:%u\r\nContent-Type: application/json\r\n"
                              "Content-Length: 1000\r\n\r\n{",
                              (unsigned)server->address.port);
        send_all(fd, request, (size_t)length);
        poll(NULL, 0, 50);
        uint64_t before_ms = clock_monotonic_ms();
        shutdown(fd, SHUT_WR);
        assert_true(is_closed(fd));
        assert_true(clock_monotonic_ms() - before_ms < ROSTER_IDLE_MS);
        close(fd);
    }
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
#define SERVED(test) cmocka_unit_test_setup_teardown(test, http_fixture_start, http_fixture_stop)
    const struct CMUnitTest tests[] = {
        SERVED(a_malformed_request_is_refused_and_its_connection_closed),
        SERVED(a_coding_that_is_not_ours_is_refused_at_once),
        SERVED(bodies_arrive_whole_in_one_piece_or_in_many),
        SERVED(a_body_that_is_too_large_is_413_however_it_is_framed),
        SERVED(headers_that_are_too_large_are_431),
        SERVED(a_body_where_none_is_expected_is_refused),
        SERVED(a_body_that_ends_early_ends_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

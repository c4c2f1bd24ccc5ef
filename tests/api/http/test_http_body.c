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

/* Heads and bodies of which the client sends no more. */
static const struct {
    const char *line, *framing, *body;
} cut_short[] = {
    {"POST /body", "Content-Length: 1000", ""},
    {"POST /body", "Content-Length: 1000", "{"},
    {"POST /body", "Transfer-Encoding: chunked", ""},
    {"POST /body", "Transfer-Encoding: chunked", "4"},
    {"POST /body", "Transfer-Encoding: chunked", "4\r\n"},
    {"POST /body", "Transfer-Encoding: chunked", "4\r\n{}"},
    {"POST /body", "Transfer-Encoding: chunked", "4\r\n{  }\r\n"},
    {"POST /body", "Transfer-Encoding: chunked", "4\r\n{  }\r\n0\r\n"},
    {"POST /body", "Transfer-Encoding: chunked", "4\r\n{  }\r\n0\r\nTrailer: half"},
};

/* Send a request that ends early: in one piece with its end, or with a pause before the body and another one before the end. */
static int send_cut_short(const struct server *server, const char *line, const char *framing, const char *body,
                          bool in_pieces, bool over_tcp)
{
    char head[256];
    int fd = over_tcp ? connect_tcp(server) : connect_unix(server);
    int length = snprintf(head, sizeof head,
                          "%s HTTP/1.1\r\nHost: localhost:%u\r\nContent-Type: application/json\r\n%s\r\n\r\n%s", line,
                          (unsigned)server->address.port, framing, in_pieces ? "" : body);
    send_all(fd, head, (size_t)length);
    if (in_pieces) {
        poll(NULL, 0, 20);
        send_all(fd, body, strlen(body));
        poll(NULL, 0, 20);
    }
    shutdown(fd, SHUT_WR);
    return fd;
}

static void a_body_that_is_cut_short_is_refused_at_once(void **state)
{
    const struct server *server = *state;
    char text[ANSWER_BYTES];
    for (size_t i = 0; i < sizeof cut_short / sizeof cut_short[0]; i++) {
        for (unsigned way = 0; way < 4; way++) {
            uint64_t before_ms = clock_monotonic_ms();
            int fd = send_cut_short(server, cut_short[i].line, cut_short[i].framing, cut_short[i].body, way % 2 == 1,
                                    way / 2 == 1);
            unsigned status = read_answer(fd, text);
            if (status != 400 || strstr(text, "/v1/problems/bad-request") == NULL)
                fail_msg("%zu, way %u: %u\n%s", i, way, status, text);
            assert_non_null(strstr(text, "\r\nContent-Type: application/problem+json\r\n"));
            assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
            assert_true(is_closed(fd));
            assert_true(clock_monotonic_ms() - before_ms < HTTP_IDLE_S * 1000 / 2);
            close(fd);
        }
    }
    assert_int_equal(ask(server, "GET /hello", "", "", text), 200);
}

/* What is refused anyway keeps its reason. */
static void a_refused_body_that_is_cut_short_is_told_why_it_was_refused(void **state)
{
    const struct server *server = *state;
    char text[ANSWER_BYTES];
    for (unsigned way = 0; way < 4; way++) {
        int fd = send_cut_short(server, "POST /nowhere", "Content-Length: 9", "{", way % 2 == 1, way / 2 == 1);
        assert_int_equal(read_answer(fd, text), 404);
        assert_non_null(strstr(text, "HTTP/1.1 404 Not Found\r\n"));
        assert_non_null(strstr(text, "/v1/problems/not-found"));
        assert_true(is_closed(fd));
        close(fd);
    }
}

/* Nor is it told that its body was short, whose place somebody else was given. */
static void one_that_is_ended_to_make_room_is_told_nothing(void **state)
{
    const struct server *server = *state;
    static int slow[ROSTER_SERVED_MAX];
    static const char half[] = "POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                               "Content-Length: 1000\r\n\r\n{";
    static const char whole[] = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char text[ANSWER_BYTES];
    for (size_t i = 0; i < ROSTER_SERVED_MAX; i++) {
        slow[i] = connect_unix(server);
        send_all(slow[i], half, sizeof half - 1);
    }
    poll(NULL, 0, 2 * ROSTER_PATIENCE_MS);
    int fd = connect_unix(server);
    send_all(fd, whole, sizeof whole - 1);
    assert_int_equal(read_answer(fd, text), 200);
    close(fd);
    size_t ended = 0;
    for (size_t i = 0; i < ROSTER_SERVED_MAX; i++) {
        ssize_t got = recv(slow[i], text, sizeof text, MSG_DONTWAIT);
        assert_true(got <= 0);
        ended += got == 0 ? 1 : 0;
        close(slow[i]);
    }
    assert_true(ended > 0);
}

/* The next request of a connection is nobody's business before its head is whole, as the first one. */
static void a_second_head_that_is_cut_short_ends_the_connection_at_once(void **state)
{
    const struct server *server = *state;
    static const char *const halves[] = {"G", "GET /hello HTTP/1.1\r\n", "GET /hello HTTP/1.1\r\nHost: loc"};
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++) {
        char request[256];
        char text[ANSWER_BYTES];
        int fd = connect_unix(server);
        uint64_t before_ms = clock_monotonic_ms();
        int length = snprintf(request, sizeof request, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n%s", halves[i]);
        send_all(fd, request, (size_t)length);
        shutdown(fd, SHUT_WR);
        assert_int_equal(read_answer(fd, text), 200);
        assert_true(is_closed(fd));
        assert_true(clock_monotonic_ms() - before_ms < HTTP_IDLE_S * 1000 / 2);
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
        SERVED(a_body_that_is_cut_short_is_refused_at_once),
        SERVED(a_refused_body_that_is_cut_short_is_told_why_it_was_refused),
        SERVED(one_that_is_ended_to_make_room_is_told_nothing),
        SERVED(a_second_head_that_is_cut_short_ends_the_connection_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

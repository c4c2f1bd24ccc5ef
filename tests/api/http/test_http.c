#include "api/http/http.h"

#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http/problem.h"
#include "api/http/roster.h"
#include "base/clock.h"
#include "tests/api/http/http_fixture.h"
#include "tests/cmocka.h"

static void every_answer_carries_the_safety_headers(void **state)
{
    char text[ANSWER_BYTES];
    const char *const lines[] = {"GET /hello", "GET /nope", "GET /secret", "OPTIONS /hello", "PUT /hello"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_true(ask(*state, lines[i], "", "", text) > 0);
        assert_non_null(strstr(text, "\r\nCache-Control: no-store\r\n"));
        assert_non_null(strstr(text, "\r\nX-Content-Type-Options: nosniff\r\n"));
        assert_non_null(strstr(text, "\r\nContent-Security-Policy: default-src 'self'"));
        assert_null(strstr(text, "Access-Control-"));
    }
}

static void methods_head_and_options_behave(void **state)
{
    char text[ANSWER_BYTES];
    const struct server *server = *state;
    assert_int_equal(ask(server, "GET /hello", "", "", text), 200);
    assert_non_null(strstr(text, "\r\n\r\n{\"path\":\"/hello\"}"));
    assert_int_equal(ask(server, "PUT /hello", "", "", text), 405);
    assert_non_null(strstr(text, "\r\nAllow: GET, HEAD, DELETE, OPTIONS\r\n"));
    assert_non_null(strstr(text, "application/problem+json"));
    assert_int_equal(ask(server, "OPTIONS /hello", "", "", text), 204);
    assert_non_null(strstr(text, "\r\nAllow: GET, HEAD, DELETE, OPTIONS\r\n"));
    assert_int_equal(ask(server, "GET /%2e%2e/hello", "", "", text), 404);

    int fd = connect_tcp(server);
    char head[128];
    int length = snprintf(head, sizeof head, "HEAD /hello HTTP/1.1\r\nHost: localhost:%u\r\nConnection: close\r\n\r\n",
                          (unsigned)server->address.port);
    send_all(fd, head, (size_t)length);
    char *end = text;
    ssize_t got;
    while ((got = recv(fd, end, (size_t)(text + ANSWER_BYTES - 1 - end), 0)) > 0)
        end += got;
    *end = '\0';
    close(fd);
    assert_non_null(strstr(text, "Content-Length: 17\r\n"));
    assert_memory_equal(end - 4, "\r\n\r\n", 4);
}

/* The library would see an empty line, or the end of a method, and wait ten seconds for more. */
static void a_nul_in_a_head_is_refused_at_once(void **state)
{
    static const char *const heads[] = {"#\n\r\n", "\r\n#\r\n\r\n", "GET# /hello HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                        "GET /hello HTTP/1.1\r\nHost: localhost\r\nA: #\r\n\r\n"};
    char text[ANSWER_BYTES];
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        char head[64];
        const size_t length = strlen(heads[i]);
        memcpy(head, heads[i], length);
        *(char *)memchr(head, '#', length) = '\0';
        const uint64_t begin_ms = clock_monotonic_ms();
        int fd = connect_unix(*state);
        send_all(fd, head, length);
        assert_int_equal(read_answer(fd, text), 400);
        assert_true(is_closed(fd));
        close(fd);
        assert_true(clock_monotonic_ms() - begin_ms < 5000);
    }
}

static void tcp_needs_a_token_and_our_own_name(void **state)
{
    char text[ANSWER_BYTES];
    const struct server *server = *state;
    assert_int_equal(ask(server, "GET /secret", "", "", text), 401);
    assert_non_null(strstr(text, "\r\nWWW-Authenticate: Bearer\r\n"));
    assert_int_equal(ask(server, "GET /secret", "Authorization: Bearer omt_bad\r\n", "", text), 401);
    assert_int_equal(ask(server, "GET /secret", "Authorization: Bearer omt_good\r\n", "", text), 200);
    assert_int_equal(ask(server, "GET /hello", "Origin: http://evil.example\r\n", "", text), 403);
    assert_int_equal(ask(server, "GET /hello", "Host: evil.example\r\n", "", text), 400);

    int fd = connect_tcp(server);
    const char rebinding[] = "GET /hello HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    send_all(fd, rebinding, sizeof rebinding - 1);
    assert_int_equal(read_answer(fd, text), 421);
    assert_true(is_closed(fd));
    close(fd);
}

static void the_unix_socket_needs_no_token_from_its_own_user(void **state)
{
    const struct server *server = *state;
    char text[ANSWER_BYTES];
#define SECRET "GET /secret HTTP/1.1\r\nHost: any\r\n\r\n"
#define HELLO "GET /hello HTTP/1.1\r\nHost: any\r\n\r\n"
    int fd = connect_unix(server);
    send_all(fd, SECRET, sizeof SECRET - 1);
    assert_int_equal(read_answer(fd, text), 200);
    close(fd);
    /* Two requests in one write are both answered, in order. */
    fd = connect_unix(server);
    send_all(fd, SECRET HELLO, sizeof SECRET HELLO - 1);
    assert_int_equal(read_answer(fd, text), 200);
    for (int tries = 0; strstr(text, "\"/hello\"") == NULL && tries < 3; tries++)
        assert_int_equal(read_answer(fd, text), 200);
    close(fd);
}

/* What the roster counts on when it shuts what comes in: a read end is no reason to drop a request that is there. */
static void a_request_whose_connection_brings_nothing_more_is_answered(void **state)
{
    const struct server *server = *state;
    char text[ANSWER_BYTES];
    char request[128];
    int length = snprintf(request, sizeof request, "GET /hello HTTP/1.1\r\nHost: localhost:%u\r\n\r\n",
                          (unsigned)server->address.port);
    for (int i = 0; i < 50; i++) {
        int fd = i % 2 == 0 ? connect_tcp(server) : connect_unix(server);
        send_all(fd, request, (size_t)length);
        shutdown(fd, SHUT_WR);
        assert_int_equal(read_answer(fd, text), 200);
        assert_true(is_closed(fd));
        close(fd);
    }
}

static void connections_that_say_little_do_not_hold_others_up(void **state)
{
    const struct server *server = *state;
    int slow[16];
    char text[ANSWER_BYTES];
    for (size_t i = 0; i < sizeof slow / sizeof slow[0]; i++) {
        slow[i] = connect_tcp(server);
        send_all(slow[i], "POST /body HTTP/1.1\r\nHost: 127", i * 2);
    }
    assert_int_equal(ask(server, "GET /hello", "", "", text), 200);
    for (size_t i = 0; i < sizeof slow / sizeof slow[0]; i++)
        close(slow[i]);
}

static void streams_stay_open_and_end_with_the_server_or_the_client(void **state)
{
    const struct server *server = *state;
    char text[ANSWER_BYTES];
    char request[128];
    int fds[40];
    int length = snprintf(request, sizeof request, "GET /stream HTTP/1.1\r\nHost: localhost:%u\r\n\r\n",
                          (unsigned)server->address.port);
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        fds[i] = i % 2 == 0 ? connect_tcp(server) : connect_unix(server);
        send_all(fds[i], request, (size_t)length);
    }
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        size_t used = 0;
        text[0] = '\0';
        while (strstr(text, "data: hello\n\n") == NULL) {
            ssize_t got = recv(fds[i], text + used, ANSWER_BYTES - 1 - used, 0);
            assert_true(got > 0);
            used += (size_t)got;
            text[used] = '\0';
        }
        assert_non_null(strstr(text, "HTTP/1.1 200 OK\r\n"));
        assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
        assert_non_null(strstr(text, "\r\nX-Content-Type-Options: nosniff\r\n"));
        assert_null(strstr(text, "Content-Length"));
    }
    assert_int_equal(streams_count(server->streams), sizeof fds / sizeof fds[0]);
    assert_int_equal(ask(server, "GET /hello", "", "", text), 200);
    for (size_t i = 0; i < sizeof fds / sizeof fds[0] / 2; i++)
        close(fds[i]);
    uint64_t until_ms = clock_monotonic_ms() + WAIT_MS;
    while (streams_count(server->streams) > sizeof fds / sizeof fds[0] / 2 && clock_monotonic_ms() < until_ms)
        poll(NULL, 0, 5);
    assert_int_equal(streams_count(server->streams), sizeof fds / sizeof fds[0] / 2);
    streams_end(server->streams); /* what http_stop() does first */
    for (size_t i = sizeof fds / sizeof fds[0] / 2; i < sizeof fds / sizeof fds[0]; i++) {
        assert_true(is_closed(fds[i]));
        close(fds[i]);
    }
    assert_int_equal(ask(server, "GET /stream", "", "", text), 503);
    assert_non_null(strstr(text, "shutting-down"));
}

static void a_server_stops_while_clients_are_connected(void **state)
{
    const struct server *server = *state;
    /* Closed by stop(), which must not wait for them; a leak is the sanitizer's to find. */
    int half = connect_tcp(server);
    int idle = connect_unix(server);
    send_all(half, "POST /body HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le", 48);
    char text[ANSWER_BYTES];
    assert_int_equal(ask(server, "GET /hello", "", "", text), 200);
    close(idle);
    close(half);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
#define SERVED(test) cmocka_unit_test_setup_teardown(test, http_fixture_start, http_fixture_stop)
    const struct CMUnitTest tests[] = {
        SERVED(every_answer_carries_the_safety_headers),
        SERVED(methods_head_and_options_behave),
        SERVED(a_nul_in_a_head_is_refused_at_once),
        SERVED(tcp_needs_a_token_and_our_own_name),
        SERVED(the_unix_socket_needs_no_token_from_its_own_user),
        SERVED(a_request_whose_connection_brings_nothing_more_is_answered),
        SERVED(connections_that_say_little_do_not_hold_others_up),
        SERVED(streams_stay_open_and_end_with_the_server_or_the_client),
        SERVED(a_server_stops_while_clients_are_connected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

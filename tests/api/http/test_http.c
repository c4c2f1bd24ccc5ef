#include "api/http/http.h"

#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/http/problem.h"
#include "api/http/roster.h"
#include "base/clock.h"
#include "tests/cmocka.h"

enum {
    ANSWER_BYTES = 8192,
    WAIT_MS = 20000, /* a sanitizer on a busy machine is slow */
};

/* ---- a server with trivial handlers ------------------------------------------------------------------------------ */

static void say_hello(void *context, const struct request *request, struct response *response)
{
    (void)context;
    response_json(response, 200, json_pack("{s:s}", "path", request->instance));
}

static void count_body(void *context, const struct request *request, struct response *response)
{
    (void)context;
    size_t sum = 0;
    for (size_t i = 0; i < request->body_bytes; i++)
        sum += request->body[i];
    response_json(response, 200,
                  json_pack("{s:I, s:I}", "bytes", (json_int_t)request->body_bytes, "sum", (json_int_t)sum));
}

/* A stream that says one line and stays. */
static enum stream_step say_once(void *state, struct stream_text *text)
{
    bool *said = state;
    if (!*said)
        stream_text_print(text, "data: hello\n\n");
    *said = true;
    return STREAM_WAIT;
}

static void follow(void *context, const struct request *request, struct response *response)
{
    (void)context;
    (void)request;
    const struct stream_source source = {.read = say_once, .done = free, .state = calloc(1, sizeof(bool))};
    response_stream(response, "text/event-stream", &source);
}

static const struct route routes[] = {
    {REQUEST_GET, "/stream", ROUTE_OPEN, false, NULL, "text/event-stream", follow},
    {REQUEST_GET, "/hello", ROUTE_OPEN, false, NULL, "application/json", say_hello},
    {REQUEST_GET, "/secret", ROUTE_READ, false, NULL, "application/json", say_hello},
    {REQUEST_POST, "/body", ROUTE_OPEN, true, NULL, "application/json", count_body},
    {REQUEST_DELETE, "/hello", ROUTE_OPEN, false, NULL, "application/json", say_hello},
    {.pattern = NULL},
};

struct server {
    struct tokens tokens;
    struct listen_address address;
    char dir[40];
    char path[64];
    struct streams *streams;
    struct http *http;
};

static int start(void **state)
{
    struct server *server = calloc(1, sizeof *server);
    struct error err = {0};
    snprintf(server->dir, sizeof server->dir, "/tmp/omertad-http-XXXXXX");
    assert_non_null(mkdtemp(server->dir));
    snprintf(server->path, sizeof server->path, "%s/s", server->dir);
    struct token_list list = {.count = 1, .entries = {{.name = "test", .scope = TOKEN_READ}}};
    token_from_text("omt_good", 8, &list.entries[0].token);
    tokens_init(&server->tokens, &list);
    server->address = (struct listen_address){.ip = INADDR_LOOPBACK};
    assert_int_equal(streams_open(NULL, &server->streams, &err), 0);
    struct http_config config = {
        .streams = server->streams,
        .routes = routes,
        .tokens = &server->tokens,
        .unix_fd = listen_unix(server->path, &err),
        .tcp_fd = listen_tcp(&server->address, &err),
    };
    config.tcp = server->address;
    assert_true(config.unix_fd >= 0 && config.tcp_fd >= 0);
    if (http_start(&config, &server->http, &err) < 0)
        fail_msg("%s", err.message);
    *state = server;
    return 0;
}

static int stop(void **state)
{
    struct server *server = *state;
    http_stop(server->http);
    streams_close(server->streams);
    tokens_done(&server->tokens);
    unlink(server->path);
    rmdir(server->dir);
    free(server);
    return 0;
}

/* ---- a client that sends what it likes --------------------------------------------------------------------------- */

static int connect_tcp(const struct server *server)
{
    const struct sockaddr_in name = {
        .sin_family = AF_INET, .sin_port = htons(server->address.port), .sin_addr.s_addr = htonl(server->address.ip)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&name, sizeof name), 0);
    return fd;
}

static int connect_unix(const struct server *server)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s", server->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&name, sizeof name), 0);
    return fd;
}

static void send_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the server has closed; its answer tells why */
        bytes += sent;
        length -= (size_t)sent;
    }
}

/* Read until there is one whole answer, or the end. Return: its status, 0 for none. */
static unsigned read_answer(int fd, char *ret_text)
{
    size_t used = 0;
    ret_text[0] = '\0';
    uint64_t until_ms = clock_monotonic_ms() + WAIT_MS;
    while (used < ANSWER_BYTES - 1 && clock_monotonic_ms() < until_ms) {
        const char *body = strstr(ret_text, "\r\n\r\n");
        const char *length = strstr(ret_text, "Content-Length: ");
        if (body != NULL && (length == NULL || strlen(body + 4) >= strtoul(length + 16, NULL, 10)))
            break;
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, WAIT_MS) <= 0)
            break;
        ssize_t got = recv(fd, ret_text + used, ANSWER_BYTES - 1 - used, 0);
        if (got <= 0)
            break;
        used += (size_t)got;
        ret_text[used] = '\0';
    }
    return strncmp(ret_text, "HTTP/1.1 ", 9) == 0 ? (unsigned)strtoul(ret_text + 9, NULL, 10) : 0;
}

static bool is_closed(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char byte;
    return poll(&ready, 1, WAIT_MS) == 1 && recv(fd, &byte, 1, 0) <= 0;
}

/* One request over TCP with a good Host. @head: request line and headers after Host. */
static unsigned ask(const struct server *server, const char *line, const char *headers, const char *body,
                    char *ret_text)
{
    char text[1024];
    int fd = connect_tcp(server);
    int length = snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%s\r\n%s", line,
                          (unsigned)server->address.port, headers, body);
    send_all(fd, text, (size_t)length);
    unsigned status = read_answer(fd, ret_text);
    close(fd);
    return status;
}

/* ---- tests --------------------------------------------------------------------------------------------------------- */

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
#define SERVED(test) cmocka_unit_test_setup_teardown(test, start, stop)
    const struct CMUnitTest tests[] = {
        SERVED(every_answer_carries_the_safety_headers),
        SERVED(methods_head_and_options_behave),
        SERVED(tcp_needs_a_token_and_our_own_name),
        SERVED(a_malformed_request_is_refused_and_its_connection_closed),
        SERVED(bodies_arrive_whole_in_one_piece_or_in_many),
        SERVED(a_body_that_is_too_large_is_413_however_it_is_framed),
        SERVED(headers_that_are_too_large_are_431),
        SERVED(a_body_where_none_is_expected_is_refused),
        SERVED(the_unix_socket_needs_no_token_from_its_own_user),
        SERVED(a_request_whose_connection_brings_nothing_more_is_answered),
        SERVED(a_body_that_ends_early_ends_the_connection),
        SERVED(connections_that_say_little_do_not_hold_others_up),
        SERVED(streams_stay_open_and_end_with_the_server_or_the_client),
        SERVED(a_server_stops_while_clients_are_connected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

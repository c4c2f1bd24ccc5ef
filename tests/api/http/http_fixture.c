#include "tests/api/http/http_fixture.h"

#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/cmocka.h"

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

int http_fixture_start(void **state)
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

int http_fixture_stop(void **state)
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

int connect_tcp(const struct server *server)
{
    const struct sockaddr_in name = {
        .sin_family = AF_INET, .sin_port = htons(server->address.port), .sin_addr.s_addr = htonl(server->address.ip)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&name, sizeof name), 0);
    return fd;
}

int connect_unix(const struct server *server)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s", server->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&name, sizeof name), 0);
    return fd;
}

void send_all(int fd, const char *bytes, size_t length)
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
unsigned read_answer(int fd, char *ret_text)
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

bool is_closed(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char byte;
    return poll(&ready, 1, WAIT_MS) == 1 && recv(fd, &byte, 1, 0) <= 0;
}

/* One request over TCP with a good Host. @head: request line and headers after Host. */
unsigned ask(const struct server *server, const char *line, const char *headers, const char *body, char *ret_text)
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

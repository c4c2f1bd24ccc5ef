/* Any bytes on a connection of a real server, and then the end of what is sent: it answers with a status line or closes, without
 * waiting for more, and the next client, who behaves, is answered all the same. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/http/http.h"
#include "tests/fuzz/fuzz.h"

enum { ANSWER_BYTES = 65536, WAIT_MS = HTTP_IDLE_S * 1000 - 2000 /* whoever waits for more is seen */ };

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
    response_json(response, 200, json_pack("{s:I}", "sum", (json_int_t)sum));
}

static const struct route routes[] = {
    {REQUEST_GET, "/hello", ROUTE_OPEN, false, NULL, "application/json", say_hello},
    {REQUEST_GET, "/v1/leases/{id}", ROUTE_OPEN, false, NULL, "application/json", say_hello},
    {REQUEST_POST, "/body", ROUTE_OPEN, true, NULL, "application/json", count_body},
    {.pattern = NULL},
};

/** struct server - One for the whole run: what an input leaves behind, the next one meets. */
struct server {
    char dir[40];
    char path[64];
    struct tokens tokens;
    struct streams *streams;
    struct http *http;
};

static struct server server;

static void stop(void)
{
    http_stop(server.http);
    streams_close(server.streams);
    tokens_done(&server.tokens);
    unlink(server.path);
    rmdir(server.dir);
}

static void start(void)
{
    struct error err = {0};
    snprintf(server.dir, sizeof server.dir, "/tmp/omertad-fuzz-XXXXXX");
    EXPECT(mkdtemp(server.dir) != NULL);
    snprintf(server.path, sizeof server.path, "%s/s", server.dir);
    struct token_list list = {.count = 1, .entries = {{.name = "test", .scope = TOKEN_READ}}};
    token_from_text("omt_good", 8, &list.entries[0].token);
    tokens_init(&server.tokens, &list);
    EXPECT(streams_open(NULL, &server.streams, &err) == 0);
    const struct http_config config = {
        .routes = routes,
        .tokens = &server.tokens,
        .streams = server.streams,
        .unix_fd = listen_unix(server.path, &err),
        .tcp_fd = -1,
    };
    EXPECT(config.unix_fd >= 0 && http_start(&config, &server.http, &err) == 0);
    EXPECT(atexit(stop) == 0);
}

static int connect_to(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s", server.path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT(fd >= 0 && connect(fd, (const struct sockaddr *)&name, sizeof name) == 0);
    return fd;
}

/* Whether there is something to read, or the end of it. The fuzzer's own alarm is no answer. */
static bool is_answered(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    int count;
    do
        count = poll(&ready, 1, WAIT_MS);
    while (count < 0 && errno == EINTR);
    return count > 0;
}

/* Send all, say that this was all, read to the end. Return: bytes of the answer, terminated */
static size_t exchange(const uint8_t *bytes, size_t length, char *ret_answer)
{
    const int fd = connect_to();
    size_t sent = 0;
    while (sent < length) {
        const ssize_t some = send(fd, bytes + sent, length - sent, MSG_NOSIGNAL);
        if (some <= 0)
            break; /* the server has closed; its answer tells why */
        sent += (size_t)some;
    }
    (void)shutdown(fd, SHUT_WR);
    size_t used = 0;
    ssize_t some = 1;
    while (some > 0 && used < ANSWER_BYTES - 1) {
        EXPECT(is_answered(fd));
        some = recv(fd, ret_answer + used, ANSWER_BYTES - 1 - used, 0);
        used += some > 0 ? (size_t)some : 0;
    }
    ret_answer[used] = '\0';
    close(fd);
    return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const char good[] = "GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    static char answer[ANSWER_BYTES];
    if (server.http == NULL)
        start();
    const size_t answered = exchange(bytes, length, answer);
    EXPECT(answered == 0 || strncmp(answer, "HTTP/1.", 7) == 0);
    (void)exchange((const uint8_t *)good, sizeof good - 1, answer);
    EXPECT(strncmp(answer, "HTTP/1.1 200", 12) == 0);
    return 0;
}

#include "api/command/client.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/cmocka.h"

enum {
    PATH_BYTES = 64,
    HEARD_BYTES = 4096,
    SHORT_MS = 200,
    LONG_MS = 10000,
};

/* A server of one connection that says @answer, whatever it hears. */
struct server {
    char dir[PATH_BYTES];
    char path[PATH_BYTES + 8];
    int fd;
    const char *answer;
    size_t answer_bytes;
    bool silent; /* keeps the connection and says nothing */
    char heard[HEARD_BYTES];
    pthread_t thread;
};

static void *serve(void *context)
{
    struct server *server = context;
    int peer = accept(server->fd, NULL, NULL);
    size_t length = 0;
    ssize_t got = 1;
    /* A request of the tests is whole with the end of its headers or of its JSON. */
    while (got > 0 && length < HEARD_BYTES - 1 && strstr(server->heard, "\r\n\r\n") == NULL) {
        got = recv(peer, server->heard + length, HEARD_BYTES - 1 - length, 0);
        length += got > 0 ? (size_t)got : 0;
    }
    if (strstr(server->heard, "Content-Length") != NULL && server->heard[length - 1] != '}')
        recv(peer, server->heard + length, HEARD_BYTES - 1 - length, 0);
    size_t sent = 0;
    while (!server->silent && sent < server->answer_bytes) {
        ssize_t more = send(peer, server->answer + sent, server->answer_bytes - sent, MSG_NOSIGNAL);
        if (more <= 0)
            break;
        sent += (size_t)more;
    }
    char byte;
    if (server->silent)
        recv(peer, &byte, 1, 0); /* until the client gives up */
    close(peer);
    return NULL;
}

static void server_start(struct server *server, const char *answer, size_t bytes)
{
    *server = (struct server){.dir = "/tmp/omertad-client-XXXXXX", .answer = answer, .answer_bytes = bytes};
    assert_non_null(mkdtemp(server->dir));
    snprintf(server->path, sizeof server->path, "%s/s", server->dir);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", server->path);
    server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server->fd, 1), 0);
    server->silent = answer == NULL;
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void server_stop(struct server *server)
{
    pthread_join(server->thread, NULL);
    close(server->fd);
    unlink(server->path);
    rmdir(server->dir);
}

static int ask(const char *answer, size_t bytes, struct client_answer *ret_answer, struct error *err)
{
    static const struct client_request request = {.method = "GET", .path = "/v1/node"};
    struct server server;
    server_start(&server, answer, bytes);
    int result = client_send(server.path, &request, answer == NULL ? SHORT_MS : LONG_MS, ret_answer, err);
    server_stop(&server);
    return result;
}

static void a_request_and_its_answer_are_whole(void **state)
{
    (void)state;
    static const char said[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 11\r\n\r\n{\"id\":\"a\"}\n";
    const struct client_request request = {.method = "POST",
                                           .path = "/v1/leases?dry_run=true",
                                           .headers = "X-Note: 1\r\n",
                                           .body = "{\"image\":\"micro\"}"};
    struct client_answer answer = {0};
    struct error err = {0};
    struct server server;
    server_start(&server, said, sizeof said - 1);
    assert_int_equal(client_send(server.path, &request, LONG_MS, &answer, &err), 0);
    server_stop(&server);
    assert_int_equal(answer.status, 202);
    assert_string_equal(json_string_value(json_object_get(answer.json, "id")), "a");
    client_answer_done(&answer);
    assert_string_equal(server.heard, "POST /v1/leases?dry_run=true HTTP/1.0\r\nHost: localhost\r\n"
                                      "Content-Type: application/json\r\nContent-Length: 17\r\nX-Note: 1\r\n\r\n"
                                      "{\"image\":\"micro\"}");
}

static void a_body_that_is_no_json_leaves_the_status(void **state)
{
    (void)state;
    static const char said[] = "HTTP/1.0 204 No Content\r\n\r\n";
    struct client_answer answer = {0};
    struct error err = {0};
    assert_int_equal(ask(said, sizeof said - 1, &answer, &err), 0);
    assert_int_equal(answer.status, 204);
    assert_null(answer.json);
    client_answer_done(&answer);
}

static void what_is_not_http_is_refused(void **state)
{
    (void)state;
    static const char *const said[] = {
        "",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nno end",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        struct client_answer answer = {0};
        struct error err = {0};
        int result = ask(said[i], strlen(said[i]), &answer, &err);
        if (result != -EPROTO)
            fail_msg("\"%s\": %d", said[i], result);
        assert_non_null(strstr(err.message, "does not speak HTTP"));
    }
}

static void an_answer_without_end_is_cut(void **state)
{
    (void)state;
    size_t bytes = (size_t)CLIENT_BODY_BYTES * 4;
    char *said = malloc(bytes);
    struct client_answer answer = {0};
    struct error err = {0};
    assert_non_null(said);
    memset(said, 'x', bytes);
    assert_int_equal(ask(said, bytes, &answer, &err), -EPROTO);
    free(said);
}

static void a_daemon_that_is_silent_is_not_waited_for(void **state)
{
    (void)state;
    struct client_answer answer = {0};
    struct error err = {0};
    assert_int_equal(ask(NULL, 0, &answer, &err), -ETIMEDOUT);
}

static void a_daemon_that_is_not_there_is_told(void **state)
{
    (void)state;
    const struct client_request request = {.method = "GET", .path = "/"};
    struct client_answer answer = {0};
    struct error err = {0};
    char long_path[200];
    memset(long_path, 'a', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    assert_int_equal(client_send("/nowhere/omertad.sock", &request, LONG_MS, &answer, &err), -ENOENT);
    assert_string_equal(err.message, "No daemon listens at /nowhere/omertad.sock: No such file or directory.");
    assert_int_equal(client_send(long_path, &request, LONG_MS, &answer, &err), -ENAMETOOLONG);
}

static void a_head_is_taken_when_it_is_whole(void **state)
{
    (void)state;
    static const char head[] = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    unsigned status = 0;
    for (size_t length = 0; length < sizeof head - 1; length++)
        assert_int_equal(client_parse_head(head, length, &status), 0);
    assert_int_equal(status, 0);
    assert_int_equal(client_parse_head(head, sizeof head - 1, &status), sizeof head - 1);
    assert_int_equal(status, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_and_its_answer_are_whole),
        cmocka_unit_test(a_body_that_is_no_json_leaves_the_status),
        cmocka_unit_test(what_is_not_http_is_refused),
        cmocka_unit_test(an_answer_without_end_is_cut),
        cmocka_unit_test(a_daemon_that_is_silent_is_not_waited_for),
        cmocka_unit_test(a_daemon_that_is_not_there_is_told),
        cmocka_unit_test(a_head_is_taken_when_it_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

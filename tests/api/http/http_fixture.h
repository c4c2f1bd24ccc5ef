/* What the tests of the HTTP server share: a server with trivial handlers, and a client that sends what it likes. */
#ifndef TESTS_API_HTTP_HTTP_FIXTURE_H
#define TESTS_API_HTTP_HTTP_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>

#include "api/http/http.h"

enum http_fixture_limits {
    ANSWER_BYTES = 8192,
    WAIT_MS = 20000, /* a sanitizer on a busy machine is slow */
};

/* Owner: the test, from http_fixture_start() to http_fixture_stop(). Its token is "omt_good", to read. */
struct server {
    struct tokens tokens;
    struct listen_address address;
    char dir[40];
    char path[64];
    struct streams *streams;
    struct http *http;
};

/* For cmocka_unit_test_setup_teardown(). */
int http_fixture_start(void **state);
int http_fixture_stop(void **state);

/* Return: a connected socket; the caller's. */
int connect_tcp(const struct server *server);
int connect_unix(const struct server *server);

/* Sends all of it, or as much as the server takes. */
void send_all(int fd, const char *bytes, size_t length);

/* Reads until there is one whole answer, or the end. @ret_text: ANSWER_BYTES. Return: its status, 0 for none. */
unsigned read_answer(int fd, char *ret_text);

/* Whether the server has closed the connection, or does so within WAIT_MS. */
bool is_closed(int fd);

/* One request over TCP with a good Host. @line: as "GET /hello"; @headers: whole lines. Return: the status. */
unsigned ask(const struct server *server, const char *line, const char *headers, const char *body, char *ret_text);

#endif

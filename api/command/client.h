/* Requests of our own to a daemon on this machine, over its unix socket. */
#ifndef API_COMMAND_CLIENT_H
#define API_COMMAND_CLIENT_H

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"

enum client_limits {
    CLIENT_PATH_BYTES = 512,            /* a path of the API with its query */
    CLIENT_HEADER_BYTES = 512,          /* what a caller adds */
    CLIENT_BODY_BYTES = 4 * 1024 * 1024 /* an answer; the largest page of a list is a tenth of it */
};

/** struct client_request - What is asked. Strings are the caller's. */
struct client_request {
    const char *method;
    const char *path;    /* begins with a slash */
    const char *headers; /* lines that end with \r\n; NULL for none */
    const char *body;    /* JSON; NULL for none */
};

/** struct client_answer - What came back. Owner: the caller, until client_answer_done(). */
struct client_answer {
    unsigned status;
    json_t *json; /* NULL when the body is not JSON */
};

/**
 * client_send() - Ask once, on a connection of its own
 * @socket_path: the daemon's socket
 * @timeout_ms:  for each wait; a daemon answers within some milliseconds
 * Return:       0 for an answer of any status; -ECONNREFUSED or -ENOENT when no daemon listens; -ETIMEDOUT; -EPROTO when
 *               the answer is not HTTP or is too long; or what the system said
 * Thread:       any
 */
int client_send(const char *socket_path, const struct client_request *request, int timeout_ms,
                struct client_answer *ret_answer, struct error *err);

/** client_answer_done() - Free it. Thread: the owner */
void client_answer_done(struct client_answer *answer);

/**
 * client_connect() - Connect, send a request and leave the answer to be read
 * Return: a descriptor owned by the caller; or negative, as client_send()
 * Thread: any
 */
int client_connect(const char *socket_path, const struct client_request *request, int timeout_ms, struct error *err);

/**
 * client_parse_head() - Take the status line and the end of the headers
 * @ret_status: status of the answer
 * Return:      bytes up to the body; 0 while there are too few; -EPROTO when this is not HTTP
 * Thread:      any
 */
long client_parse_head(const char *text, size_t length, unsigned *ret_status);

#endif

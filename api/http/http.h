/* The HTTP server. The only module that sees libmicrohttpd; everybody else has struct request and struct response. */
#ifndef API_HTTP_HTTP_H
#define API_HTTP_HTTP_H

#include "api/http/listen.h"
#include "api/http/observe.h"
#include "api/http/route.h"
#include "api/http/stream.h"
#include "api/http/token_set.h"
#include "base/error.h"

enum http_limits {
    HTTP_THREADS = 4,            /* per listener; a handler is one short transaction, and those share commits */
    HTTP_CONNECTIONS_MAX = 1024, /* of one library thread: never reached, because the roster's limits are below it */
    HTTP_IDLE_S = 10,            /* silence after which a connection ends */
    HTTP_MEMORY_BYTES = 32768,   /* of one connection: request line and headers twice over */
};

/**
 * struct http_config - What a server needs
 * @routes:  ended by a NULL pattern
 * @context: handed to every handler
 * @observer: notes every answer; outlives the server. NULL: nobody does
 * @tokens:  for the TCP listener; outlive the server
 * @streams: for answers that go on; ended by http_stop(), outlives the server
 * @unix_fd: listening socket, non-blocking, or -1
 * @tcp_fd:  as @unix_fd
 * @tcp:     the address of @tcp_fd, for the names that are ours
 */
struct http_config {
    const struct route *routes;
    void *context;
    struct observer *observer;
    struct tokens *tokens;
    struct streams *streams;
    int unix_fd;
    int tcp_fd;
    struct listen_address tcp;
};

struct http;

/**
 * http_start() - Begin to answer
 * @config:   both descriptors are the server's after success, and stay the caller's after failure
 * @ret_http: owned by the caller until http_stop()
 * Return:    0; -ENOMEM, -EIO when the library does not start
 * Thread:    any; handlers run on threads of their own
 */
int http_start(const struct http_config *config, struct http **ret_http, struct error *err);

/** http_stop() - Finish what is being answered, close, free. @http: NULL is allowed. Thread: the owner */
void http_stop(struct http *http);

#endif

/* A route: method, path pattern, who may ask, what it takes and gives; and how a table of them is searched. The service's
 * own table is api/resource/route_table.c. */
#ifndef API_HTTP_ROUTE_H
#define API_HTTP_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "api/http/request.h"
#include "api/http/response.h"
#include "api/http/token_set.h"

/** enum route_auth - The least scope of a caller's token over TCP. Over the unix socket the peer's uid stands for all. */
enum route_auth {
    ROUTE_ADMIN, /* zero, so that a forgotten one is the strictest */
    ROUTE_LEASE,
    ROUTE_READ,
    ROUTE_OPEN, /* no token at all */
};

/** route_scope() - The scope that an auth stands for. @auth: not ROUTE_OPEN. Thread: any */
enum token_scope route_scope(enum route_auth auth);

/**
 * route_handler - Answer one request
 * @context: the server's, as given to http_start()
 *
 * Runs on a thread of the HTTP pool: one short transaction or one posted command, and never a wait for a machine.
 */
typedef void (*route_handler)(void *context, const struct request *request, struct response *response);

/**
 * struct route - One operation
 * @method:   never HEAD or OPTIONS; those follow from the table
 * @pattern:  segments, or {name} for any one segment that is not empty
 * @query:    names of the query parameters that it takes, separated by spaces; NULL for none
 * @produces: media types of its success separated by spaces, for the Accept header; the first is the default, and
 *            text/event-stream is what it answers with when the client names that and not the first
 */
struct route {
    enum request_method method;
    const char *pattern;
    enum route_auth auth;
    bool takes_body;
    const char *query;
    const char *produces;
    route_handler handler;
};

#define ROUTE_STREAM "text/event-stream"

/**
 * struct route_match - What a table says about a request
 * @route:      NULL when there is none for this method
 * @path_known: some route has the path
 * @allowed:    bit 1 << method for each method that the path takes, HEAD and OPTIONS included
 */
struct route_match {
    const struct route *route;
    bool path_known;
    unsigned allowed;
};

/**
 * route_match() - Find the route of a request; HEAD finds GET's
 * @request: parameters are filled from the matched pattern
 * Thread:   any
 */
struct route_match route_match(const struct route *table, struct request *request);

enum route_limits {
    ROUTE_ALLOW_BYTES = 64,      /* every method's name with commas */
    ROUTE_MEDIA_TYPE_BYTES = 64, /* the longest of ours has 26 */
};

/** route_allow_header() - "GET, HEAD, OPTIONS". Return: @ret_text. Thread: any */
const char *route_allow_header(unsigned allowed, char ret_text[static ROUTE_ALLOW_BYTES]);

/** route_takes_key() - Whether an Idempotency-Key is kept for the operation: where doing it twice makes two. Thread: any */
bool route_takes_key(const struct route *route);

/** route_takes_query() - Whether the route lists this query parameter. Thread: any */
bool route_takes_query(const struct route *route, const char *name);

#endif

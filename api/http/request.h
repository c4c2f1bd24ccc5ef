/* One HTTP request as plain values: what the handlers see. Nothing here knows the HTTP library. */
#ifndef API_HTTP_REQUEST_H
#define API_HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/http/trace.h"
#include "base/error.h"
#include "base/id.h"

enum request_limits {
    REQUEST_TARGET_BYTES = 2048, /* the longest of ours is below 300 */
    REQUEST_SEGMENTS_MAX = 8,    /* the deepest of our paths has 4 */
    REQUEST_PARAMETERS_MAX = 2,  /* {name} parts of one pattern */
    REQUEST_QUERY_MAX = 8,       /* more than any route takes */
    REQUEST_BODY_BYTES = 262144, /* the contract's 256 KiB */
};

enum request_method {
    REQUEST_GET,
    REQUEST_HEAD,
    REQUEST_POST,
    REQUEST_PUT,
    REQUEST_PATCH,
    REQUEST_DELETE,
    REQUEST_OPTIONS,
    REQUEST_OTHER,
    REQUEST_METHOD_COUNT,
};

/** struct request_pair - One query parameter, decoded. Owner: the request it stands in. */
struct request_pair {
    const char *name;
    const char *value;
};

/**
 * struct request - What was asked
 * @id:         made here; told in the answer's X-Request-Id and in the log
 * @trace:      the caller's
 * @instance:   the path as it came, without the query; for problem documents
 * @parameters: the {name} parts of the matched route, in their order; set by route_match()
 * @wants_stream: the client prefers text/event-stream, and the route has it
 * @body:       @body_bytes of it, or NULL; followed by nothing
 *
 * Owner: the HTTP layer, for the time of the exchange. Header values are NULL where the header was absent.
 */
struct request {
    struct id id;
    struct trace trace;
    enum request_method method;
    char instance[REQUEST_TARGET_BYTES];
    char decoded[REQUEST_TARGET_BYTES];
    size_t segment_count;
    const char *segments[REQUEST_SEGMENTS_MAX];
    size_t parameter_count;
    const char *parameters[REQUEST_PARAMETERS_MAX];
    size_t query_count;
    struct request_pair query[REQUEST_QUERY_MAX];
    const char *idempotency_key;
    const char *if_match;
    const char *if_none_match;
    const char *last_event_id;
    const char *range;
    bool wants_stream;
    const uint8_t *body;
    size_t body_bytes;
};

/** request_method_parse() - From the request line. Return: REQUEST_OTHER for what we do not know. Thread: any */
enum request_method request_method_parse(const char *name);

/** request_method_name() - "GET" and so on. Thread: any */
const char *request_method_name(enum request_method method);

/**
 * request_parse_target() - Take a request target apart: path segments and query parameters, percent-decoded once
 * @request: instance, decoded, segments and query are filled; all of them empty on failure
 * @target:  origin form, as it stood in the request line
 * Return:   0; -EINVAL not origin form, a bad escape, a control byte, a NUL, too many parts; -ENAMETOOLONG
 * Thread:   any
 * Source:   RFC 9112 section 3.2.1, RFC 3986 section 2.1. A slash that was escaped stays inside its segment.
 */
int request_parse_target(struct request *request, const char *target, struct error *err);

/** request_query() - Value of a query parameter. Return: NULL when it was not given. Thread: any */
const char *request_query(const struct request *request, const char *name);

#endif

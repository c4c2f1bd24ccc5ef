/* One HTTP response as plain values: what the handlers make. */
#ifndef API_HTTP_RESPONSE_H
#define API_HTTP_RESPONSE_H

#include <jansson.h>
#include <stddef.h>

#include "api/http/stream.h"

enum response_limits {
    RESPONSE_HEADERS_MAX = 4,          /* Location, ETag, Allow, Retry-After ... */
    RESPONSE_HEADER_VALUE_BYTES = 128, /* the longest is an Allow list */
    RESPONSE_SMALL_BYTES = 1024,       /* a problem document without a list of errors */
};

/** struct response_header - One header that is not of every response. */
struct response_header {
    const char *name; /* static */
    char value[RESPONSE_HEADER_VALUE_BYTES];
};

/**
 * struct response - What is answered
 * @content_type: static; NULL when there is no body
 * @release:      frees @body once it was sent; NULL for bytes that outlive every response
 * @stream:       what follows instead of a body; its @read is NULL when nothing does
 *
 * Owner: the HTTP layer; begins as {0}.
 */
struct response {
    unsigned status;
    const char *content_type;
    const void *body;
    size_t body_bytes;
    void (*release)(void *body);
    struct stream_source stream;
    size_t header_count;
    struct response_header headers[RESPONSE_HEADERS_MAX];
};

/** response_empty() - A status without a body. Thread: the exchange's */
void response_empty(struct response *response, unsigned status);

/** response_static() - Bytes that outlive every response. Thread: the exchange's */
void response_static(struct response *response, unsigned status, const char *content_type, const void *bytes,
                     size_t length);

/**
 * response_take() - Bytes that the response owns from now on
 * @release: called with @bytes when they are sent or given up
 * Thread:   the exchange's
 */
void response_take(struct response *response, unsigned status, const char *content_type, void *bytes, size_t length,
                   void (*release)(void *));

/**
 * response_json() - A JSON document
 * @json:  taken; NULL (no memory while it was built) makes the answer a 500 problem
 * Thread: the exchange's
 */
void response_json(struct response *response, unsigned status, json_t *json);

/** response_json_as() - As response_json() with a media type of its own. @content_type: static */
void response_json_as(struct response *response, unsigned status, const char *content_type, json_t *json);

/**
 * response_stream() - Status 200, and bytes as they come until one side ends it
 * @source: taken
 * Thread:  the exchange's
 */
void response_stream(struct response *response, const char *content_type, const struct stream_source *source);

/** response_header() - Add a header. @name: static. Thread: the exchange's */
void response_header(struct response *response, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** response_done() - Free what it holds; it may be filled again. Thread: the exchange's */
void response_done(struct response *response);

#endif

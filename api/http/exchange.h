/* One request and its response on their way through the server: what of it does not need the HTTP library. */
#ifndef API_HTTP_EXCHANGE_H
#define API_HTTP_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/http/admission.h"

struct listener;
struct MHD_Connection;

enum exchange_limits {
    EXCHANGE_DISCARD_BYTES = 1048576, /* of a body that is refused; past it the connection is cut */
};

/** struct exchange - From the request line until all is sent. Owner: the library's thread of its connection. */
struct exchange {
    uint64_t begun_us;
    char target[REQUEST_TARGET_BYTES + 1]; /* one byte more than allowed, so that too long is seen */
    bool admitted;                         /* admission has decided */
    bool must_close;
    bool streamed;                      /* nothing is left but to close */
    const struct route *route;          /* NULL: the response is there already */
    const struct route *admitted_route; /* as @route was at first */
    struct token token;                 /* that was shown */
    const struct listener *listener;
    struct MHD_Connection *connection;
    size_t discarded;
    struct header_fields fields;
    struct request request;
    struct response response;
    uint8_t *body;
    size_t body_capacity;
};

/** exchange_new() - Begin one. @uri: the target as it came. Return: NULL without memory. Thread: any */
struct exchange *exchange_new(const char *uri);

/** exchange_free() - End it and wipe its body. @exchange: NULL is allowed. Thread: its own */
void exchange_free(struct exchange *exchange);

/** exchange_take_body() - Add one piece to the body. Return: false when the connection has to be cut. Thread: its own */
bool exchange_take_body(struct exchange *exchange, const char *bytes, size_t length);

/** exchange_body_is_whole() - Whether all that was announced has come, so that it is our turn. Thread: its own */
bool exchange_body_is_whole(const struct exchange *exchange);

/**
 * exchange_may_answer_early() - Whether a refusal goes out before the body has come
 *
 * A client that still sends when the connection closes may never read the answer, so a body of a bearable length is read
 * first and thrown away.
 *
 * Thread: its own
 */
bool exchange_may_answer_early(const struct exchange *exchange);

#endif

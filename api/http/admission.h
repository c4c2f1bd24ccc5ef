/* Whether a request may reach its handler: header hygiene, names, origin, route, token, media types, body length. All
 * of it before a byte of the body is read, and none of it knows the HTTP library. */
#ifndef API_HTTP_ADMISSION_H
#define API_HTTP_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/http/request.h"
#include "api/http/response.h"
#include "api/http/route.h"
#include "api/http/token.h"

enum admission_limits {
    ADMISSION_NAMES_MAX = 3, /* the bound address, localhost, and room for one more */
    ADMISSION_NAME_BYTES = 64,
};

/**
 * struct header_fields - The headers that matter, as they came
 * @repeated:  static name of a header that stands twice though it must not, or NULL
 * @malformed: some header's name or value breaks RFC 9110 section 5
 *
 * Values are the HTTP layer's and live as long as the exchange. Begins as {0}.
 */
struct header_fields {
    const char *host;
    const char *origin;
    const char *content_length;
    const char *transfer_encoding;
    const char *authorization;
    const char *content_type;
    const char *accept;
    const char *idempotency_key;
    const char *if_match;
    const char *if_none_match;
    const char *last_event_id;
    const char *range;
    const char *expect;
    const char *traceparent;
    const char *repeated;
    bool malformed;
};

/**
 * header_fields_add() - Take one header
 * @value: NULL counts as empty
 * Thread: the exchange's
 */
void header_fields_add(struct header_fields *fields, const char *name, const char *value);

/** header_fields_have_end() - Whether the end of what follows can be found: its coding, if any, is ours. Thread: any */
bool header_fields_have_end(const struct header_fields *fields);

/** header_fields_have_body() - Whether the headers announce a body. Thread: any */
bool header_fields_have_body(const struct header_fields *fields);

/**
 * struct admission - What one listener admits
 * @check_peer: the unix listener: the peer's uid is looked at, and no name or token
 * @names:      the TCP listener: "host:port" forms that are ours, lower case
 *
 * Owner: the HTTP server.
 */
struct admission {
    const struct route *routes;
    bool check_peer;
    size_t name_count;
    char names[ADMISSION_NAMES_MAX][ADMISSION_NAME_BYTES];
    struct tokens *tokens;
    struct token_limiter *limiter;
};

/**
 * struct admitted - The outcome
 * @route:      the handler to run, or NULL when @response was filled already
 * @token:      what was shown, when it was looked at; all zero else
 * @must_close: the peer may not be trusted to know where its request ends
 */
struct admitted {
    const struct route *route;
    struct token token;
    bool must_close;
};

/**
 * admission_decide() - Judge a request by its line and headers
 * @target:   request target as it came
 * @peer_uid: of the unix socket's other end; ignored on TCP
 * @request:  method set; the rest is filled
 * @response: filled when the request goes no further
 * Thread:    any
 */
struct admitted admission_decide(const struct admission *admission, const char *target,
                                 const struct header_fields *fields, uint32_t peer_uid, struct request *request,
                                 struct response *response);

/** admission_allows() - Whether a token's owner may use a route at this moment. Thread: any */
bool admission_allows(const struct admission *admission, const struct route *route, const struct token *token);

/** media_type_is_json() - "application/json", at most with charset=utf-8. Thread: any */
bool media_type_is_json(const char *content_type);

/** accept_allows() - Whether an Accept header (NULL: absent) allows a media type. Thread: any */
bool accept_allows(const char *accept, const char *media_type);

/** accept_names() - Whether an Accept header (NULL: absent) allows a media type by its full name. Thread: any */
bool accept_names(const char *accept, const char *media_type);

#endif

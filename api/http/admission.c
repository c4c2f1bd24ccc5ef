#include "api/http/admission.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "api/http/idempotency.h"
#include "api/http/problem.h"
#include "base/clock.h"

/* ---- headers --------------------------------------------------------------------------------------------------- */

static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool well_formed(const char *name, const char *value)
{
    if (name[0] == '\0')
        return false;
    for (; *name != '\0'; name++) {
        if (!is_token_char(*name))
            return false;
    }
    for (; *value != '\0'; value++) {
        unsigned char c = (unsigned char)*value;
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

void header_fields_add(struct header_fields *fields, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **place;
        bool once;
    } known[] = {
        {"Host", &fields->host, true},
        {"Origin", &fields->origin, true},
        {"Content-Length", &fields->content_length, true},
        {"Transfer-Encoding", &fields->transfer_encoding, true},
        {"Authorization", &fields->authorization, true},
        {"Content-Type", &fields->content_type, true},
        {"Idempotency-Key", &fields->idempotency_key, true},
        {"If-Match", &fields->if_match, true},
        {"If-None-Match", &fields->if_none_match, true},
        {"Last-Event-ID", &fields->last_event_id, true},
        {"Range", &fields->range, true},
        {"Expect", &fields->expect, true},
        {"Accept", &fields->accept, false},
        {"traceparent", &fields->traceparent, false},
    };
    value = value == NULL ? "" : value;
    if (!well_formed(name, value))
        fields->malformed = true;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcasecmp(name, known[i].name) != 0)
            continue;
        if (*known[i].place != NULL && known[i].once)
            fields->repeated = known[i].name;
        /* Several Accept lines are one list; rather than join them, accept anything. Several traces are
         * none. */
        *known[i].place = *known[i].place != NULL && !known[i].once ? "*/*" : value;
    }
}

bool header_fields_have_body(const struct header_fields *fields)
{
    return fields->transfer_encoding != NULL ||
           (fields->content_length != NULL && strspn(fields->content_length, "0") != strlen(fields->content_length));
}

bool header_fields_have_end(const struct header_fields *fields)
{
    return fields->transfer_encoding == NULL || strcasecmp(fields->transfer_encoding, "chunked") == 0;
}

static size_t token_span(const char *text)
{
    size_t length = 0;
    while (is_token_char(text[length]))
        length++;
    return length;
}

/* uri-host [ ":" port ], RFC 9110 section 7.2: whose name it is comes later. */
static bool host_is_formed(const char *host)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%!$&'()*+,;=";
    size_t name = strspn(host, letters);
    if (host[0] == '[')
        name = 1 + strspn(host + 1, "0123456789abcdefABCDEF:.") + 1;
    if (name == 0 || strlen(host) < name || (host[0] == '[' && host[name - 1] != ']'))
        return false;
    const char *port = host + name;
    return *port == '\0' || (*port == ':' && strspn(port + 1, "0123456789") == strlen(port + 1));
}

/* type "/" subtype, and parameters after a semicolon; RFC 9110 section 8.3.1 */
static bool content_type_is_formed(const char *type)
{
    size_t first = token_span(type);
    if (first == 0 || type[first] != '/')
        return false;
    size_t second = token_span(type + first + 1);
    const char *rest = type + first + 1 + second;
    rest += strspn(rest, " \t");
    return second > 0 && (*rest == '\0' || *rest == ';');
}

/* A scheme, and for a bearer one token and no more; RFC 6750 section 2.1 */
static bool authorization_is_formed(const char *value)
{
    static const char bearer[] = "Bearer ";
    size_t scheme = token_span(value);
    if (scheme == 0 || (value[scheme] != '\0' && value[scheme] != ' '))
        return false;
    if (strncasecmp(value, bearer, sizeof bearer - 1) != 0)
        return true;
    const char *token = value + sizeof bearer - 1;
    size_t length = strspn(token, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/");
    return length > 0 && strspn(token + length, "=") == strlen(token + length);
}

/* What is wrong with the headers as such, or NULL. */
static const char *hygiene_fault(const struct admission *admission, const struct header_fields *fields)
{
    if (fields->malformed)
        return "A header's name or value holds a byte that must not stand there.";
    const char *length = fields->content_length;
    if (length != NULL && (length[0] == '\0' || strspn(length, "0123456789") != strlen(length)))
        return "Content-Length must be a decimal number.";
    if (length != NULL && fields->transfer_encoding != NULL)
        return "Content-Length and Transfer-Encoding exclude each other.";
    if (!header_fields_have_end(fields))
        return "The only transfer coding is chunked.";
    if (fields->host == NULL && !admission->check_peer)
        return "The Host header is missing.";
    if (fields->host != NULL && !admission->check_peer && !host_is_formed(fields->host))
        return "Host must be a name or an address, with a port at most.";
    if (fields->content_type != NULL && !content_type_is_formed(fields->content_type))
        return "Content-Type must be a media type.";
    if (fields->authorization != NULL && !authorization_is_formed(fields->authorization))
        return "Authorization must be a scheme and one token.";
    return NULL;
}

/* ---- names ----------------------------------------------------------------------------------------------------- */

static bool is_own_name(const struct admission *admission, const char *host)
{
    for (size_t i = 0; i < admission->name_count; i++) {
        if (strcasecmp(host, admission->names[i]) == 0)
            return true;
    }
    return false;
}

static bool is_own_origin(const struct admission *admission, const char *origin)
{
    static const char scheme[] = "http://";
    return strncmp(origin, scheme, sizeof scheme - 1) == 0 && is_own_name(admission, origin + sizeof scheme - 1);
}

/* ---- media types ----------------------------------------------------------------------------------------------- */

static const char *skip_space(const char *text)
{
    return text + strspn(text, " \t");
}

bool media_type_is_json(const char *content_type)
{
    static const char json[] = "application/json";
    static const char charset[] = "charset=";
    if (content_type == NULL || strncasecmp(content_type, json, sizeof json - 1) != 0)
        return false;
    const char *rest = skip_space(content_type + sizeof json - 1);
    if (*rest == '\0')
        return true;
    if (*rest != ';')
        return false;
    rest = skip_space(rest + 1);
    if (strncasecmp(rest, charset, sizeof charset - 1) != 0)
        return false;
    rest += sizeof charset - 1;
    return strcasecmp(rest, "utf-8") == 0 || strcasecmp(rest, "\"utf-8\"") == 0;
}

/* Whether a media range without parameters ("text/html", "text" wildcard, full wildcard) covers a media type. */
static bool range_covers(const char *range, size_t length, const char *media_type)
{
    if (length == 3 && memcmp(range, "*/*", 3) == 0)
        return true;
    size_t type = strcspn(media_type, "/") + 1;
    if (length == type + 1 && range[type] == '*' && strncasecmp(range, media_type, type) == 0)
        return true;
    return length == strlen(media_type) && strncasecmp(range, media_type, length) == 0;
}

/* Whether the parameters of a range give it weight zero: "not this". RFC 9110 section 12.4.2. */
static bool weight_is_zero(const char *parameters, size_t length)
{
    for (size_t i = 0; i + 2 < length; i++) {
        if ((parameters[i] == 'q' || parameters[i] == 'Q') && parameters[i + 1] == '=') {
            size_t zeros = i + 2;
            while (zeros < length && (parameters[zeros] == '0' || parameters[zeros] == '.'))
                zeros++;
            return zeros == length || parameters[zeros] == ' ' || parameters[zeros] == ';';
        }
    }
    return false;
}

/* Whether some range of an Accept header allows a media type. @by_name: wildcards do not count */
static bool some_range_allows(const char *accept, const char *media_type, bool by_name)
{
    for (const char *at = accept; *at != '\0';) {
        at = skip_space(at);
        size_t entry = strcspn(at, ",");
        size_t range = strcspn(at, ",; \t");
        bool considered = !by_name || memchr(at, '*', range) == NULL;
        if (considered && range_covers(at, range, media_type) && !weight_is_zero(at + range, entry - range))
            return true;
        at += entry;
        at += *at == ',' ? 1 : 0;
    }
    return false;
}

bool accept_allows(const char *accept, const char *media_type)
{
    return accept == NULL || *skip_space(accept) == '\0' || some_range_allows(accept, media_type, false);
}

bool accept_names(const char *accept, const char *media_type)
{
    return accept != NULL && some_range_allows(accept, media_type, true);
}

/* Whether a route has an answer that the client accepts, and which of two it is to be. */
static bool negotiate(const struct route *route, const char *accept, bool *ret_wants_stream)
{
    char first[ROUTE_MEDIA_TYPE_BYTES];
    size_t length = strcspn(route->produces, " ");
    REQUIRE(length < sizeof first);
    memcpy(first, route->produces, length);
    first[length] = '\0';
    bool streams = strcmp(route->produces + length, " " ROUTE_STREAM) == 0;
    *ret_wants_stream = streams && accept_names(accept, ROUTE_STREAM) && !accept_names(accept, first);
    return *ret_wants_stream || accept_allows(accept, first);
}

/* ---- the decision ---------------------------------------------------------------------------------------------- */

/* The token of an Authorization header. Return: false when it is not a bearer's */
static bool take_token(const char *authorization, struct token *ret_token)
{
    static const char scheme[] = "Bearer ";
    if (strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return false;
    const char *text = authorization + sizeof scheme - 1;
    token_from_text(text, strlen(text), ret_token);
    return true;
}

bool admission_allows(const struct admission *admission, const struct route *route, const struct token *token)
{
    enum token_scope scope;
    return admission->check_peer || route->auth == ROUTE_OPEN ||
           (tokens_find(admission->tokens, token, &scope) && scope >= route_scope(route->auth));
}

static void refuse_token(const struct admission *admission, const struct request *request, struct response *response)
{
    unsigned wait_s = token_limiter_fail(admission->limiter, clock_monotonic_ms());
    if (wait_s == 0) {
        problem_respond(response, request, PROBLEM_UNAUTHORIZED, "The token is none of this service.");
        return;
    }
    problem_respond(response, request, PROBLEM_TOO_MANY_FAILURES, "Too many wrong tokens within a minute.");
    response_header(response, "Retry-After", "%u", wait_s);
}

/* Who calls: a peer by its uid, or a client by its token. Return: true when it may. */
static bool caller_is_good(const struct admission *admission, const struct route *route,
                           const struct header_fields *fields, const struct request *request, struct response *response,
                           struct token *ret_token)
{
    enum token_scope scope;
    if (admission->check_peer || route->auth == ROUTE_OPEN)
        return true;
    if (fields->authorization == NULL) {
        problem_respond(response, request, PROBLEM_UNAUTHORIZED, "The request has no Authorization header.");
    } else if (!take_token(fields->authorization, ret_token) || !tokens_find(admission->tokens, ret_token, &scope)) {
        refuse_token(admission, request, response);
    } else if (scope < route_scope(route->auth)) {
        problem_respond(response, request, PROBLEM_INSUFFICIENT_SCOPE,
                        "The token has the scope \"%s\", and this operation needs \"%s\".", token_scope_name(scope),
                        token_scope_name(route_scope(route->auth)));
        response_header(response, "WWW-Authenticate", "Bearer error=\"insufficient_scope\", scope=\"%s\"",
                        token_scope_name(route_scope(route->auth)));
    } else {
        return true;
    }
    return false;
}

static bool query_is_good(const struct route *route, const struct request *request, struct response *response)
{
    for (size_t i = 0; i < request->query_count; i++) {
        if (!route_takes_query(route, request->query[i].name)) {
            problem_respond_query(response, request, request->query[i].name,
                                  "is no query parameter of this operation.");
            return false;
        }
    }
    return true;
}

static bool content_is_good(const struct route *route, const struct header_fields *fields, struct request *request,
                            struct response *response)
{
    bool has_body = header_fields_have_body(fields);
    /* Nine digits hold any length that is allowed, and never overflow. */
    const char *digits = fields->content_length == NULL ? "" : fields->content_length;
    digits += strspn(digits, "0");
    if (strlen(digits) > 9 || strtoul(digits, NULL, 10) > REQUEST_BODY_BYTES)
        problem_respond(response, request, PROBLEM_BODY_TOO_LARGE, "The body may have %d bytes.", REQUEST_BODY_BYTES);
    else if (has_body && !route->takes_body)
        problem_respond(response, request, PROBLEM_UNEXPECTED_BODY, "%s", "");
    else if (route->takes_body && !media_type_is_json(fields->content_type))
        problem_respond(response, request, PROBLEM_UNSUPPORTED_MEDIA_TYPE, "The body must be application/json.");
    else if (fields->idempotency_key != NULL && !route_takes_key(route))
        problem_respond(response, request, PROBLEM_IDEMPOTENCY_NOT_SUPPORTED, "%s", "");
    else if (fields->idempotency_key != NULL && !idempotency_key_valid(fields->idempotency_key))
        problem_respond(response, request, PROBLEM_IDEMPOTENCY_KEY_INVALID, "%s", "");
    else if (!negotiate(route, fields->accept, &request->wants_stream))
        problem_respond(response, request, PROBLEM_NOT_ACCEPTABLE, "This operation answers with %s.", route->produces);
    else
        return true;
    return false;
}

/* Who asks whom, before what is asked. Return: true when the request may go on; else it must be the connection's last. */
static bool channel_is_good(const struct admission *admission, const char *target, const struct header_fields *fields,
                            uint32_t peer_uid, struct request *request, struct response *response)
{
    struct error err = {0};
    int parsed = request_parse_target(request, target, &err);
    const char *fault = hygiene_fault(admission, fields);
    if (admission->check_peer && peer_uid != geteuid() && peer_uid != 0)
        problem_respond(response, request, PROBLEM_PEER_FORBIDDEN, "The peer's user id is %u.", (unsigned)peer_uid);
    else if (fields->repeated != NULL)
        problem_respond(response, request, PROBLEM_BAD_REQUEST, "The header %s stands twice.", fields->repeated);
    else if (fault != NULL)
        problem_respond(response, request, PROBLEM_BAD_REQUEST, "%s", fault);
    else if (!admission->check_peer && !is_own_name(admission, fields->host))
        problem_respond(response, request, PROBLEM_MISDIRECTED_REQUEST, "Use %s.", admission->names[0]);
    else if (fields->origin != NULL && !is_own_origin(admission, fields->origin))
        problem_respond(response, request, PROBLEM_ORIGIN_FORBIDDEN, "%s", "");
    else if (fields->expect != NULL && strcasecmp(fields->expect, "100-continue") != 0)
        problem_respond(response, request, PROBLEM_EXPECTATION_FAILED, "%s", "");
    else if (parsed == -ENAMETOOLONG)
        problem_respond(response, request, PROBLEM_TARGET_TOO_LONG, "%s", err.message);
    else if (parsed != 0)
        problem_respond(response, request, PROBLEM_BAD_REQUEST, "%s", err.message);
    else
        return true;
    return false;
}

struct admitted admission_decide(const struct admission *admission, const char *target,
                                 const struct header_fields *fields, uint32_t peer_uid, struct request *request,
                                 struct response *response)
{
    if (!channel_is_good(admission, target, fields, peer_uid, request, response))
        return (struct admitted){.must_close = true};

    struct route_match match = route_match(admission->routes, request);
    char allow[ROUTE_ALLOW_BYTES];
    route_allow_header(match.allowed, allow);
    if (!match.path_known) {
        problem_respond(response, request, PROBLEM_NOT_FOUND, "%s", "");
        return (struct admitted){0};
    }
    if (request->method == REQUEST_OPTIONS) {
        response_empty(response, 204);
        response_header(response, "Allow", "%s", allow);
        return (struct admitted){0};
    }
    if (match.route == NULL) {
        problem_respond(response, request, PROBLEM_METHOD_NOT_ALLOWED, "This path takes %s.", allow);
        response_header(response, "Allow", "%s", allow);
        return (struct admitted){0};
    }
    struct token token = {0};
    if (!caller_is_good(admission, match.route, fields, request, response, &token) ||
        !query_is_good(match.route, request, response) || !content_is_good(match.route, fields, request, response))
        return (struct admitted){0};
    request->idempotency_key = fields->idempotency_key;
    request->if_match = fields->if_match;
    request->if_none_match = fields->if_none_match;
    request->last_event_id = fields->last_event_id;
    request->range = fields->range;
    return (struct admitted){.route = match.route, .token = token};
}

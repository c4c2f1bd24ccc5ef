/* libmicrohttpd 0.9.75 and what it leaves to its user:
 *
 * - It takes the last of repeated Content-Length headers: admission_decide() refuses repetitions.
 * - Its timeout counts silence alone, and at its limit it turns new connections away: front.c gives it connections with
 *   a whole head alone, and roster.c ends those that have had their time.
 * - It decodes the URL before the handler sees it: the raw target is kept from the URI callback instead.
 * - A response queued before the body was read is safe for POST and PUT only; for other methods with a body the state
 *   machine waits for bytes that nobody takes. There the body is read and thrown away first.
 * - A response cannot be queued between two pieces of a body: one that grows too large is thrown away up to a limit, and
 *   answered at its end.
 * - Of a header that goes on in the next line it loses all: a first request with one is refused before it is the library's.
 * - A transfer coding that it does not know it takes for a body until the client hangs up: that is refused past it.
 * - With epoll(7) it loses the end of what a client sends when that comes together with the last bytes, and waits for more
 *   until its timeout: it is told to use poll(2), which tells as often as it is asked.
 * - A request whose rest does not come because the client has ended its sending it drops without a word: exchange_end()
 *   sends the answer before it closes.
 * - It never notices that the other end of a suspended connection is gone. A connection that became a stream is suspended
 *   for good: the streams' thread writes to its socket and watches it, and it is resumed only to be closed. */
#include "api/http/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api/http/admission.h"
#include "api/http/exchange.h"
#include "api/http/front.h"
#include "api/http/head.h"
#include "api/http/problem.h"
#include "api/http/raw_answer.h"
#include "api/http/roster.h"
#include "base/clock.h"
#include "base/scope.h"

_Static_assert((int)HTTP_CONNECTIONS_MAX > (int)ROSTER_SLOTS, "the library never turns anybody away by itself");

/* One listening socket, the library's threads behind it, and the connections that they have. */
struct listener {
    struct http *http;
    int fd; /* owned; -1 when there is none */
    struct admission admission;
    struct roster *roster;
    struct MHD_Daemon *served[HTTP_THREADS];
    struct MHD_Daemon *strangers; /* a thread of their own, so that they cost the others no turn; TCP only */
};

struct http {
    void *context;
    struct observer *observer;
    struct streams *streams;
    struct front *front;
    struct token_limiter limiter;
    struct listener unix_listener;
    struct listener tcp_listener;
};

/* ---- life of an exchange --------------------------------------------------------------------------------------- */

static int fd_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

static int slot_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    /* Slots are kept as 1 and up, because NULL means that there is none. */
    return info == NULL || info->socket_context == NULL ? -1 : (int)(intptr_t)info->socket_context - 1;
}

static void note_phase(const struct listener *listener, struct MHD_Connection *connection, enum roster_phase phase)
{
    roster_phase(listener->roster, slot_of(connection), phase, clock_monotonic_ms());
}

static void note(const struct listener *listener, const struct exchange *exchange)
{
    if (listener->http->observer == NULL)
        return;
    const struct observation observation = {.request = &exchange->request,
                                            .response = &exchange->response,
                                            .route = exchange->admitted_route,
                                            .listener = listener->admission.check_peer ? "unix" : "tcp",
                                            .duration_us = clock_monotonic_us() - exchange->begun_us};
    observer_note(listener->http->observer, &observation);
}

/* Answer past the library, which will not or cannot. The connection has to end then. */
static void send_raw(const struct listener *listener, struct MHD_Connection *connection,
                     const struct exchange *exchange)
{
    char status[64];
    const unsigned code = exchange->response.status;
    snprintf(status, sizeof status, "%u %s", code, MHD_get_reason_phrase_for(code));
    note(listener, exchange);
    raw_answer_send(fd_of(connection), status, &exchange->request, &exchange->response);
}

/* The client has ended its sending within the body, and may still wait for an answer. Not if it was we who ended it. */
static void answer_cut_short(const struct listener *listener, struct MHD_Connection *connection,
                             struct exchange *exchange)
{
    if (!exchange->admitted || roster_has_ended(listener->roster, slot_of(connection)))
        return;
    if (exchange->route != NULL)
        problem_respond(&exchange->response, &exchange->request, PROBLEM_BAD_REQUEST,
                        "The body ended before it was whole.");
    send_raw(listener, connection, exchange);
}

static void *exchange_begin(void *context, const char *uri, struct MHD_Connection *connection)
{
    const struct listener *listener = context;
    roster_request(listener->roster, slot_of(connection), clock_monotonic_ms());
    return exchange_new(uri); /* NULL: answer() drops the connection */
}

static void exchange_end(void *context, struct MHD_Connection *connection, void **exchange,
                         enum MHD_RequestTerminationCode code)
{
    const struct listener *listener = context;
    if (code == MHD_REQUEST_TERMINATED_CLIENT_ABORT && *exchange != NULL)
        answer_cut_short(listener, connection, *exchange);
    exchange_free(*exchange);
    *exchange = NULL;
    note_phase(listener, connection, ROSTER_RESTING);
    front_wake(listener->http->front); /* one that rests gives up its place if it has to */
}

static void connection_notice(void *context, struct MHD_Connection *connection, void **socket_context,
                              enum MHD_ConnectionNotificationCode code)
{
    const struct listener *listener = context;
    int fd = fd_of(connection);
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        roster_remove(listener->roster, fd);
        front_wake(listener->http->front);
        return;
    }
    *socket_context = (void *)(intptr_t)(roster_find(listener->roster, fd) + 1);
}

/* ---- request --------------------------------------------------------------------------------------------------- */

static enum MHD_Result take_header(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    header_fields_add(context, name, value);
    return MHD_YES;
}

static void admit(const struct listener *listener, struct MHD_Connection *connection, const char *method,
                  struct exchange *exchange)
{
    MHD_get_connection_values(connection, MHD_HEADER_KIND, take_header, &exchange->fields);
    exchange->request.method = request_method_parse(method);
    trace_parse(exchange->fields.traceparent, &exchange->request.trace);
    uint32_t uid = listener->admission.check_peer ? listen_peer_uid(fd_of(connection)) : 0;
    struct admitted admitted = admission_decide(&listener->admission, exchange->target, &exchange->fields, uid,
                                                &exchange->request, &exchange->response);
    exchange->route = admitted.route;
    exchange->admitted_route = admitted.route;
    exchange->token = admitted.token;
    exchange->listener = listener;
    exchange->connection = connection;
    /* A stranger's connection ends with its answer: what comes next on it would be beyond the front's sight. */
    exchange->must_close =
        admitted.must_close || roster_class_of(listener->roster, slot_of(connection)) == ROSTER_STRANGER;
    exchange->admitted = true;
}

/* ---- response -------------------------------------------------------------------------------------------------- */

static struct MHD_Response *build_response(struct response *response)
{
    void *bytes = (void *)(uintptr_t)response->body;
    if (response->release == NULL)
        return MHD_create_response_from_buffer(response->body_bytes, bytes, MHD_RESPMEM_PERSISTENT);
    struct MHD_Response *built =
        MHD_create_response_from_buffer_with_free_callback(response->body_bytes, bytes, response->release);
    if (built != NULL)
        response->release = NULL; /* the library frees it now */
    return built;
}

/* All or none: without its media type, its tag or what browsers must not do with it, an answer would say something else. */
static enum MHD_Result add_headers(struct MHD_Response *built, const struct exchange *exchange)
{
    const struct response *response = &exchange->response;
    enum MHD_Result added = MHD_add_response_header(built, "X-Request-Id", exchange->request.id.text);
    for (const struct raw_answer_header *header = raw_answer_headers; added == MHD_YES && header->name != NULL;
         header++)
        added = MHD_add_response_header(built, header->name, header->value);
    if (added == MHD_YES && response->content_type != NULL)
        added = MHD_add_response_header(built, "Content-Type", response->content_type);
    for (size_t i = 0; added == MHD_YES && i < response->header_count; i++)
        added = MHD_add_response_header(built, response->headers[i].name, response->headers[i].value);
    if (added == MHD_YES && exchange->must_close)
        added = MHD_add_response_header(built, "Connection", "close");
    return added;
}

static enum MHD_Result send_response(const struct listener *listener, struct MHD_Connection *connection,
                                     struct exchange *exchange)
{
    struct response *response = &exchange->response;
    struct MHD_Response *built = build_response(response);
    if (built == NULL)
        return MHD_NO;
    note_phase(listener, connection, ROSTER_WRITING);
    enum MHD_Result result = add_headers(built, exchange);
    if (result == MHD_YES)
        result = MHD_queue_response(connection, response->status, built);
    MHD_destroy_response(built);
    note(listener, exchange);
    return result;
}

/* ---- streams --------------------------------------------------------------------------------------------------- */

static void stream_closed(void *context)
{
    const struct exchange *exchange = context;
    MHD_resume_connection(exchange->connection); /* the exchange may be gone after this */
}

/* A token that is revoked ends its streams. */
static bool stream_allowed(void *context)
{
    const struct exchange *exchange = context;
    return admission_allows(&exchange->listener->admission, exchange->admitted_route, &exchange->token);
}

/* Hand the connection over to the streams' thread, or fill the response with the reason why not. */
static bool begin_stream(const struct listener *listener, struct MHD_Connection *connection, struct exchange *exchange)
{
    struct response *response = &exchange->response;
    char bytes[RAW_ANSWER_HEAD_BYTES];
    struct stream_text head = {.bytes = bytes, .capacity = sizeof bytes};
    raw_answer_head("200 OK", &exchange->request, response, &head);
    const struct stream_order order = {.fd = fd_of(connection),
                                       .source = response->stream,
                                       .allowed = stream_allowed,
                                       .closed = stream_closed,
                                       .context = exchange};
    struct stream *stream = NULL;
    int result = stream_prepare(listener->http->streams, &order, head.bytes, head.used, &stream);
    if (result < 0) {
        enum problem problem = result == -EAGAIN      ? PROBLEM_TOO_MANY_STREAMS
                               : result == -ESHUTDOWN ? PROBLEM_SHUTTING_DOWN
                                                      : PROBLEM_INTERNAL_ERROR;
        problem_respond(response, &exchange->request, problem, "%s", "");
        return false;
    }
    note(listener, exchange); /* that it began; how long a stream lasts is no latency */
    response->stream = (struct stream_source){0};
    exchange->streamed = true;
    roster_stream(listener->roster, slot_of(connection));
    MHD_suspend_connection(connection);
    stream_begin(stream);
    return true;
}

/* Refuse a body in a coding that is not ours: the library would read on until the client hangs up. */
static enum MHD_Result refuse_endless(const struct listener *listener, struct MHD_Connection *connection,
                                      struct exchange *exchange)
{
    send_raw(listener, connection, exchange);
    return MHD_NO;
}

/* The library's access handler: first with the headers, then with each piece of a body, then at the end. */
static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_bytes, void **state)
{
    (void)url;
    (void)version;
    const struct listener *listener = context;
    struct exchange *exchange = *state;
    if (exchange == NULL || exchange->streamed)
        return MHD_NO;
    if (!exchange->admitted) {
        admit(listener, connection, method, exchange);
        bool has_body = header_fields_have_body(&exchange->fields);
        note_phase(listener, connection, has_body ? ROSTER_READING : ROSTER_WORKING);
        if (exchange->route != NULL || !has_body)
            return MHD_YES;
        exchange->must_close = true;
        if (!header_fields_have_end(&exchange->fields))
            return refuse_endless(listener, connection, exchange);
        return exchange_may_answer_early(exchange) ? send_response(listener, connection, exchange) : MHD_YES;
    }
    if (*upload_bytes > 0) {
        bool taken = exchange_take_body(exchange, upload, *upload_bytes);
        *upload_bytes = 0;
        if (exchange_body_is_whole(exchange))
            note_phase(listener, connection, ROSTER_WORKING);
        return taken ? MHD_YES : MHD_NO;
    }
    note_phase(listener, connection, ROSTER_WORKING);
    if (exchange->route != NULL)
        exchange->route->handler(listener->http->context, &exchange->request, &exchange->response);
    if (exchange->response.stream.read != NULL && exchange->request.method != REQUEST_HEAD &&
        begin_stream(listener, connection, exchange))
        return MHD_YES;
    return send_response(listener, connection, exchange);
}

/* ---- names ----------------------------------------------------------------------------------------------------- */

static void own_names(struct admission *admission, const struct listen_address *address)
{
    char host[LISTEN_HOST_BYTES];
    const char *const hosts[] = {listen_host(address, host), "localhost"};
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        snprintf(admission->names[admission->name_count++], ADMISSION_NAME_BYTES, "%s:%u", hosts[i],
                 (unsigned)address->port);
    if (address->port == 80) /* clients leave HTTP's own port out */
        snprintf(admission->names[admission->name_count++], ADMISSION_NAME_BYTES, "%s", hosts[0]);
}

/* ---- the front ------------------------------------------------------------------------------------------------- */

/* Over the unix socket everybody is served: its folder lets nobody else near it, and admission looks at the uid. */
static enum roster_class class_of(const struct listener *listener, const char *head, size_t length)
{
    const char *text = NULL;
    struct token token;
    enum token_scope scope;
    if (listener->admission.check_peer)
        return ROSTER_SERVED;
    size_t text_bytes = head_bearer(head, length, &text);
    token_from_text(text, text_bytes, &token);
    return text_bytes > 0 && tokens_find(listener->admission.tokens, &token, &scope) ? ROSTER_SERVED : ROSTER_STRANGER;
}

static enum front_answer admit_connection(void *context, int fd, const char *head, size_t length)
{
    struct listener *listener = context;
    if (length > FRONT_HEAD_BYTES) {
        /* The library would have to take it in first. */
        raw_answer_refuse(fd, "431 Request Header Fields Too Large", PROBLEM_HEADERS_TOO_LARGE, "");
        return FRONT_REFUSED;
    }
    if (head_is_folded(head, length)) {
        raw_answer_refuse(fd, "400 Bad Request", PROBLEM_BAD_REQUEST, "A header must stand on one line.");
        return FRONT_REFUSED;
    }
    if (head_holds_nul(head, length)) {
        raw_answer_refuse(fd, "400 Bad Request", PROBLEM_BAD_REQUEST, "There is no NUL in a request's head.");
        return FRONT_REFUSED;
    }
    uint64_t now_ms = clock_monotonic_ms();
    enum roster_class class = class_of(listener, head, length);
    if (!roster_add(listener->roster, fd, class, now_ms)) {
        roster_evict(listener->roster, class, now_ms);
        return FRONT_LATER;
    }
    const struct sockaddr_storage nobody = {.ss_family = listener->admission.check_peer ? AF_UNIX : AF_INET};
    struct MHD_Daemon *daemon = class == ROSTER_STRANGER ? listener->strangers : listener->served[fd % HTTP_THREADS];
    /* The library closes it when it has no memory. */
    if (MHD_add_connection(daemon, fd, (const struct sockaddr *)&nobody, sizeof nobody) != MHD_YES)
        roster_remove(listener->roster, fd);
    return FRONT_TAKEN;
}

static size_t expire(void *context, uint64_t now_ms)
{
    const struct listener *listener = context;
    return roster_expire(listener->roster, now_ms);
}

/* ---- life of the server ------------------------------------------------------------------------------------------ */

static struct MHD_Daemon *start_thread(struct listener *listener)
{
    return MHD_start_daemon(MHD_USE_POLL | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC |
                                MHD_ALLOW_SUSPEND_RESUME,
                            0, NULL, NULL, answer, listener, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_IDLE_S,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_MEMORY_BYTES, MHD_OPTION_STRICT_FOR_CLIENT,
                            1, MHD_OPTION_URI_LOG_CALLBACK, exchange_begin, listener, MHD_OPTION_NOTIFY_COMPLETED,
                            exchange_end, listener, MHD_OPTION_NOTIFY_CONNECTION, connection_notice, listener,
                            MHD_OPTION_END);
}

static int start_listener(struct listener *listener, struct error *err)
{
    int result = roster_open(&listener->roster, err);
    if (result < 0)
        return result;
    bool started = true;
    for (size_t i = 0; i < HTTP_THREADS; i++) {
        listener->served[i] = start_thread(listener);
        started = started && listener->served[i] != NULL;
    }
    if (!listener->admission.check_peer) {
        listener->strangers = start_thread(listener);
        started = started && listener->strangers != NULL;
    }
    return started ? 0 : error_set(err, -EIO, "The HTTP library did not start: %s.", strerror(errno));
}

static void stop_listener(struct listener *listener)
{
    for (size_t i = 0; i < HTTP_THREADS; i++) {
        if (listener->served[i] != NULL)
            MHD_stop_daemon(listener->served[i]);
    }
    if (listener->strangers != NULL)
        MHD_stop_daemon(listener->strangers);
    roster_close(listener->roster);
    fd_close(&listener->fd);
}

static int start_front(struct http *http, struct error *err)
{
    struct front_door doors[FRONT_DOORS_MAX];
    size_t count = 0;
    struct listener *const listeners[] = {&http->unix_listener, &http->tcp_listener};
    for (size_t i = 0; i < sizeof listeners / sizeof listeners[0]; i++) {
        if (listeners[i]->fd >= 0)
            doors[count++] = (struct front_door){
                .fd = listeners[i]->fd, .admit = admit_connection, .tick = expire, .context = listeners[i]};
    }
    return front_open(doors, count, &http->front, err);
}

int http_start(const struct http_config *config, struct http **ret_http, struct error *err)
{
    struct http *http = calloc(1, sizeof *http);
    if (http == NULL)
        return error_set(err, -ENOMEM, "There is no memory for the HTTP server.");
    http->context = config->context;
    http->streams = config->streams;
    http->observer = config->observer;
    token_limiter_init(&http->limiter);
    const struct admission common = {.routes = config->routes, .tokens = config->tokens, .limiter = &http->limiter};
    http->unix_listener = (struct listener){.http = http, .fd = config->unix_fd, .admission = common};
    http->unix_listener.admission.check_peer = true;
    http->tcp_listener = (struct listener){.http = http, .fd = config->tcp_fd, .admission = common};
    own_names(&http->tcp_listener.admission, &config->tcp);

    int result = config->unix_fd < 0 ? 0 : start_listener(&http->unix_listener, err);
    if (result == 0 && config->tcp_fd >= 0)
        result = start_listener(&http->tcp_listener, err);
    if (result == 0)
        result = start_front(http, err);
    if (result < 0) {
        /* The descriptors stay the caller's. */
        http->unix_listener.fd = http->tcp_listener.fd = -1;
        http_stop(http);
        return result;
    }
    *ret_http = http;
    return 0;
}

void http_stop(struct http *http)
{
    if (http == NULL)
        return;
    front_end(http->front);
    /* The library must not be stopped while it has suspended connections. */
    streams_end(http->streams);
    stop_listener(&http->tcp_listener);
    stop_listener(&http->unix_listener);
    front_close(http->front);
    token_limiter_done(&http->limiter);
    free(http);
}

#include "api/http/exchange.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/http/problem.h"
#include "base/clock.h"

struct exchange *exchange_new(const char *uri)
{
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL)
        return NULL;
    exchange->begun_us = clock_monotonic_us();
    exchange->request.id = id_new();
    snprintf(exchange->target, sizeof exchange->target, "%s", uri);
    return exchange;
}

void exchange_free(struct exchange *exchange)
{
    if (exchange == NULL)
        return;
    /* Bodies carry preshared keys. */
    if (exchange->body != NULL)
        sodium_memzero(exchange->body, exchange->request.body_bytes);
    free(exchange->body);
    response_done(&exchange->response);
    free(exchange);
}

/* Once and whole: a body that moved while it grew would leave copies of its secrets behind. */
static bool make_room_for_body(struct exchange *exchange)
{
    const char *announced = exchange->fields.content_length; /* judged by admission */
    exchange->body_capacity = announced == NULL ? REQUEST_BODY_BYTES : strtoul(announced, NULL, 10);
    exchange->body = malloc(exchange->body_capacity);
    exchange->request.body = exchange->body;
    return exchange->body != NULL;
}

bool exchange_body_is_whole(const struct exchange *exchange)
{
    const char *announced = exchange->fields.content_length;
    return announced != NULL && strtoull(announced, NULL, 10) <= exchange->request.body_bytes + exchange->discarded;
}

bool exchange_take_body(struct exchange *exchange, const char *bytes, size_t length)
{
    struct request *request = &exchange->request;
    if (exchange->route != NULL && exchange->body == NULL && !make_room_for_body(exchange))
        return false;
    if (exchange->route != NULL && length > exchange->body_capacity - request->body_bytes) {
        exchange->route = NULL;
        problem_respond(&exchange->response, request, PROBLEM_BODY_TOO_LARGE, "The body may have %d bytes.",
                        REQUEST_BODY_BYTES);
    }
    if (exchange->route == NULL) {
        exchange->must_close = true;
        exchange->discarded += length;
        return exchange->discarded <= EXCHANGE_DISCARD_BYTES;
    }
    memcpy(exchange->body + request->body_bytes, bytes, length);
    request->body_bytes += length;
    return true;
}

bool exchange_may_answer_early(const struct exchange *exchange)
{
    enum request_method method = exchange->request.method;
    const char *length = exchange->fields.content_length;
    return (method == REQUEST_POST || method == REQUEST_PUT) && length != NULL &&
           strtoull(length, NULL, 10) > EXCHANGE_DISCARD_BYTES;
}

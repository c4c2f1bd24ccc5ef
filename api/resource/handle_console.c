/* A lease's console: the newest bytes, a range of them, or a stream of what is printed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/http/byte_range.h"
#include "api/http/problem.h"
#include "api/http/route.h"
#include "api/json/decode.h"
#include "api/resource/api.h"
#include "api/resource/console_feed.h"
#include "api/resource/handle.h"
#include "api/resource/lease_path.h"

#define TEXT "text/plain; charset=utf-8"

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

/* Positions count from the first byte that the console ever printed, so that a client goes on where it was. */
static void respond_bytes(const struct request *request, struct response *response, uint8_t *bytes, size_t length,
                          uint64_t offset)
{
    uint64_t first = 0;
    uint64_t last = 0;
    unsigned long long end = offset + length;
    const char *header = request->method == REQUEST_GET ? request->range : NULL;
    switch (byte_range_parse(header, offset, end, &first, &last)) {
    case RANGE_NONE:
        response_take(response, 200, TEXT, bytes, length, free);
        response_header(response, "Omertad-Console-Offset", "%llu", (unsigned long long)offset);
        response_header(response, "Accept-Ranges", "bytes");
        return;
    case RANGE_PART:
        memmove(bytes, bytes + (first - offset), (size_t)(last - first + 1));
        response_take(response, 206, TEXT, bytes, (size_t)(last - first + 1), free);
        response_header(response, "Omertad-Console-Offset", "%llu", (unsigned long long)first);
        response_header(response, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)first,
                        (unsigned long long)last, end);
        return;
    case RANGE_MALFORMED:
        problem_respond(response, request, PROBLEM_BAD_REQUEST, "Range must be one range, as bytes=1000-.");
        break;
    case RANGE_UNSATISFIABLE:
        problem_respond(response, request, PROBLEM_RANGE_NOT_SATISFIABLE,
                        "There are the bytes %llu to %llu, exclusive.", (unsigned long long)offset, end);
        response_header(response, "Content-Range", "bytes */%llu", end);
        break;
    }
    free(bytes);
}

/* ---- the stream -------------------------------------------------------------------------------------------------- */

static bool find_place(const struct request *request, uint64_t *ret_after)
{
    *ret_after = CONSOLE_FEED_OLDEST;
    const char *text = request->last_event_id;
    if (text == NULL)
        return true;
    char *rest = NULL;
    errno = 0;
    *ret_after = strtoull(text, &rest, 10);
    return text[0] >= '0' && text[0] <= '9' && *rest == '\0' && errno == 0 && *ret_after != CONSOLE_FEED_OLDEST;
}

static void respond_stream(struct api *api, const struct request *request, struct response *response,
                           const struct id *id)
{
    struct stream_source source;
    uint64_t after = 0;
    if (!find_place(request, &after))
        problem_respond(response, request, PROBLEM_BAD_REQUEST, "Last-Event-ID must be the id of a frame.");
    else if (request->range != NULL)
        problem_respond(response, request, PROBLEM_BAD_REQUEST, "A stream has no Range; use Last-Event-ID.");
    else if (console_feed_follow(api->service, api->store, id, after, &source) < 0)
        response_json(response, 200, NULL);
    else
        response_stream(response, ROUTE_STREAM, &source);
}

void handle_lease_console(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    struct id id;
    struct store_lease lease;
    uint64_t offset = 0;
    if (!lease_path_lease(api, request, response, &id, &lease))
        return;
    if (request->wants_stream) {
        respond_stream(api, request, response, &id);
        return;
    }
    uint8_t *bytes = malloc(VMM_CONSOLE_BYTES);
    if (bytes == NULL) {
        response_json(response, 200, NULL);
        return;
    }
    int64_t length = lease_service_console(api->service, &id, bytes, VMM_CONSOLE_BYTES, &offset, &err);
    if (length >= 0) {
        respond_bytes(request, response, bytes, (size_t)length, offset);
        return;
    }
    free(bytes);
    problem_respond_error(response, request, &err, id.text, api->log);
}

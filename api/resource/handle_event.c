/* Events: pages, and a stream that goes on where a page or an earlier stream ended. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/http/page.h"
#include "api/http/problem.h"
#include "api/http/route.h"
#include "api/lease/encode.h"
#include "api/resource/api.h"
#include "api/resource/handle.h"

/* ---- pages ------------------------------------------------------------------------------------------------------- */

/* A page that grows; the epoch is not in the rows. */
struct event_page {
    struct page page;
    const char *epoch;
};

static void format_cursor(const char *epoch, uint64_t sequence, char ret_text[static PAGE_CURSOR_BYTES])
{
    snprintf(ret_text, PAGE_CURSOR_BYTES, "%s-%" PRIu64, epoch, sequence);
}

static int add_event(void *context, const struct store_event *event)
{
    struct event_page *list = context;
    char cursor[PAGE_CURSOR_BYTES];
    format_cursor(list->epoch, event->sequence, cursor);
    return page_add(&list->page, encode_event(event, list->epoch), cursor);
}

static int fill_page(struct api *api, struct store_filter *filter, struct event_page *list, struct error *err)
{
    struct store_event_bounds bounds;
    char latest[PAGE_CURSOR_BYTES];
    int result = store_event_bounds(api->store, &bounds, err);
    if (result < 0)
        return result;
    format_cursor(list->epoch, bounds.newest, latest);
    if (filter->after != NULL && strcmp(filter->after, PAGE_LATEST) == 0)
        filter->after = latest;
    result = store_event_list(api->store, filter, add_event, list, err);
    uint64_t reached = 0;
    char epoch[STORE_EPOCH_BYTES];
    /* Nothing up to the end as it was before is left to tell, so the cursor need not stay behind at the last item: with
     * a filter that may be long ago, and be pruned. */
    if (result == 0 && list->page.count < list->page.limit &&
        (list->page.count == 0 || (store_cursor_split(list->page.cursor, epoch, &reached) && reached < bounds.newest)))
        memcpy(list->page.cursor, latest, sizeof latest);
    return result;
}

static void respond_page(struct api *api, const struct request *request, struct response *response)
{
    struct error err = {0};
    struct store_filter filter;
    struct event_page list = {.epoch = store_epoch(api->store)};
    if (!page_begin(request, response, PAGE_CURSOR_EVENT, &filter, &list.page))
        return;
    int result = fill_page(api, &filter, &list, &err);
    if (result < 0 && !list.page.failed) {
        page_drop(&list.page);
        problem_respond_error(response, request, &err, NULL, api->log);
        return;
    }
    page_finish(&list.page, response, true);
}

/* ---- the stream -------------------------------------------------------------------------------------------------- */

/* Where to begin: after Last-Event-ID, which a client that comes again sends with its first URL; else `after`; else with
 * the oldest event. */
static int find_place(struct store *store, const struct request *request, const char *after, uint64_t *ret_after,
                      struct error *err)
{
    const char *cursor = request->last_event_id != NULL ? request->last_event_id : after;
    if (cursor != NULL && strcmp(cursor, PAGE_LATEST) != 0)
        return store_event_place(store, cursor, ret_after, err);
    struct store_event_bounds bounds;
    int result = store_event_bounds(store, &bounds, err);
    if (result == 0)
        *ret_after = cursor != NULL ? bounds.newest : bounds.oldest - 1;
    return result;
}

static void respond_stream(struct api *api, const struct request *request, struct response *response)
{
    struct error err = {0};
    struct store_filter filter;
    struct page unused;
    struct stream_source source;
    uint64_t after = 0;
    char epoch[STORE_EPOCH_BYTES];
    if (!page_begin(request, response, PAGE_CURSOR_EVENT, &filter, &unused))
        return;
    page_drop(&unused);
    if (request_query(request, "limit") != NULL)
        problem_respond(response, request, PROBLEM_QUERY_INVALID, "A stream has no limit.");
    else if (request->last_event_id != NULL && !store_cursor_split(request->last_event_id, epoch, &after))
        problem_respond(response, request, PROBLEM_BAD_REQUEST, "Last-Event-ID must be the id of an event.");
    else if (find_place(api->store, request, filter.after, &after, &err) < 0)
        problem_respond_error(response, request, &err, NULL, api->log);
    else if (event_feed_follow(api->feed, after, filter.lease_id, &source) < 0)
        response_json(response, 200, NULL);
    else
        response_stream(response, ROUTE_STREAM, &source);
}

void handle_event_list(void *context, const struct request *request, struct response *response)
{
    if (request->wants_stream)
        respond_stream(context, request, response);
    else
        respond_page(context, request, response);
}

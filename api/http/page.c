#include "api/http/page.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/http/problem.h"

/* Decimal of at most @digits digits. */
static bool parse_number(const char *text, size_t digits, uint64_t *ret_value)
{
    size_t length = strspn(text, "0123456789");
    if (length == 0 || length > digits || text[length] != '\0')
        return false;
    *ret_value = strtoull(text, NULL, 10);
    return true;
}

static bool cursor_valid(enum page_cursor cursor, const char *text)
{
    struct id id;
    char epoch[STORE_EPOCH_BYTES];
    uint64_t sequence;
    switch (cursor) {
    case PAGE_CURSOR_ID:
        return id_parse(text, strlen(text), &id);
    case PAGE_CURSOR_EVENT:
        return strcmp(text, PAGE_LATEST) == 0 || store_cursor_split(text, epoch, &sequence);
    }
    return false;
}

bool page_begin(const struct request *request, struct response *response, enum page_cursor cursor,
                struct store_filter *ret_filter, struct page *ret_page)
{
    uint64_t limit = PAGE_DEFAULT;
    const char *limit_text = request_query(request, "limit");
    const char *after = request_query(request, "after");
    const char *lease_id = request_query(request, "lease_id");
    const char *order = request_query(request, "order");
    bool newest_first = order != NULL && strcmp(order, "newest") == 0;
    struct id id;
    const char *name = NULL;
    const char *fault = NULL;
    if (limit_text != NULL && (!parse_number(limit_text, 3, &limit) || limit == 0 || limit > STORE_PAGE_MAX)) {
        name = "limit";
        fault = "must be 1 to 200";
    } else if (after != NULL && !cursor_valid(cursor, after)) {
        name = "after";
        fault = "must be a next_cursor of this list";
    } else if (lease_id != NULL && !id_parse(lease_id, strlen(lease_id), &id)) {
        name = "lease_id";
        fault = "must be a lease's id";
    } else if (order != NULL && !newest_first && strcmp(order, "oldest") != 0) {
        name = "order";
        fault = "must be \"oldest\" or \"newest\"";
    }
    if (fault != NULL) {
        problem_respond_query(response, request, name, "%s.", fault);
        return false;
    }
    *ret_filter = (struct store_filter){
        .lease_id = lease_id, .after = after, .limit = (uint32_t)limit, .newest_first = newest_first};
    *ret_page = (struct page){.items = json_array(), .limit = (uint32_t)limit};
    if (after != NULL)
        snprintf(ret_page->cursor, sizeof ret_page->cursor, "%s", after);
    return true;
}

int page_add(struct page *page, json_t *item, const char *cursor)
{
    if (item == NULL || json_array_append_new(page->items, item) != 0) {
        page->failed = true;
        return -ENOMEM;
    }
    page->count++;
    snprintf(page->cursor, sizeof page->cursor, "%s", cursor);
    return 0;
}

void page_finish(struct page *page, struct response *response, bool always_cursor)
{
    if (page->failed) {
        page_drop(page);
        response_json(response, 200, NULL);
        return;
    }
    bool more = always_cursor ? page->cursor[0] != '\0' : page->count == page->limit;
    response_json(
        response, 200,
        json_pack("{s:o, s:o}", "items", page->items, "next_cursor", more ? json_string(page->cursor) : json_null()));
    page->items = NULL;
}

void page_drop(struct page *page)
{
    json_decref(page->items);
    page->items = NULL;
}

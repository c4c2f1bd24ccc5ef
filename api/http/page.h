/* Lists: `{items, next_cursor}` from the store's callbacks. */
#ifndef API_HTTP_PAGE_H
#define API_HTTP_PAGE_H

#include <jansson.h>
#include <stdbool.h>

#include "api/http/request.h"
#include "api/http/response.h"
#include "store/store.h"

enum page_limits {
    PAGE_DEFAULT = 50,
    PAGE_CURSOR_BYTES = 40, /* a UUID or an event's id */
};

/**
 * struct page - A list that grows
 * @items:  owned; NULL after a lack of memory
 * @cursor: of the last row taken
 *
 * Owner: the handler's stack.
 */
struct page {
    json_t *items;
    uint32_t count;
    uint32_t limit;
    bool failed;
    char cursor[PAGE_CURSOR_BYTES];
};

/** enum page_cursor - What a list's cursor looks like. */
enum page_cursor { PAGE_CURSOR_ID, PAGE_CURSOR_EVENT };

/** What `after` may be in place of an event's id: the end of the log as it is now. */
#define PAGE_LATEST "latest"

/**
 * page_begin() - Take `limit`, `after` and `lease_id` from the query
 * @ret_filter: filled from them; points into the request
 * Return:      true; false when the response says what is wrong with the query
 * Thread:      the exchange's
 */
bool page_begin(const struct request *request, struct response *response, enum page_cursor cursor,
                struct store_filter *ret_filter, struct page *ret_page);

/** page_add() - Append one item. @item: taken. Return: 0, or -ENOMEM to stop the list. Thread: the exchange's */
int page_add(struct page *page, json_t *item, const char *cursor);

/**
 * page_finish() - The answer
 * @always_cursor: the cursor is told even after the last row, for lists that grow at their end
 * Thread:         the exchange's
 */
void page_finish(struct page *page, struct response *response, bool always_cursor);

/** page_drop() - Give the list up. Thread: the exchange's */
void page_drop(struct page *page);

#endif

/* Events: what happened, in an order without gaps. Rows are only added, and removed at the old end. */
#include <errno.h>
#include <stdlib.h>

#include "store/internal.h"

int event_write(struct store *store, struct query *query)
{
    int result = query_run(query);
    int64_t sequence = sqlite3_last_insert_rowid(store->writer.db);
    if (result < 0 || sequence % STORE_EVENTS_PRUNE != 0)
        return result;
    struct query prune SCOPED_QUERY = {0};
    if (query_open(&prune, &store->writer, "DELETE FROM events WHERE sequence <= ?1", query->err) < 0)
        return prune.code;
    query_bind_int(&prune, sequence - STORE_EVENTS_KEPT);
    return query_run(&prune);
}

static int append(struct store *store, const char *type, const char *lease_id, const char *data, uint64_t at_ms,
                  struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer,
                   "INSERT INTO events (at_ms, type, lease_id, data) VALUES (?1, ?2, ?3, " STORE_JSON_OBJECT("?4") ")",
                   err) < 0)
        return query.code;
    query_bind_u64(&query, at_ms);
    query_bind_text(&query, type, STORE_WORD_BYTES);
    query_bind_text(&query, lease_id, ID_TEXT_BYTES);
    query_bind_text(&query, data, STORE_EVENT_DATA_BYTES);
    return event_write(store, &query);
}

int store_event_append(struct store *store, const char *type, const char *lease_id, const char *data, uint64_t at_ms,
                       struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, append(store, type, lease_id, data, at_ms, err), err);
}

/* A sequence is its own cursor, so one that has been removed since still says where to go on. */
static int parse_sequence(const char *text, uint64_t *ret_sequence, struct error *err)
{
    uint64_t value = 0;
    size_t digits = 0;
    for (; text != NULL && text[digits] >= '0' && text[digits] <= '9' && digits < 18; digits++)
        value = value * 10 + (uint64_t)(text[digits] - '0');
    if (text != NULL && (digits == 0 || text[digits] != '\0')) {
        error_set(err, -EINVAL, "the cursor of events is a number of at most 18 digits");
        error_tag(err, "cursor-unknown", "cursor");
        return -EINVAL;
    }
    *ret_sequence = value;
    return 0;
}

static void read_row(struct query *query, struct store_event *ret_event)
{
    ret_event->sequence = query_u64(query);
    ret_event->at_ms = query_u64(query);
    QUERY_FIELD(query, ret_event->type);
    QUERY_FIELD(query, ret_event->lease_id);
    ret_event->data = query_view(query);
}

int store_event_list(struct store *store, const struct store_filter *filter, store_event_each each, void *context,
                     struct error *err)
{
    uint64_t after = 0;
    int result = store_filter_check(filter, err);
    if (result == 0)
        result = parse_sequence(filter->after, &after, err);
    if (result < 0)
        return result;
    struct query query = {0};
    result = store_read(store, &query,
                        filter->lease_id == NULL ? "SELECT sequence, at_ms, type, lease_id, data FROM events"
                                                   " WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"
                                                 : "SELECT sequence, at_ms, type, lease_id, data FROM events"
                                                   " WHERE sequence > ?1 AND lease_id = ?3 ORDER BY sequence LIMIT ?2",
                        err);
    if (result == 0) {
        query_bind_u64(&query, after);
        query_bind_u64(&query, filter->limit);
        if (filter->lease_id != NULL)
            query_bind_key(&query, filter->lease_id);
        while ((result = query_step(&query)) == 1) {
            struct store_event event;
            read_row(&query, &event);
            result = query.code < 0 ? query.code : each(context, &event);
            if (result != 0)
                break;
        }
    }
    store_read_done(store, &query);
    return result;
}

/* Events: what happened, in an order without gaps. Rows are only added, and removed at the old end.
 *
 * A cursor is "EPOCH-SEQUENCE". Whoever asks with one either misses nothing or is told so: -ESTALE for another log's,
 * -ENODATA for events that are gone, -ERANGE for what has not happened yet. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

int event_write(struct store *store, struct query *query)
{
    int result = query_run(query);
    int64_t sequence = sqlite3_last_insert_rowid(store->writer.db);
    store->event_written = true; /* read only after a commit */
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

/* ---- the log as such --------------------------------------------------------------------------------------------- */

int event_epoch_read(struct store *store, struct error *err)
{
    struct query query = {0};
    int result = store_read(store, &query, "SELECT epoch FROM event_log", err);
    if (result == 0 && query_step(&query) == 1)
        QUERY_FIELD(&query, store->epoch);
    if (result == 0)
        result = query.code;
    store_read_done(store, &query);
    return result;
}

const char *store_epoch(const struct store *store)
{
    return store->epoch;
}

void store_on_event(struct store *store, void (*notify)(void *context), void *context)
{
    store->notify = notify;
    store->notify_context = context;
}

/* Under the reader's lock. */
static int read_bounds(struct store *store, struct store_event_bounds *ret_bounds, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    /* Two statements' worth: min() and max() together would read the whole table. */
    if (query_open(&query, &store->reader,
                   "SELECT (SELECT coalesce(min(sequence), 1) FROM events), "
                   "(SELECT coalesce(max(sequence), 0) FROM events)",
                   err) < 0)
        return query.code;
    if (query_step(&query) == 1)
        *ret_bounds = (struct store_event_bounds){.oldest = query_u64(&query), .newest = query_u64(&query)};
    return query.code;
}

int store_event_bounds(struct store *store, struct store_event_bounds *ret_bounds, struct error *err)
{
    pthread_mutex_lock(&store->reader.lock);
    int result = read_bounds(store, ret_bounds, err);
    pthread_mutex_unlock(&store->reader.lock);
    return result;
}

bool store_cursor_split(const char *text, char ret_epoch[static STORE_EPOCH_BYTES], uint64_t *ret_sequence)
{
    size_t epoch = strspn(text, "0123456789abcdef");
    if (epoch != STORE_EPOCH_BYTES - 1 || text[epoch] != '-')
        return false;
    const char *digits = text + epoch + 1;
    size_t length = strspn(digits, "0123456789");
    if (length == 0 || length > 18 || digits[length] != '\0' || (digits[0] == '0' && length > 1))
        return false;
    memcpy(ret_epoch, text, epoch);
    ret_epoch[epoch] = '\0';
    *ret_sequence = strtoull(digits, NULL, 10);
    return true;
}

static int refuse(struct error *err, int code, const char *slug)
{
    error_tag(err, slug, "cursor");
    return code;
}

/* Whether a reader that has everything up to @after can go on from there without a gap. */
static int check_place(const struct store *store, const char *epoch, uint64_t after,
                       const struct store_event_bounds *bounds, struct error *err)
{
    if (strcmp(epoch, store->epoch) != 0) {
        error_set(err, -ESTALE, "The cursor is of the log %s, and this one is %s; its oldest event is %s-%" PRIu64 ".",
                  epoch, store->epoch, store->epoch, bounds->oldest);
        return refuse(err, -ESTALE, "events-epoch-changed");
    }
    if (after + 1 < bounds->oldest) {
        error_set(err, -ENODATA,
                  "The events %" PRIu64 " to %" PRIu64 " are gone; the oldest one kept is %s-%" PRIu64 ".", after + 1,
                  bounds->oldest - 1, store->epoch, bounds->oldest);
        return refuse(err, -ENODATA, "events-pruned");
    }
    if (after > bounds->newest) {
        error_set(err, -ERANGE, "The newest event is %s-%" PRIu64 "; %" PRIu64 " has not happened.", store->epoch,
                  bounds->newest, after);
        return refuse(err, -ERANGE, "events-ahead");
    }
    return 0;
}

static int parse_cursor(const char *text, char ret_epoch[static STORE_EPOCH_BYTES], uint64_t *ret_sequence,
                        struct error *err)
{
    if (store_cursor_split(text, ret_epoch, ret_sequence))
        return 0;
    error_set(err, -EINVAL, "The cursor of events is the id of an event.");
    return refuse(err, -EINVAL, "cursor-unknown");
}

int store_event_place(struct store *store, const char *cursor, uint64_t *ret_sequence, struct error *err)
{
    char epoch[STORE_EPOCH_BYTES];
    uint64_t sequence;
    struct store_event_bounds bounds = {0};
    int result = parse_cursor(cursor, epoch, &sequence, err);
    if (result == 0)
        result = store_event_bounds(store, &bounds, err);
    if (result == 0)
        result = check_place(store, epoch, sequence, &bounds, err);
    if (result == 0)
        *ret_sequence = sequence;
    return result;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

#define EVENT_SELECT                                                                                                   \
    "SELECT sequence, at_ms, type, lease_id, (SELECT trace_id FROM leases WHERE id = lease_id), data FROM events"

static void read_row(struct query *query, struct store_event *ret_event)
{
    ret_event->sequence = query_u64(query);
    ret_event->at_ms = query_u64(query);
    QUERY_FIELD(query, ret_event->type);
    QUERY_FIELD(query, ret_event->lease_id);
    QUERY_FIELD(query, ret_event->trace_id);
    ret_event->data = query_view(query);
}

static int read_rows(struct store *store, uint64_t after, const char *lease_id, uint32_t limit, store_event_each each,
                     void *context, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->reader,
                   lease_id == NULL ? EVENT_SELECT " WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"
                                    : EVENT_SELECT " WHERE sequence > ?1 AND lease_id = ?3 ORDER BY sequence LIMIT ?2",
                   err) < 0)
        return query.code;
    query_bind_u64(&query, after);
    query_bind_u64(&query, limit);
    if (lease_id != NULL)
        query_bind_key(&query, lease_id);
    int result;
    while ((result = query_step(&query)) == 1) {
        struct store_event event;
        read_row(&query, &event);
        result = query.code < 0 ? query.code : each(context, &event);
        if (result != 0)
            break;
    }
    return result;
}

/* Several statements about one state of the database. Return: 0, and then read_end() has to follow; or negative. */
static int read_begin(struct store *store, struct error *err)
{
    pthread_mutex_lock(&store->reader.lock);
    int result = connection_run(&store->reader, "BEGIN", err);
    if (result < 0)
        pthread_mutex_unlock(&store->reader.lock);
    return result;
}

static void read_end(struct store *store)
{
    connection_run(&store->reader, "COMMIT", NULL); /* nothing was written, so there is nothing to lose */
    pthread_mutex_unlock(&store->reader.lock);
}

int store_event_list(struct store *store, const struct store_filter *filter, store_event_each each, void *context,
                     struct error *err)
{
    char epoch[STORE_EPOCH_BYTES];
    uint64_t after = 0;
    struct store_event_bounds bounds = {0};
    int result = store_filter_check(filter, err);
    if (result == 0 && filter->after != NULL)
        result = parse_cursor(filter->after, epoch, &after, err);
    if (result < 0 || (result = read_begin(store, err)) < 0)
        return result;
    if (filter->after != NULL && (result = read_bounds(store, &bounds, err)) == 0)
        result = check_place(store, epoch, after, &bounds, err);
    if (result == 0)
        result = read_rows(store, after, filter->lease_id, filter->limit, each, context, err);
    read_end(store);
    return result;
}

int store_event_follow(struct store *store, const struct store_follow *follow, store_event_each each, void *context,
                       struct store_event_bounds *ret_bounds, struct error *err)
{
    int result = read_begin(store, err);
    if (result < 0)
        return result;
    result = read_bounds(store, ret_bounds, err);
    if (result == 0)
        result = read_rows(store, follow->after, follow->lease_id, follow->limit, each, context, err);
    read_end(store);
    return result;
}

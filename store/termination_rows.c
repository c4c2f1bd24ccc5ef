/* The end of a lease: its termination, its console tail, its final row, and the removal of leases that ended long ago.
 * The order of ending is terminations.number: a lease that lived long is not removed for its early id. */
#include <errno.h>
#include <string.h>

#include "store/internal.h"

static int insert(struct store *store, const char *id, const struct store_end *end, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] = "INSERT INTO terminations (lease_id, reason, initiated_by, detail, violation_id,"
                              " exit_code, signal, detected_ms, stopped_ms)"
                              " VALUES (?1, ?2, ?3, coalesce(?4, ''), nullif(?5, ''), ?6, ?7, ?8, ?9)";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_text(&query, lease_reason_name(end->reason), STORE_WORD_BYTES);
    query_bind_text(&query, end->initiated_by, STORE_WORD_BYTES);
    query_bind_sentence(&query, end->detail, STORE_DETAIL_BYTES);
    query_bind_text(&query, end->violation_id, ID_TEXT_BYTES);
    query_bind_int(&query, end->exit_code);
    query_bind_int(&query, end->signal);
    query_bind_u64(&query, end->detected_ms);
    query_bind_u64(&query, end->stopped_ms);
    return query_run(&query);
}

static int write_console(struct store *store, const char *id, const struct store_end *end, struct error *err)
{
    if (end->console == NULL)
        return 0;
    size_t kept = end->console_bytes < STORE_CONSOLE_BYTES ? end->console_bytes : STORE_CONSOLE_BYTES;
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, "INSERT INTO consoles (lease_id, tail) VALUES (?1, ?2)", err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_bytes(&query, end->console + (end->console_bytes - kept), kept);
    return query_run(&query);
}

static int run_with_id(struct store *store, const char *sql, const char *id, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    return query_run(&query);
}

static int tell(struct store *store, const char *id, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] =
        "INSERT INTO events (at_ms, type, lease_id, data)"
        " SELECT stopped_ms, 'lease.terminated', lease_id, json_object('reason', reason, 'initiated_by', initiated_by,"
        " 'detail', detail, 'violation_id', violation_id, 'exit_code', nullif(exit_code, -1),"
        " 'signal', nullif(signal, 0)) FROM terminations WHERE lease_id = ?1";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    return event_write(store, &query);
}

/* One lease at most ends in a transaction, so the rows that have to go are never many. */
static int prune(struct store *store, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] = "DELETE FROM leases WHERE id IN (SELECT lease_id FROM terminations"
                              " WHERE number <= (SELECT max(number) FROM terminations) - ?1)";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_int(&query, STORE_ENDED_KEPT);
    return query_run(&query);
}

static int terminate(struct store *store, const char *id, const struct store_end *end, struct error *err)
{
    static const char final[] =
        "UPDATE leases SET generation = generation + 1, state = 'terminated', policy_observed = 0,"
        " state_detail = (SELECT detail FROM terminations WHERE lease_id = ?1) WHERE id = ?1";
    enum lease_state from;
    int result = lease_living(store, id, &from, err);
    if (result < 0)
        return result;
    REQUIRE(lease_may_follow(from, LEASE_TERMINATED)); /* every living state may end */
    result = insert(store, id, end, err);
    if (result == 0)
        result = write_console(store, id, end, err);
    if (result == 0)
        result = run_with_id(store, final, id, err);
    if (result == 0)
        result = tell(store, id, err);
    if (result == 0)
        result = prune(store, err);
    return result;
}

int store_lease_terminate(struct store *store, const char *id, const struct store_end *end, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, terminate(store, id, end, err), err);
}

int64_t store_console_get(struct store *store, const char *lease_id, uint8_t *ret_bytes, size_t capacity,
                          struct error *err)
{
    struct query query = {0};
    size_t copied = 0;
    int result = store_read(store, &query, "SELECT tail FROM consoles WHERE lease_id = ?1", err);
    if (result == 0) {
        query_bind_key(&query, lease_id);
        result = query_step(&query);
    }
    if (result == 0) {
        result = error_set(err, -ENOENT, "no console of this lease is kept");
        error_tag(err, "console-not-found", "");
    } else if (result == 1) {
        const uint8_t *bytes = NULL;
        size_t length = query_bytes(&query, &bytes);
        copied = length < capacity ? length : capacity;
        if (copied > 0)
            memcpy(ret_bytes, bytes + (length - copied), copied); /* a tail: its end is what matters */
    }
    store_read_done(store, &query);
    return result < 0 ? result : (int64_t)copied;
}

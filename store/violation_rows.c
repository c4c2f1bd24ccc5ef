/* Violations: one row for each aggregate that a NAT reports. Reports of a lease that has just ended still count: what
 * the guest did is a fact whatever became of its lease. */
#include <errno.h>
#include <string.h>

#include "store/internal.h"

static int find(struct store *store, const struct store_violation *violation, struct id *ret_id, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, "SELECT id FROM violations WHERE lease_id = ?1 AND serial = ?2", err) < 0)
        return query.code;
    QUERY_BIND_FIELD(&query, violation->lease_id.text);
    query_bind_u64(&query, violation->serial);
    int found = query_step(&query);
    if (found == 1)
        QUERY_FIELD(&query, ret_id->text);
    return query.code < 0 ? query.code : found;
}

/* Reports may arrive late, so numbers grow and never shrink; a frame that ended the lease marks its whole aggregate. */
static int grow(struct store *store, const struct store_violation *violation, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] = "UPDATE violations SET count = max(count, ?3), last_seen_ms = max(last_seen_ms, ?4),"
                              " verdict = CASE verdict WHEN 'dropped' THEN ?5 ELSE verdict END"
                              " WHERE lease_id = ?1 AND serial = ?2";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    QUERY_BIND_FIELD(&query, violation->lease_id.text);
    query_bind_u64(&query, violation->serial);
    query_bind_u64(&query, violation->count);
    query_bind_u64(&query, violation->last_seen_ms);
    QUERY_BIND_FIELD(&query, violation->verdict);
    return query_run(&query);
}

static int insert(struct store *store, const struct store_violation *violation, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] =
        "INSERT INTO violations (id, lease_id, serial, first_seen_ms, last_seen_ms, count, code, mode, verdict, source,"
        " overflow, ethertype, ip_protocol, source_mac, source_ip, source_port, destination_ip, destination_port,"
        " frame_bytes, policy_generation, detection_latency_us, evidence, sampling_ppm) VALUES (?1, ?2, ?3, ?4, ?5, ?6,"
        " ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    QUERY_BIND_FIELD(&query, violation->id.text);
    QUERY_BIND_FIELD(&query, violation->lease_id.text);
    query_bind_u64(&query, violation->serial);
    query_bind_u64(&query, violation->first_seen_ms);
    query_bind_u64(&query, violation->last_seen_ms);
    query_bind_u64(&query, violation->count);
    QUERY_BIND_FIELD(&query, violation->code);
    QUERY_BIND_FIELD(&query, violation->mode);
    QUERY_BIND_FIELD(&query, violation->verdict);
    QUERY_BIND_FIELD(&query, violation->source);
    query_bind_int(&query, violation->overflow ? 1 : 0);
    query_bind_u64(&query, violation->ethertype);
    query_bind_u64(&query, violation->ip_protocol);
    QUERY_BIND_FIELD(&query, violation->source_mac);
    QUERY_BIND_FIELD(&query, violation->source_ip);
    query_bind_u64(&query, violation->source_port);
    QUERY_BIND_FIELD(&query, violation->destination_ip);
    query_bind_u64(&query, violation->destination_port);
    query_bind_u64(&query, violation->frame_bytes);
    query_bind_u64(&query, violation->policy_generation);
    query_bind_u64(&query, violation->detection_latency_us);
    query_bind_bytes(&query, violation->evidence, violation->evidence_bytes);
    query_bind_u64(&query, violation->sampling_ppm);
    int result = query_run(&query);
    if (result == -ENOENT) {
        error_set(err, -ENOENT, "there is no such lease");
        error_tag(err, "lease-not-found", "");
    }
    return result;
}

static int tell(struct store *store, const struct store_violation *violation, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] =
        "INSERT INTO events (at_ms, type, lease_id, data)"
        " SELECT first_seen_ms, 'violation.detected', lease_id, json_object('violation_id', id, 'code', code,"
        " 'verdict', verdict, 'source', source, 'ip_protocol', ip_protocol, 'destination_ip',"
        " nullif(destination_ip, ''), 'destination_port', destination_port) FROM violations WHERE id = ?1";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    QUERY_BIND_FIELD(&query, violation->id.text);
    return event_write(store, &query);
}

/* ---- what is bounded ------------------------------------------------------------------------------------------- */

/* Return: 1 when the lease has all the rows that it may have, 0, or negative. */
static int full(struct store *store, const struct store_violation *violation, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] = "SELECT count(*) FROM violations WHERE lease_id = ?1";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    QUERY_BIND_FIELD(&query, violation->lease_id.text);
    uint64_t count = query_step(&query) == 1 ? query_u64(&query) : 0;
    return query.code < 0 ? query.code : count >= STORE_VIOLATIONS_MAX;
}

/* The lease's overflow row of the same code. Return: 1 when there is one, 0, or negative. */
static int find_overflow(struct store *store, const struct store_violation *violation, struct id *ret_id,
                         struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] = "SELECT id FROM violations WHERE lease_id = ?1 AND code = ?2 AND overflow = 1"
                              " ORDER BY number DESC LIMIT 1";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    QUERY_BIND_FIELD(&query, violation->lease_id.text);
    QUERY_BIND_FIELD(&query, violation->code);
    int found = query_step(&query);
    if (found == 1)
        QUERY_FIELD(&query, ret_id->text);
    return query.code < 0 ? query.code : found;
}

/* A report's count is that of its own aggregate so far, told again and again, so it cannot be added here. */
static int count_overflow(struct store *store, const struct store_violation *violation, const struct id *id,
                          struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] = "UPDATE violations SET count = count + 1, last_seen_ms = max(last_seen_ms, ?2),"
                              " verdict = CASE verdict WHEN 'dropped' THEN ?3 ELSE verdict END WHERE id = ?1";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    QUERY_BIND_FIELD(&query, id->text);
    query_bind_u64(&query, violation->last_seen_ms);
    QUERY_BIND_FIELD(&query, violation->verdict);
    return query_run(&query);
}

/* The writer's transaction is open. */
static int purge(struct store *store, uint64_t now_ms, struct error *err)
{
    static const uint64_t age_ms = UINT64_C(1000) * STORE_EVIDENCE_AGE_S;
    /* The first row past the newest STORE_EVIDENCE_KEPT that have evidence goes, and all before it. */
    static const char sql[] =
        "UPDATE violations SET evidence = zeroblob(0), evidence_purged = 1 WHERE length(evidence) > 0 AND"
        " (first_seen_ms < ?1 OR number <= (SELECT number FROM violations WHERE length(evidence) > 0"
        " ORDER BY number DESC LIMIT 1 OFFSET ?2))";
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_u64(&query, now_ms > age_ms ? now_ms - age_ms : 0);
    query_bind_int(&query, STORE_EVIDENCE_KEPT);
    return query_run(&query);
}

int store_evidence_purge(struct store *store, uint64_t now_ms, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, purge(store, now_ms, err), err);
}

/* ---- recording ------------------------------------------------------------------------------------------------- */

static int make(struct store *store, const struct store_violation *violation, struct error *err)
{
    int result = insert(store, violation, err);
    int64_t number = sqlite3_last_insert_rowid(store->writer.db);
    if (result == 0)
        result = tell(store, violation, err);
    if (result == 0 && number % STORE_EVIDENCE_PRUNE == 0)
        result = purge(store, violation->last_seen_ms, err);
    return result;
}

static int record(struct store *store, const struct store_violation *violation, struct id *ret_id, struct error *err)
{
    int found = find(store, violation, ret_id, err);
    if (found < 0)
        return found;
    if (found == 1)
        return grow(store, violation, err);
    int is_full = full(store, violation, err);
    if (is_full < 0)
        return is_full;
    struct store_violation row = *violation;
    if (is_full == 1) {
        found = find_overflow(store, violation, ret_id, err);
        if (found != 0)
            return found < 0 ? found : count_overflow(store, violation, ret_id, err);
        row.overflow = true;
    }
    *ret_id = row.id;
    return make(store, &row, err);
}

static int record_all(struct store *store, const struct store_violation *rows, size_t count, struct id *ret_ids,
                      struct error *err)
{
    int result = 0;
    for (size_t at = 0; at < count && result == 0; at++)
        result = record(store, &rows[at], &ret_ids[at], err);
    return result;
}

int store_violation_record_all(struct store *store, const struct store_violation *rows, size_t count,
                               struct id *ret_ids, struct error *err)
{
    for (size_t at = 0; at < count; at++) {
        if (rows[at].evidence_bytes > STORE_EVIDENCE_BYTES)
            return error_set(err, -EINVAL, "evidence is %u bytes, more than %d", rows[at].evidence_bytes,
                             STORE_EVIDENCE_BYTES);
    }
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, record_all(store, rows, count, ret_ids, err), err);
}

int store_violation_record(struct store *store, const struct store_violation *violation, struct id *ret_id,
                           struct error *err)
{
    struct id id;
    int result = store_violation_record_all(store, violation, 1, &id, err);
    if (result == 0 && ret_id != NULL)
        *ret_id = id;
    return result;
}

static int stopped(struct store *store, const char *id, uint64_t stop_latency_ms, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] = "UPDATE violations SET stop_latency_ms = ?2 WHERE id = ?1 AND verdict = 'terminated'";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_u64(&query, stop_latency_ms);
    int result = query_run(&query);
    if (result == 0 && sqlite3_changes(store->writer.db) == 0) {
        result = error_set(err, -ENOENT, "there is no such violation that terminated a lease");
        error_tag(err, "violation-not-found", "");
    }
    return result;
}

int store_violation_stopped(struct store *store, const char *id, uint64_t stop_latency_ms, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, stopped(store, id, stop_latency_ms, err), err);
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

#define VIOLATION_SELECT                                                                                               \
    "SELECT id, lease_id, serial, first_seen_ms, last_seen_ms, count, code, mode, verdict, source, overflow,"          \
    " ethertype, ip_protocol, source_mac, source_ip, source_port, destination_ip, destination_port, frame_bytes,"      \
    " policy_generation, detection_latency_us, sampling_ppm, stop_latency_ms, evidence_purged, evidence"               \
    " FROM violations"

static void read_row(struct query *query, struct store_violation *ret_violation)
{
    memset(ret_violation, 0, sizeof *ret_violation);
    QUERY_FIELD(query, ret_violation->id.text);
    QUERY_FIELD(query, ret_violation->lease_id.text);
    ret_violation->serial = query_u32(query);
    ret_violation->first_seen_ms = query_u64(query);
    ret_violation->last_seen_ms = query_u64(query);
    ret_violation->count = query_u64(query);
    QUERY_FIELD(query, ret_violation->code);
    QUERY_FIELD(query, ret_violation->mode);
    QUERY_FIELD(query, ret_violation->verdict);
    QUERY_FIELD(query, ret_violation->source);
    ret_violation->overflow = query_int(query) != 0;
    ret_violation->ethertype = query_u32(query);
    ret_violation->ip_protocol = query_u32(query);
    QUERY_FIELD(query, ret_violation->source_mac);
    QUERY_FIELD(query, ret_violation->source_ip);
    ret_violation->source_port = query_u32(query);
    QUERY_FIELD(query, ret_violation->destination_ip);
    ret_violation->destination_port = query_u32(query);
    ret_violation->frame_bytes = query_u32(query);
    ret_violation->policy_generation = query_u64(query);
    ret_violation->detection_latency_us = query_u32(query);
    ret_violation->sampling_ppm = query_u32(query);
    ret_violation->stop_latency_ms = query_u64(query);
    ret_violation->evidence_purged = query_int(query) != 0;
    const uint8_t *evidence = NULL;
    size_t length = query_bytes(query, &evidence);
    if (query->code == 0 && length > sizeof ret_violation->evidence)
        query->code = error_set(query->err, -EUCLEAN, "the database holds %zu bytes of evidence", length);
    if (query->code < 0 || length == 0)
        return;
    memcpy(ret_violation->evidence, evidence, length);
    ret_violation->evidence_bytes = (uint32_t)length;
}

int store_violation_serials(struct store *store, const char *lease_id, uint32_t guest_first, uint32_t *ret_next,
                            uint32_t *ret_guest_next, struct error *err)
{
    static const char sql[] = "SELECT coalesce(max(CASE WHEN serial < ?2 THEN serial + 1 END), 0),"
                              " coalesce(max(CASE WHEN serial >= ?2 THEN serial + 1 END), ?2)"
                              " FROM violations WHERE lease_id = ?1";
    struct query query = {0};
    int result = store_read(store, &query, sql, err);
    if (result == 0) {
        query_bind_key(&query, lease_id);
        query_bind_u64(&query, guest_first);
        result = query_step(&query);
    }
    if (result == 1) {
        *ret_next = query_u32(&query);
        *ret_guest_next = query_u32(&query);
        result = query.code;
    }
    store_read_done(store, &query);
    return result;
}

int store_violation_get(struct store *store, const char *id, struct store_violation *ret_violation, struct error *err)
{
    struct query query = {0};
    struct store_violation violation;
    int result = store_read(store, &query, VIOLATION_SELECT " WHERE id = ?1", err);
    if (result == 0) {
        query_bind_key(&query, id);
        result = query_step(&query);
    }
    if (result == 0) {
        result = error_set(err, -ENOENT, "there is no such violation");
        error_tag(err, "violation-not-found", "");
    } else if (result == 1) {
        read_row(&query, &violation);
        result = query.code;
    }
    store_read_done(store, &query);
    if (result == 0)
        *ret_violation = violation;
    return result;
}

static const char *list_sql(const struct store_filter *filter)
{
    if (filter->lease_id != NULL)
        return filter->newest_first ? VIOLATION_SELECT " WHERE lease_id = ?3" STORE_NEWEST_FIRST("number", "?2")
                                    : VIOLATION_SELECT " WHERE lease_id = ?3" STORE_OLDEST_FIRST("number", "?2");
    return filter->newest_first ? VIOLATION_SELECT " WHERE TRUE" STORE_NEWEST_FIRST("number", "?2")
                                : VIOLATION_SELECT " WHERE TRUE" STORE_OLDEST_FIRST("number", "?2");
}

int store_violation_list(struct store *store, const struct store_filter *filter, store_violation_each each,
                         void *context, struct error *err)
{
    struct query query = {0};
    uint64_t after = 0;
    int result = store_filter_check(filter, err);
    if (result < 0)
        return result;
    result = store_read(store, &query, list_sql(filter), err);
    if (result == 0)
        result = cursor_number(store, filter, "SELECT number FROM violations WHERE id = ?1", &after, err);
    if (result == 0) {
        query_bind_u64(&query, after);
        query_bind_u64(&query, filter->limit);
        if (filter->lease_id != NULL)
            query_bind_key(&query, filter->lease_id);
        while ((result = query_step(&query)) == 1) {
            struct store_violation violation;
            read_row(&query, &violation);
            result = query.code < 0 ? query.code : each(context, &violation);
            if (result != 0)
                break;
        }
    }
    store_read_done(store, &query);
    return result;
}

/* Idempotency keys: a row comes with the lease that its request was answered with, in the same transaction, and is
 * kept for a day. */
#include <errno.h>
#include <string.h>

#include "store/internal.h"

enum {
    KEPT_MS = STORE_KEYS_AGE_S * 1000,
};

static int prune(struct store *store, uint64_t now_ms, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    /* One from the future was made before the wall clock was set back; it must not stay for ever either. */
    if (query_open(&query, &store->writer, "DELETE FROM idempotency_keys WHERE created_ms < ?1 OR created_ms > ?2",
                   err) < 0)
        return query.code;
    query_bind_u64(&query, now_ms > KEPT_MS ? now_ms - KEPT_MS : 0);
    query_bind_u64(&query, now_ms + KEPT_MS);
    return query_run(&query);
}

/* Rows go at the old end, so the numbers in use tell how many there are without counting them. */
static int check_room(struct store *store, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, "SELECT coalesce(max(number) - min(number) + 1, 0) FROM idempotency_keys",
                   err) < 0)
        return query.code;
    uint64_t count = query_step(&query) == 1 ? query_u64(&query) : 0;
    if (query.code == 0 && count >= STORE_KEYS_MAX) {
        error_set(err, -EDQUOT, "%d idempotency keys were used within a day; no further one is taken", STORE_KEYS_MAX);
        error_tag(err, "too-many-keys", "");
        return -EDQUOT;
    }
    return query.code;
}

int key_write(struct store *store, const struct store_once *once, const struct store_lease *lease, struct error *err)
{
    int result = prune(store, lease->created_ms, err);
    if (result == 0)
        result = check_room(store, err);
    if (result < 0)
        return result;
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer,
                   "INSERT INTO idempotency_keys (key, request_hash, lease_id, answer, created_ms)"
                   " VALUES (?1, ?2, ?3, ?4, ?5)",
                   err) < 0)
        return query.code;
    query_bind_text(&query, once->key, STORE_KEY_BYTES);
    query_bind_bytes(&query, once->request_hash, STORE_REQUEST_HASH_BYTES);
    QUERY_BIND_FIELD(&query, lease->id.text);
    query_bind_text(&query, once->answer, STORE_ANSWER_BYTES);
    query_bind_u64(&query, lease->created_ms);
    return query_run(&query);
}

static int read_answer(struct query *query, const uint8_t *request_hash, struct store_answer *ret_answer)
{
    const uint8_t *hash = NULL;
    size_t bytes = query_bytes(query, &hash);
    if (query->code < 0)
        return query->code;
    if (bytes != STORE_REQUEST_HASH_BYTES || memcmp(hash, request_hash, STORE_REQUEST_HASH_BYTES) != 0) {
        error_set(query->err, -EINVAL, "the idempotency key was used with another request");
        error_tag(query->err, "idempotency-key-reused", "");
        return -EINVAL;
    }
    QUERY_FIELD(query, ret_answer->lease_id.text);
    QUERY_FIELD(query, ret_answer->body);
    return query->code;
}

int store_key_recall(struct store *store, const char *key, const uint8_t request_hash[static STORE_REQUEST_HASH_BYTES],
                     uint64_t now_ms, struct store_answer *ret_answer, struct error *err)
{
    struct query query = {0};
    int result = store_read(store, &query,
                            "SELECT request_hash, lease_id, answer FROM idempotency_keys"
                            " WHERE key = ?1 AND created_ms BETWEEN ?2 AND ?3",
                            err);
    if (result == 0) {
        query_bind_key(&query, key);
        query_bind_u64(&query, now_ms > KEPT_MS ? now_ms - KEPT_MS : 0);
        query_bind_u64(&query, now_ms + KEPT_MS);
        result = query_step(&query);
        if (result == 1)
            result = read_answer(&query, request_hash, ret_answer);
        else if (result == 0)
            result = error_set(err, -ENOENT, "the idempotency key was not used");
    }
    store_read_done(store, &query);
    return result;
}

static int forget(struct store *store, const char *key, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, "DELETE FROM idempotency_keys WHERE key = ?1", err) < 0)
        return query.code;
    query_bind_key(&query, key);
    return query_run(&query);
}

int store_key_forget(struct store *store, const char *key, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, forget(store, key, err), err);
}

/* The end that a lease is given: renewals, and the warning before it. */
#include <errno.h>

#include "store/internal.h"

/* What both events say; SQLite reads seconds with a fraction and rounds to milliseconds, so none of them is lost. */
#define END_OF_LEASE                                                                                                   \
    "json_object('ttl_s', ttl_s, 'expires_at', strftime('%Y-%m-%dT%H:%M:%fZ', expires_ms / 1000.0, 'unixepoch'))"      \
    " FROM leases WHERE id = ?1"

/* Its state is one that goes on: a lease that is stopping has its cause, and no new end changes that. */
static int going_on(struct store *store, const char *id, struct error *err)
{
    enum lease_state state;
    int result = lease_living(store, id, &state, err);
    if (result == 0 && state == LEASE_STOPPING) {
        error_set(err, -EALREADY, "the lease is ending");
        error_tag(err, "lease-ended", "");
        return -EALREADY;
    }
    return result;
}

static int renew(struct store *store, const char *id, const struct store_renewal *renewal, struct error *err)
{
    static const char renewed[] =
        "INSERT INTO events (at_ms, type, lease_id, data) SELECT ?2, 'lease.renewed', id, " END_OF_LEASE;
    int result = going_on(store, id, err);
    if (result < 0)
        return result;
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer,
                   "UPDATE leases SET generation = generation + 1, ttl_s = ?2, expires_ms = ?3, deadline_ms = ?4,"
                   " deadline_boot_id = ?5 WHERE id = ?1",
                   err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_u64(&query, renewal->ttl_s);
    query_bind_u64(&query, renewal->expires_ms);
    query_bind_u64(&query, renewal->deadline_ms);
    query_bind_text(&query, renewal->deadline_boot_id, ID_TEXT_BYTES);
    result = query_run(&query);
    return result < 0 ? result : lease_tell(store, renewed, id, renewal->at_ms, err);
}

int store_lease_renew(struct store *store, const char *id, const struct store_renewal *renewal, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, renew(store, id, renewal, err), err);
}

int store_lease_expiring(struct store *store, const char *id, uint64_t at_ms, struct error *err)
{
    static const char expiring[] =
        "INSERT INTO events (at_ms, type, lease_id, data) SELECT ?2, 'lease.expiring', id, " END_OF_LEASE;
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    result = going_on(store, id, err);
    return store_finish(store, result < 0 ? result : lease_tell(store, expiring, id, at_ms, err), err);
}

/* Whether the machine is being drained: one row, and a gate that store_lease_reserve() passes. */
#include <errno.h>
#include <inttypes.h>

#include "store/internal.h"

static int read_drain(struct store_connection *connection, struct store_drain *ret_drain, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, connection, "SELECT generation, draining, changed_ms FROM drain", err) < 0)
        return query.code;
    int found = query_step(&query);
    if (found == 0)
        return error_set(err, -EUCLEAN, "the database has lost whether the machine is being drained");
    if (found == 1)
        *ret_drain = (struct store_drain){
            .generation = query_u64(&query), .draining = query_u32(&query) != 0, .changed_ms = query_u64(&query)};
    return query.code;
}

int store_drain_get(struct store *store, struct store_drain *ret_drain, struct error *err)
{
    pthread_mutex_lock(&store->reader.lock);
    int result = read_drain(&store->reader, ret_drain, err);
    pthread_mutex_unlock(&store->reader.lock);
    return result;
}

int drain_check(struct store *store, struct error *err)
{
    struct store_drain drain = {0};
    int result = read_drain(&store->writer, &drain, err);
    if (result < 0 || !drain.draining)
        return result;
    error_set(err, -EAGAIN, "The machine is being taken out of service and admits no lease.");
    error_tag(err, "draining", "");
    return -EAGAIN;
}

static int write_drain(struct store *store, bool draining, uint64_t at_ms, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer,
                   "UPDATE drain SET generation = generation + 1, draining = ?1, changed_ms = ?2", err) < 0)
        return query.code;
    query_bind_u64(&query, draining ? 1 : 0);
    query_bind_u64(&query, at_ms);
    return query_run(&query);
}

static int tell(struct store *store, uint64_t at_ms, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer,
                   "INSERT INTO events (at_ms, type, data) SELECT ?1, 'node.drain_changed', "
                   "json_object('draining', json(iif(draining, 'true', 'false')), 'generation', generation) FROM drain",
                   err) < 0)
        return query.code;
    query_bind_u64(&query, at_ms);
    return event_write(store, &query);
}

static int change(struct store *store, uint64_t generation, bool draining, uint64_t at_ms,
                  struct store_drain *ret_drain, struct error *err)
{
    int result = read_drain(&store->writer, ret_drain, err);
    if (result < 0)
        return result;
    if (ret_drain->generation != generation) {
        error_set(err, -ESTALE, "The present generation is %" PRIu64 ".", ret_drain->generation);
        error_tag(err, "precondition-failed", "");
        return -ESTALE;
    }
    if (ret_drain->draining == draining)
        return 0;
    if ((result = write_drain(store, draining, at_ms, err)) < 0 || (result = tell(store, at_ms, err)) < 0)
        return result;
    return read_drain(&store->writer, ret_drain, err);
}

int store_drain_set(struct store *store, uint64_t generation, bool draining, uint64_t at_ms,
                    struct store_drain *ret_drain, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, change(store, generation, draining, at_ms, ret_drain, err), err);
}

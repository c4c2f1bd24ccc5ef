/* WireGuard peers: the consumer's side of each lease and what is known of its tunnel. */
#include <errno.h>
#include <string.h>

#include "store/internal.h"

int peer_check_free(struct store *store, const struct store_lease *lease, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] = "SELECT l.id FROM peers p JOIN leases l ON l.id = p.lease_id"
                              " WHERE p.public_key = ?1 AND p.endpoint = ?2 AND l.state <> 'terminated' LIMIT 1";
    struct id holder = {""};
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    QUERY_BIND_FIELD(&query, lease->consumer_public_key);
    QUERY_BIND_FIELD(&query, lease->consumer_endpoint);
    if (query_step(&query) == 0)
        return 0;
    QUERY_FIELD(&query, holder.text);
    if (query.code < 0)
        return query.code;
    error_set(err, -EEXIST, "lease %s has the same consumer key and endpoint and has not ended", holder.text);
    error_tag(err, "peer-in-use", "/consumer");
    return -EEXIST;
}

int peer_write(struct store *store, const struct store_lease *lease, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] = "INSERT INTO peers (lease_id, public_key, endpoint, tunnel_ip, vm_public_key,"
                              " vm_tunnel_ip, tunnel_state, established_ms, last_handshake_ms)"
                              " VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'waiting', 0, 0)";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    QUERY_BIND_FIELD(&query, lease->id.text);
    QUERY_BIND_FIELD(&query, lease->consumer_public_key);
    QUERY_BIND_FIELD(&query, lease->consumer_endpoint);
    QUERY_BIND_FIELD(&query, lease->consumer_tunnel_ip);
    QUERY_BIND_FIELD(&query, lease->vm_public_key);
    QUERY_BIND_FIELD(&query, lease->vm_tunnel_ip);
    return query_run(&query);
}

/* What a peer's row says of its tunnel. */
struct tunnel {
    char state[STORE_WORD_BYTES];
    bool up;
};

static int read_tunnel(struct store *store, const char *id, struct tunnel *ret_tunnel, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, "SELECT tunnel_state, established_ms <> 0 FROM peers WHERE lease_id = ?1",
                   err) < 0)
        return query.code;
    query_bind_key(&query, id);
    if (query_step(&query) == 1) {
        QUERY_FIELD(&query, ret_tunnel->state);
        ret_tunnel->up = query_int(&query) != 0;
    }
    return query.code;
}

static int update_tunnel(struct store *store, const char *id, const char *state, struct store_ports ports,
                         uint64_t at_ms, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] =
        "UPDATE peers SET tunnel_state = ?2, established_ms = CASE WHEN ?2 IN ('waiting', 'lost') THEN 0"
        " WHEN ?2 = 'established' THEN coalesce(nullif(established_ms, 0), ?3) ELSE established_ms END,"
        " last_handshake_ms = CASE ?2 WHEN 'established' THEN ?3 ELSE last_handshake_ms END,"
        " guest_port = ?4, local_port = ?5 WHERE lease_id = ?1";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_text(&query, state, STORE_WORD_BYTES);
    query_bind_u64(&query, at_ms);
    query_bind_u64(&query, ports.guest);
    query_bind_u64(&query, ports.local);
    return query_run(&query);
}

static int tell_tunnel(struct store *store, const char *sql, const char *id, const char *state, uint64_t at_ms,
                       struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_text(&query, state, STORE_WORD_BYTES);
    query_bind_u64(&query, at_ms);
    return event_write(store, &query);
}

/* WireGuard makes new keys every two minutes (REKEY_AFTER_TIME), so a handshake of a tunnel that is up is no news: it
 * is up from its first establishment until it is lost or waits again. */
static int note_tunnel(struct store *store, const char *id, const char *state, struct store_ports ports, uint64_t at_ms,
                       struct error *err)
{
    static const char up[] = "INSERT INTO events (at_ms, type, lease_id, data)"
                             " SELECT ?3, 'tunnel.established', ?1, '{}' WHERE ?2 = 'established'";
    static const char down[] = "INSERT INTO events (at_ms, type, lease_id, data)"
                               " SELECT ?3, 'tunnel.lost', ?1, '{}' WHERE ?2 IN ('waiting', 'lost')";
    enum lease_state lease_state;
    struct tunnel before = {0};
    struct tunnel after = {0};
    int result = lease_living(store, id, &lease_state, err);
    if (result == 0)
        result = read_tunnel(store, id, &before, err);
    if (result == 0 && strcmp(before.state, state) == 0 && strcmp(state, "established") != 0)
        return 0; /* said twice */
    if (result == 0)
        result = update_tunnel(store, id, state, ports, at_ms, err);
    if (result == 0)
        result = lease_touch(store, id, err);
    if (result == 0)
        result = read_tunnel(store, id, &after, err);
    if (result == 0 && before.up != after.up)
        result = tell_tunnel(store, after.up ? up : down, id, state, at_ms, err);
    return result;
}

int store_lease_tunnel(struct store *store, const char *id, const char *state, struct store_ports ports, uint64_t at_ms,
                       struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, note_tunnel(store, id, state, ports, at_ms, err), err);
}

#define PEER_SELECT                                                                                                    \
    "SELECT p.public_key, p.lease_id, p.endpoint, p.tunnel_ip, p.vm_public_key, p.vm_tunnel_ip, p.tunnel_state,"       \
    " p.established_ms, p.last_handshake_ms, l.state, l.created_ms FROM peers p JOIN leases l ON l.id = p.lease_id"

static void read_row(struct query *query, struct store_peer *ret_peer)
{
    char state[STORE_WORD_BYTES] = "";
    memset(ret_peer, 0, sizeof *ret_peer);
    QUERY_FIELD(query, ret_peer->public_key);
    QUERY_FIELD(query, ret_peer->lease_id.text);
    QUERY_FIELD(query, ret_peer->endpoint);
    QUERY_FIELD(query, ret_peer->tunnel_ip);
    QUERY_FIELD(query, ret_peer->vm_public_key);
    QUERY_FIELD(query, ret_peer->vm_tunnel_ip);
    QUERY_FIELD(query, ret_peer->tunnel_state);
    ret_peer->established_ms = query_u64(query);
    ret_peer->last_handshake_ms = query_u64(query);
    QUERY_FIELD(query, state);
    ret_peer->created_ms = query_u64(query);
    if (query->code == 0 && !lease_state_parse(state, &ret_peer->lease_state))
        query->code = error_set(query->err, -EUCLEAN, "the database holds an unknown lease state");
}

int store_peer_get(struct store *store, const char *public_key, struct store_peer *ret_peer, struct error *err)
{
    struct query query = {0};
    struct store_peer peer;
    int result = store_read(store, &query, PEER_SELECT " WHERE p.public_key = ?1 ORDER BY p.number DESC LIMIT 1", err);
    if (result == 0) {
        query_bind_key(&query, public_key);
        result = query_step(&query);
    }
    if (result == 0) {
        result = error_set(err, -ENOENT, "no lease has a peer with this public key");
        error_tag(err, "peer-not-found", "");
    } else if (result == 1) {
        read_row(&query, &peer);
        result = query.code;
    }
    store_read_done(store, &query);
    if (result == 0)
        *ret_peer = peer;
    return result;
}

int store_peer_list(struct store *store, const struct store_filter *filter, store_peer_each each, void *context,
                    struct error *err)
{
    struct query query = {0};
    uint64_t after = 0;
    int result = store_filter_check(filter, err);
    if (result < 0)
        return result;
    result = store_read(store, &query,
                        filter->newest_first
                            ? PEER_SELECT " WHERE (?2 IS NULL OR p.lease_id = ?2)" STORE_NEWEST_FIRST("p.number", "?3")
                            : PEER_SELECT " WHERE (?2 IS NULL OR p.lease_id = ?2)" STORE_OLDEST_FIRST("p.number", "?3"),
                        err);
    if (result == 0)
        result = cursor_number(store, filter, "SELECT number FROM peers WHERE lease_id = ?1", &after, err);
    if (result == 0) {
        query_bind_u64(&query, after);
        query_bind_key(&query, filter->lease_id);
        query_bind_u64(&query, filter->limit);
        while ((result = query_step(&query)) == 1) {
            struct store_peer peer;
            read_row(&query, &peer);
            result = query.code < 0 ? query.code : each(context, &peer);
            if (result != 0)
                break;
        }
    }
    store_read_done(store, &query);
    return result;
}

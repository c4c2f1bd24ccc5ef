/* Reading leases: one, a page of them, those that have ended, and what the living ones take in all. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "store/internal.h"

#define LEASE_SELECT                                                                                                   \
    "SELECT l.id, l.generation, l.state, l.state_detail, nullif(l.image, '-'), l.image_digest, l.vcpus, "              \
    "l.memory_mib, l.disk_mib,"                                                                                        \
    " l.mode, l.guest_mac, l.guest_ip, p.public_key, p.endpoint, p.tunnel_ip, p.vm_public_key, p.vm_tunnel_ip,"        \
    " l.ssh_user, l.labels, l.accelerator, l.ttl_s, l.created_ms, l.started_ms, l.expires_ms, l.policy_desired,"       \
    " l.policy_observed, p.tunnel_state, p.established_ms, p.last_handshake_ms, l.pid, l.pid_start_ticks, l.boot_id,"  \
    " t.reason, t.initiated_by, t.detail, t.violation_id, t.exit_code, t.signal, t.detected_ms, t.stopped_ms,"         \
    " l.sampling_ppm, l.boot_isolation, l.on_violation, l.require_wireguard, l.egress_bits_per_s,"                     \
    " l.ingress_bits_per_s, l.egress_packets_per_s, l.ingress_packets_per_s, l.exposed_ms, l.heartbeat_timeout_s,"     \
    " l.deadline_ms, l.deadline_boot_id, l.attachment, l.socket_path, l.trace_id, p.guest_port, p.local_port, "        \
    "l.release_asked, "                                                                                                \
    "l.allowlist,"                                                                                                     \
    " l.vm_endpoint"                                                                                                   \
    " FROM leases l JOIN peers p ON p.lease_id = l.id LEFT JOIN terminations t ON t.lease_id = l.id"
#define LEASE_CONDITIONS " AND (?2 IS NULL OR l.id = ?2) AND (?3 IS NULL OR l.mode = ?3)"
#define LEASE_IN_STATE LEASE_SELECT " WHERE l.state = ?5" LEASE_CONDITIONS
#define LEASE_IN_ANY_STATE LEASE_SELECT " WHERE TRUE" LEASE_CONDITIONS

static void read_termination(struct query *query, struct store_lease *ret_lease)
{
    char reason[STORE_WORD_BYTES] = "";
    QUERY_FIELD(query, reason);
    QUERY_FIELD(query, ret_lease->initiated_by);
    QUERY_FIELD(query, ret_lease->termination_detail);
    QUERY_FIELD(query, ret_lease->violation_id);
    int64_t exit_code = query_int(query);
    int64_t signal = query_int(query);
    ret_lease->detected_ms = query_u64(query);
    ret_lease->stopped_ms = query_u64(query);
    ret_lease->exit_code = -1;
    if (reason[0] == '\0' || query->code < 0)
        return; /* has not ended */
    bool known = lease_reason_parse(reason, &ret_lease->reason);
    if (!known || exit_code < -1 || exit_code > INT_MAX || signal < 0 || signal > INT_MAX) {
        query->code = error_set(query->err, -EUCLEAN, "the database holds a termination that makes no sense");
        return;
    }
    ret_lease->exit_code = (int)exit_code;
    ret_lease->signal = (int)signal;
}

static void read_network(struct query *query, struct store_lease *ret_lease)
{
    ret_lease->sampling_ppm = query_u32(query);
    QUERY_FIELD(query, ret_lease->boot_isolation);
    QUERY_FIELD(query, ret_lease->on_violation);
    ret_lease->require_wireguard = query_int(query) != 0;
    ret_lease->egress_bits_per_s = query_u64(query);
    ret_lease->ingress_bits_per_s = query_u64(query);
    ret_lease->egress_packets_per_s = query_u64(query);
    ret_lease->ingress_packets_per_s = query_u64(query);
    ret_lease->exposed_ms = query_u64(query);
}

static void read_limits(struct query *query, struct store_lease *ret_lease)
{
    ret_lease->heartbeat_timeout_s = query_u64(query);
    ret_lease->deadline_ms = query_u64(query);
    QUERY_FIELD(query, ret_lease->deadline_boot_id);
    QUERY_FIELD(query, ret_lease->attachment);
    QUERY_FIELD(query, ret_lease->socket_path);
    QUERY_FIELD(query, ret_lease->trace_id);
    ret_lease->tunnel_ports.guest = query_u32(query);
    ret_lease->tunnel_ports.local = query_u32(query);
    ret_lease->release_asked = query_int(query) != 0;
    QUERY_FIELD(query, ret_lease->allowlist);
    QUERY_FIELD(query, ret_lease->vm_endpoint);
}

static void read_row(struct query *query, struct store_lease *ret_lease)
{
    char state[STORE_WORD_BYTES] = "";
    memset(ret_lease, 0, sizeof *ret_lease);
    QUERY_FIELD(query, ret_lease->id.text);
    ret_lease->generation = query_u64(query);
    QUERY_FIELD(query, state);
    QUERY_FIELD(query, ret_lease->state_detail);
    QUERY_FIELD(query, ret_lease->image);
    QUERY_FIELD(query, ret_lease->image_digest);
    ret_lease->resources.leases = 1;
    ret_lease->resources.vcpus = query_u32(query);
    ret_lease->resources.memory_mib = query_u64(query);
    ret_lease->resources.disk_mib = query_u64(query);
    QUERY_FIELD(query, ret_lease->mode);
    QUERY_FIELD(query, ret_lease->guest_mac);
    QUERY_FIELD(query, ret_lease->guest_ip);
    QUERY_FIELD(query, ret_lease->consumer_public_key);
    QUERY_FIELD(query, ret_lease->consumer_endpoint);
    QUERY_FIELD(query, ret_lease->consumer_tunnel_ip);
    QUERY_FIELD(query, ret_lease->vm_public_key);
    QUERY_FIELD(query, ret_lease->vm_tunnel_ip);
    QUERY_FIELD(query, ret_lease->ssh_user);
    QUERY_FIELD(query, ret_lease->labels);
    QUERY_FIELD(query, ret_lease->accelerator);
    ret_lease->ttl_s = query_u64(query);
    ret_lease->created_ms = query_u64(query);
    ret_lease->started_ms = query_u64(query);
    ret_lease->expires_ms = query_u64(query);
    ret_lease->policy_desired = query_u64(query);
    ret_lease->policy_observed = query_u64(query);
    QUERY_FIELD(query, ret_lease->tunnel_state);
    ret_lease->tunnel_established_ms = query_u64(query);
    ret_lease->tunnel_last_handshake_ms = query_u64(query);
    ret_lease->pid = query_int(query);
    ret_lease->pid_start_ticks = query_u64(query);
    QUERY_FIELD(query, ret_lease->boot_id);
    read_termination(query, ret_lease);
    read_network(query, ret_lease);
    read_limits(query, ret_lease);
    if (query->code == 0 && !lease_state_parse(state, &ret_lease->state))
        query->code = error_set(query->err, -EUCLEAN, "the database holds an unknown lease state");
}

int store_lease_get(struct store *store, const char *id, struct store_lease *ret_lease, struct error *err)
{
    struct query query = {0};
    struct store_lease lease;
    int result = store_read(store, &query, LEASE_SELECT " WHERE l.id = ?1", err);
    if (result == 0) {
        query_bind_key(&query, id);
        result = query_step(&query);
    }
    if (result == 0) {
        result = error_set(err, -ENOENT, "there is no such lease");
        error_tag(err, "lease-not-found", "");
    } else if (result == 1) {
        read_row(&query, &lease);
        result = query.code;
    }
    store_read_done(store, &query);
    if (result == 0)
        *ret_lease = lease;
    return result;
}

/* A join with the labels would serve both, and be slower for those who do not ask for one. */
#define LABELLED " AND l.number IN (SELECT number FROM lease_labels WHERE key = ?6 AND value = ?7)"

static const char *labelled_sql(bool in_state, bool newest_first)
{
    if (in_state)
        return newest_first ? LEASE_IN_STATE LABELLED STORE_NEWEST_FIRST("l.number", "?4")
                            : LEASE_IN_STATE LABELLED STORE_OLDEST_FIRST("l.number", "?4");
    return newest_first ? LEASE_IN_ANY_STATE LABELLED STORE_NEWEST_FIRST("l.number", "?4")
                        : LEASE_IN_ANY_STATE LABELLED STORE_OLDEST_FIRST("l.number", "?4");
}

static const char *list_sql(bool in_state, bool newest_first)
{
    if (in_state)
        return newest_first ? LEASE_IN_STATE STORE_NEWEST_FIRST("l.number", "?4")
                            : LEASE_IN_STATE STORE_OLDEST_FIRST("l.number", "?4");
    return newest_first ? LEASE_IN_ANY_STATE STORE_NEWEST_FIRST("l.number", "?4")
                        : LEASE_IN_ANY_STATE STORE_OLDEST_FIRST("l.number", "?4");
}

static int list(struct store *store, const struct store_filter *filter, const char *state, store_lease_each each,
                void *context, struct error *err)
{
    struct query query = {0};
    uint64_t after = 0;
    bool labelled = filter->label_key != NULL;
    bool in_state = state != NULL;
    int result = store_read(
        store, &query,
        labelled ? labelled_sql(in_state, filter->newest_first) : list_sql(in_state, filter->newest_first), err);
    if (result == 0)
        result = cursor_number(store, filter, "SELECT number FROM leases WHERE id = ?1", &after, err);
    if (result == 0) {
        query_bind_u64(&query, after);
        query_bind_key(&query, filter->lease_id);
        query_bind_key(&query, filter->mode);
        query_bind_u64(&query, filter->limit);
        if (in_state || labelled)
            query_bind_key(&query, state);
        if (labelled) {
            query_bind_key(&query, filter->label_key);
            query_bind_key(&query, filter->label_value);
        }
        while ((result = query_step(&query)) == 1) {
            struct store_lease lease;
            read_row(&query, &lease);
            result = query.code < 0 ? query.code : each(context, &lease);
            if (result != 0)
                break;
        }
    }
    store_read_done(store, &query);
    return result;
}

int store_lease_list(struct store *store, const struct store_filter *filter, store_lease_each each, void *context,
                     struct error *err)
{
    int result = store_filter_check(filter, err);
    if (result < 0)
        return result;
    return list(store, filter, filter->state, each, context, err);
}

int store_termination_list(struct store *store, const struct store_filter *filter, store_lease_each each, void *context,
                           struct error *err)
{
    int result = store_filter_check(filter, err);
    if (result < 0)
        return result;
    return list(store, filter, lease_state_name(LEASE_TERMINATED), each, context, err);
}

int capacity_sum(struct store_connection *connection, struct store_resources *ret_used, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] =
        "SELECT count(*), coalesce(sum(vcpus), 0), coalesce(sum(memory_mib + overhead_memory_mib), 0),"
        " coalesce(sum(disk_mib + overhead_disk_mib), 0)"
        " FROM leases WHERE state <> 'terminated'";
    if (query_open(&query, connection, sql, err) < 0)
        return query.code;
    struct store_resources used = {0};
    if (query_step(&query) == 1) {
        used.leases = query_u32(&query);
        used.vcpus = query_u32(&query);
        used.memory_mib = query_u64(&query);
        used.disk_mib = query_u64(&query);
    }
    if (query.code == 0)
        *ret_used = used;
    return query.code;
}

int store_capacity_used(struct store *store, struct store_resources *ret_used, struct error *err)
{
    REQUIRE(pthread_mutex_lock(&store->reader.lock) == 0);
    int result = capacity_sum(&store->reader, ret_used, err);
    REQUIRE(pthread_mutex_unlock(&store->reader.lock) == 0);
    return result;
}

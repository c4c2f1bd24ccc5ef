/* Policies of running leases: proposed, then taken over in the transaction that says they are enforced, or withdrawn. */
#include <errno.h>
#include <string.h>

#include "store/internal.h"

struct standing {
    enum lease_state state;
    uint64_t desired;
    uint64_t observed;
    char public_key[STORE_KEY_TEXT_BYTES];
    char endpoint[STORE_ADDRESS_BYTES];
};

static int read_standing(struct store *store, const char *id, struct standing *ret_standing, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    int result = lease_living(store, id, &ret_standing->state, err);
    if (result < 0)
        return result;
    if (query_open(&query, &store->writer,
                   "SELECT l.policy_desired, l.policy_observed, p.public_key, p.endpoint FROM leases l"
                   " JOIN peers p ON p.lease_id = l.id WHERE l.id = ?1",
                   err) < 0)
        return query.code;
    query_bind_key(&query, id);
    if (query_step(&query) == 1) {
        ret_standing->desired = query_u64(&query);
        ret_standing->observed = query_u64(&query);
        QUERY_FIELD(&query, ret_standing->public_key);
        QUERY_FIELD(&query, ret_standing->endpoint);
    }
    return query.code;
}

static int check(struct store *store, const struct standing *standing, const struct store_policy *policy,
                 struct error *err)
{
    if (standing->state != LEASE_RUNNING) {
        error_set(err, -EAGAIN, "the lease is %s", lease_state_name(standing->state));
        error_tag(err, "lease-not-running", "");
        return -EAGAIN;
    }
    if (standing->desired + 1 != policy->generation || standing->observed != standing->desired)
        return error_set(err, -ESTALE, "policy generation %llu is wanted now and %llu in force",
                         (unsigned long long)standing->desired, (unsigned long long)standing->observed);
    if (strcmp(standing->endpoint, policy->consumer_endpoint) == 0)
        return 0;
    struct store_lease peer = {.state = LEASE_RUNNING};
    memcpy(peer.consumer_public_key, standing->public_key, sizeof peer.consumer_public_key);
    memcpy(peer.consumer_endpoint, policy->consumer_endpoint, sizeof peer.consumer_endpoint);
    return peer_check_free(store, &peer, err);
}

static int insert(struct store *store, const char *id, const struct store_policy *policy, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] =
        "INSERT INTO policies (lease_id, generation, mode, sampling_ppm, on_violation, require_wireguard,"
        " egress_bits_per_s, ingress_bits_per_s, egress_packets_per_s, ingress_packets_per_s, allowlist, endpoint)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_u64(&query, policy->generation);
    QUERY_BIND_FIELD(&query, policy->mode);
    query_bind_u64(&query, policy->sampling_ppm);
    QUERY_BIND_FIELD(&query, policy->on_violation);
    query_bind_int(&query, policy->require_wireguard ? 1 : 0);
    query_bind_u64(&query, policy->egress_bits_per_s);
    query_bind_u64(&query, policy->ingress_bits_per_s);
    query_bind_u64(&query, policy->egress_packets_per_s);
    query_bind_u64(&query, policy->ingress_packets_per_s);
    QUERY_BIND_FIELD(&query, policy->allowlist);
    QUERY_BIND_FIELD(&query, policy->consumer_endpoint);
    return query_run(&query);
}

/* Runs a change whose parameters are the lease's id and a generation. */
static int change(struct store *store, const char *sql, const char *id, uint64_t generation, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_u64(&query, generation);
    return query_run(&query);
}

static int propose(struct store *store, const char *id, const struct store_policy *policy, struct error *err)
{
    struct standing standing = {0};
    int result = read_standing(store, id, &standing, err);
    if (result == 0)
        result = check(store, &standing, policy, err);
    if (result == 0)
        result = insert(store, id, policy, err);
    if (result == 0)
        result = change(store, "UPDATE leases SET generation = generation + 1, policy_desired = ?2 WHERE id = ?1", id,
                        policy->generation, err);
    return result;
}

int store_policy_propose(struct store *store, const char *id, const struct store_policy *policy, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, propose(store, id, policy, err), err);
}

static int withdraw(struct store *store, const char *id, uint64_t generation, struct error *err)
{
    struct standing standing = {0};
    int result = read_standing(store, id, &standing, err);
    if (result < 0 || standing.desired != generation || standing.observed == generation)
        return result; /* taken over after all, or withdrawn before */
    result = change(store, "DELETE FROM policies WHERE lease_id = ?1 AND generation = ?2", id, generation, err);
    if (result == 0)
        result = change(store, "UPDATE leases SET generation = generation + 1, policy_desired = ?2 WHERE id = ?1", id,
                        standing.observed, err);
    return result;
}

int store_policy_withdraw(struct store *store, const char *id, uint64_t generation, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, withdraw(store, id, generation, err), err);
}

static int is_proposed(struct store *store, const char *id, uint64_t generation, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, "SELECT 1 FROM policies WHERE lease_id = ?1 AND generation = ?2", err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_u64(&query, generation);
    return query_step(&query);
}

int policy_take_over(struct store *store, const char *id, uint64_t generation, struct error *err)
{
    static const char lease[] =
        "UPDATE leases SET generation = generation + 1, policy_observed = ?2,"
        " vm_endpoint = iif(vm_endpoint = '', (SELECT endpoint FROM peers WHERE lease_id = ?1), vm_endpoint),"
        " (mode, sampling_ppm, on_violation, require_wireguard, egress_bits_per_s, ingress_bits_per_s,"
        "  egress_packets_per_s, ingress_packets_per_s, allowlist) ="
        " (SELECT mode, sampling_ppm, on_violation, require_wireguard, egress_bits_per_s, ingress_bits_per_s,"
        "  egress_packets_per_s, ingress_packets_per_s, allowlist FROM policies WHERE lease_id = ?1)"
        " WHERE id = ?1";
    static const char peer[] = "UPDATE peers SET endpoint = (SELECT endpoint FROM policies WHERE lease_id = ?1"
                               " AND generation = ?2) WHERE lease_id = ?1";
    int proposed = is_proposed(store, id, generation, err);
    if (proposed <= 0)
        return proposed;
    int result = change(store, lease, id, generation, err);
    if (result == 0)
        result = change(store, peer, id, generation, err);
    if (result == 0)
        result = change(store, "DELETE FROM policies WHERE lease_id = ?1 AND generation = ?2", id, generation, err);
    return result < 0 ? result : 1;
}

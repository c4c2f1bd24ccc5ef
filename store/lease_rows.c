/* Changes of leases. Each is one transaction of row and event, and nothing of it stays when any part fails.
 * What an event tells is taken from the rows just written, so that the two cannot differ. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/internal.h"

static const char short_slug[] = "insufficient-capacity";

/* struct want - How much of one thing a lease takes: what was asked for, and what that needs beyond it. */
struct want {
    const char *name;
    const char *field;
    uint64_t asked;
    uint64_t overhead;
    const char *what_for;
};

/* What is short, as sentences and as pointers. */
struct shortage {
    char message[ERROR_MESSAGE_BYTES];
    char fields[ERROR_FIELD_BYTES];
};

static void append(char *text, size_t capacity, const char *glue, const char *more)
{
    size_t used = strlen(text);
    snprintf(text + used, capacity - used, "%s%s", used == 0 ? "" : glue, more);
}

static void compare(const struct want *want, uint64_t used, uint64_t total, struct shortage *shortage)
{
    uint64_t free = total > used ? total - used : 0; /* the total may have been lowered since */
    if (want->asked <= free && want->overhead <= free - want->asked)
        return;
    char beyond[64] = "";
    char one[ERROR_MESSAGE_BYTES];
    if (want->overhead > 0)
        snprintf(beyond, sizeof beyond, " and %llu for %s", (unsigned long long)want->overhead, want->what_for);
    snprintf(one, sizeof one, "%s: %llu asked%s, %llu free of %llu", want->name, (unsigned long long)want->asked,
             beyond, (unsigned long long)free, (unsigned long long)total);
    append(shortage->message, sizeof shortage->message, "; ", one);
    if (want->field[0] != '\0')
        append(shortage->fields, sizeof shortage->fields, " ", want->field);
}

static int check_capacity(struct store *store, const struct store_lease *lease, const struct store_resources *capacity,
                          struct error *err)
{
    const struct store_resources *asked = &lease->resources;
    const struct want leases = {"leases", "", asked->leases, 0, ""};
    const struct want vcpus = {"vcpus", "/resources/vcpus", asked->vcpus, 0, ""};
    const struct want memory = {"memory_mib", "/resources/memory_mib", asked->memory_mib, lease->overhead_memory_mib,
                                "the hypervisor"};
    const struct want disk = {"disk_mib", "/resources/disk_mib", asked->disk_mib, lease->overhead_disk_mib,
                              "changes of the image's own disk"};
    struct store_resources used = {0};
    struct shortage shortage = {0};
    int result = capacity_sum(&store->writer, &used, err);
    if (result < 0)
        return result;
    compare(&leases, used.leases, capacity->leases, &shortage);
    compare(&vcpus, used.vcpus, capacity->vcpus, &shortage);
    compare(&memory, used.memory_mib, capacity->memory_mib, &shortage);
    compare(&disk, used.disk_mib, capacity->disk_mib, &shortage);
    if (shortage.message[0] == '\0')
        return 0;
    error_set(err, -ENOSPC, "%s", shortage.message);
    error_tag(err, short_slug, shortage.fields);
    return -ENOSPC;
}

#define LABELS STORE_JSON_OBJECT("?12")
#define IMAGE "iif(?29 = 'external', '-', ?3)" /* see migrations: a name that no image has */

static void bind_network(struct query *query, const struct store_lease *lease)
{
    query_bind_u64(query, lease->sampling_ppm);
    QUERY_BIND_FIELD(query, lease->boot_isolation);
    QUERY_BIND_FIELD(query, lease->on_violation);
    query_bind_int(query, lease->require_wireguard ? 1 : 0);
    query_bind_u64(query, lease->egress_bits_per_s);
    query_bind_u64(query, lease->ingress_bits_per_s);
    query_bind_u64(query, lease->egress_packets_per_s);
    query_bind_u64(query, lease->ingress_packets_per_s);
}

static int insert(struct store *store, const struct store_lease *lease, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] =
        "INSERT INTO leases (id, state, state_detail, image, image_digest, vcpus, memory_mib, disk_mib, mode,"
        " guest_mac, guest_ip, ssh_user, labels, accelerator, ttl_s, created_ms, started_ms, expires_ms,"
        " policy_desired, policy_observed, pid, pid_start_ticks, boot_id, sampling_ppm, boot_isolation, on_violation,"
        " require_wireguard, egress_bits_per_s, ingress_bits_per_s, egress_packets_per_s, ingress_packets_per_s,"
        " heartbeat_timeout_s, deadline_ms, deadline_boot_id, attachment, socket_path,"
        " overhead_memory_mib, overhead_disk_mib, trace_id)"
        " VALUES (?1, 'pending', ?2, " IMAGE ", ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, " LABELS ", ?13, ?14, ?15, 0, ?16,"
        " ?17, 0, 0, 0, '', ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33)";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    QUERY_BIND_FIELD(&query, lease->id.text);
    query_bind_sentence(&query, lease->state_detail, sizeof lease->state_detail);
    QUERY_BIND_FIELD(&query, lease->image);
    QUERY_BIND_FIELD(&query, lease->image_digest);
    query_bind_u64(&query, lease->resources.vcpus);
    query_bind_u64(&query, lease->resources.memory_mib);
    query_bind_u64(&query, lease->resources.disk_mib);
    QUERY_BIND_FIELD(&query, lease->mode);
    QUERY_BIND_FIELD(&query, lease->guest_mac);
    QUERY_BIND_FIELD(&query, lease->guest_ip);
    QUERY_BIND_FIELD(&query, lease->ssh_user);
    QUERY_BIND_FIELD(&query, lease->labels);
    QUERY_BIND_FIELD(&query, lease->accelerator);
    query_bind_u64(&query, lease->ttl_s);
    query_bind_u64(&query, lease->created_ms);
    query_bind_u64(&query, lease->expires_ms);
    query_bind_u64(&query, lease->policy_desired);
    bind_network(&query, lease);
    query_bind_u64(&query, lease->heartbeat_timeout_s);
    query_bind_u64(&query, lease->deadline_ms);
    QUERY_BIND_FIELD(&query, lease->deadline_boot_id);
    QUERY_BIND_FIELD(&query, lease->attachment);
    QUERY_BIND_FIELD(&query, lease->socket_path);
    query_bind_u64(&query, lease->overhead_memory_mib);
    query_bind_u64(&query, lease->overhead_disk_mib);
    QUERY_BIND_FIELD(&query, lease->trace_id);
    int result = query_run(&query);
    if (result == -EEXIST)
        error_tag(err, "lease-exists", "");
    return result;
}

int lease_tell(struct store *store, const char *sql, const char *id, uint64_t at_ms, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_u64(&query, at_ms);
    return event_write(store, &query);
}

static int admit(struct store *store, const struct store_lease *lease, const struct store_resources *capacity,
                 struct error *err)
{
    int result = drain_check(store, err);
    if (result == 0)
        result = peer_check_free(store, lease, err);
    return result < 0 ? result : check_capacity(store, lease, capacity, err);
}

static int write_labels(struct store *store, const struct store_lease *lease, struct error *err)
{
    if (strcmp(lease->labels, "{}") == 0)
        return 0;
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer,
                   "INSERT INTO lease_labels SELECT json_each.key, json_each.value, number"
                   " FROM leases, json_each(leases.labels) WHERE leases.id = ?1",
                   err) < 0)
        return query.code;
    QUERY_BIND_FIELD(&query, lease->id.text);
    return query_run(&query);
}

static int reserve(struct store *store, const struct store_lease *lease, const struct store_resources *capacity,
                   struct error *err)
{
    static const char created[] = "INSERT INTO events (at_ms, type, lease_id, data)"
                                  " SELECT ?2, 'lease.created', l.id, json_object('image', nullif(l.image, '-'), "
                                  "'mode', l.mode, 'endpoint', p.endpoint)"
                                  " FROM leases l JOIN peers p ON p.lease_id = l.id WHERE l.id = ?1";
    int result = admit(store, lease, capacity, err);
    if (result == 0)
        result = insert(store, lease, err);
    if (result == 0)
        result = write_labels(store, lease, err);
    if (result == 0)
        result = peer_write(store, lease, err);
    if (result == 0)
        result = lease_tell(store, created, lease->id.text, lease->created_ms, err);
    return result;
}

static int check_new(const struct store_lease *lease, struct error *err)
{
    if (lease->state != LEASE_PENDING || lease->resources.leases != 1 || lease->reason != LEASE_REASON_NONE)
        return error_set(err, -EINVAL, "a lease is reserved as one, pending, and without a termination");
    return 0;
}

int store_lease_reserve_once(struct store *store, const struct store_lease *lease,
                             const struct store_resources *capacity, const struct store_once *once, struct error *err)
{
    int result = check_new(lease, err);
    if (result == 0)
        result = store_begin(store, err);
    if (result < 0)
        return result;
    result = reserve(store, lease, capacity, err);
    if (result == 0 && once != NULL)
        result = key_write(store, once, lease, err);
    return store_finish(store, result, err);
}

int store_lease_reserve(struct store *store, const struct store_lease *lease, const struct store_resources *capacity,
                        struct error *err)
{
    return store_lease_reserve_once(store, lease, capacity, NULL, err);
}

int store_lease_try(struct store *store, const struct store_lease *lease, const struct store_resources *capacity,
                    struct error *err)
{
    int result = check_new(lease, err);
    if (result == 0)
        result = store_begin(store, err);
    if (result < 0)
        return result;
    result = admit(store, lease, capacity, err);
    /* Nothing was written; the transaction ends all the same as one that failed. */
    int finished = store_finish(store, result == 0 ? -ECANCELED : result, err);
    return finished == -ECANCELED ? 0 : finished;
}

int lease_living(struct store *store, const char *id, enum lease_state *ret_state, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    char name[STORE_WORD_BYTES] = "";
    if (query_open(&query, &store->writer, "SELECT state FROM leases WHERE id = ?1", err) < 0)
        return query.code;
    query_bind_key(&query, id);
    int found = query_step(&query);
    if (found == 0) {
        error_set(err, -ENOENT, "there is no such lease");
        error_tag(err, "lease-not-found", "");
        return -ENOENT;
    }
    QUERY_FIELD(&query, name);
    if (query.code < 0)
        return query.code;
    enum lease_state state;
    if (!lease_state_parse(name, &state))
        return error_set(err, -EUCLEAN, "the database holds an unknown lease state");
    if (lease_is_final(state)) {
        error_set(err, -EALREADY, "the lease has ended");
        error_tag(err, "lease-ended", "");
        return -EALREADY;
    }
    *ret_state = state;
    return 0;
}

/* A restarted daemon enforces nothing yet: what the NAT of its predecessor had in force is gone with it. */
static int move(struct store *store, const char *id, const struct store_change *change, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] =
        "UPDATE leases SET generation = generation + 1, state = ?2, state_detail = coalesce(?3, state_detail),"
        " image_digest = coalesce(?4, image_digest), accelerator = coalesce(?5, accelerator),"
        " started_ms = CASE WHEN ?2 = 'running' AND started_ms = 0 THEN ?6 ELSE started_ms END,"
        " policy_observed = CASE WHEN ?2 = 'recovering' THEN 0 ELSE policy_observed END WHERE id = ?1";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_text(&query, lease_state_name(change->to), STORE_WORD_BYTES);
    query_bind_sentence(&query, change->detail, STORE_DETAIL_BYTES);
    query_bind_text(&query, change->image_digest, STORE_DIGEST_BYTES);
    query_bind_text(&query, change->accelerator, STORE_WORD_BYTES);
    query_bind_u64(&query, change->at_ms);
    return query_run(&query);
}

/* @from, @to: one step of what the row's change stands for. */
static int tell_moved(struct store *store, const char *id, enum lease_state from, enum lease_state to, uint64_t at_ms,
                      struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    static const char sql[] = "INSERT INTO events (at_ms, type, lease_id, data)"
                              " SELECT ?2, 'lease.state_changed', id,"
                              " json_object('from', ?3, 'to', ?4, 'detail', state_detail)"
                              " FROM leases WHERE id = ?1";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_u64(&query, at_ms);
    query_bind_text(&query, lease_state_name(from), STORE_WORD_BYTES);
    query_bind_text(&query, lease_state_name(to), STORE_WORD_BYTES);
    return event_write(store, &query);
}

static int transition(struct store *store, const char *id, const struct store_change *change, struct error *err)
{
    enum lease_state from = LEASE_TERMINATED; /* stays when the lease has ended */
    int result = lease_living(store, id, &from, err);
    if (result < 0 && result != -EALREADY)
        return result;
    if (lease_is_final(change->to) || !lease_may_follow(from, change->to)) {
        error_set(err, -EINVAL, "a lease that is %s does not become %s this way", lease_state_name(from),
                  lease_state_name(change->to));
        error_tag(err, "transition-refused", "");
        return -EINVAL;
    }
    result = move(store, id, change, err);
    if (result == 0)
        result = tell_moved(store, id, from, change->to, change->at_ms, err);
    if (result == 0 && from == LEASE_RECOVERING && change->to == LEASE_RUNNING)
        result = lease_tell(store,
                            "INSERT INTO events (at_ms, type, lease_id, data)"
                            " SELECT ?2, 'recovery.adopted', id, json_object('pid', pid, 'attachment', attachment)"
                            " FROM leases WHERE id = ?1",
                            id, change->at_ms, err);
    return result;
}

int store_lease_transition(struct store *store, const char *id, const struct store_change *change, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, transition(store, id, change, err), err);
}

static int note_spawned(struct store *store, const char *id, const struct store_process *process, struct error *err)
{
    enum lease_state state;
    int result = lease_living(store, id, &state, err);
    if (result < 0)
        return result;
    struct query query SCOPED_QUERY = {0};
    static const char sql[] = "UPDATE leases SET generation = generation + 1, pid = ?2, pid_start_ticks = ?3,"
                              " boot_id = ?4, accelerator = ?5 WHERE id = ?1";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_int(&query, process->pid);
    query_bind_u64(&query, process->start_ticks);
    query_bind_text(&query, process->boot_id, ID_TEXT_BYTES);
    query_bind_text(&query, process->accelerator, STORE_WORD_BYTES);
    return query_run(&query);
}

int store_lease_spawned(struct store *store, const char *id, const struct store_process *process, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, note_spawned(store, id, process, err), err);
}

static int note_release(struct store *store, const char *id, struct error *err)
{
    enum lease_state state;
    int result = lease_living(store, id, &state, err);
    if (result < 0)
        return result;
    struct query query SCOPED_QUERY = {0};
    static const char sql[] = "UPDATE leases SET generation = generation + 1, release_asked = 1"
                              " WHERE id = ?1 AND release_asked = 0";
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    query_bind_key(&query, id);
    return query_run(&query);
}

int store_lease_release(struct store *store, const char *id, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, note_release(store, id, err), err);
}

int lease_touch(struct store *store, const char *id, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, "UPDATE leases SET generation = generation + 1 WHERE id = ?1", err) < 0)
        return query.code;
    query_bind_key(&query, id);
    return query_run(&query);
}

static int read_observed(struct store *store, const char *id, uint64_t *ret_observed, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, "SELECT policy_observed FROM leases WHERE id = ?1", err) < 0)
        return query.code;
    query_bind_key(&query, id);
    if (query_step(&query) == 1)
        *ret_observed = query_u64(&query);
    return query.code;
}

static int set_observed(struct store *store, const char *id, uint64_t generation, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer,
                   "UPDATE leases SET generation = generation + 1, policy_observed = ?2 WHERE id = ?1", err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_u64(&query, generation);
    return query_run(&query);
}

static int note_policy(struct store *store, const char *id, uint64_t generation, uint64_t at_ms, struct error *err)
{
    static const char armed[] = "INSERT INTO events (at_ms, type, lease_id, data)"
                                " SELECT ?2, 'filter.armed', id, json_object('generation', policy_observed)"
                                " FROM leases WHERE id = ?1";
    static const char applied[] = "INSERT INTO events (at_ms, type, lease_id, data)"
                                  " SELECT ?2, 'filter.policy_applied', id, json_object('generation', policy_observed)"
                                  " FROM leases WHERE id = ?1";
    enum lease_state state;
    uint64_t observed = 0;
    int result = lease_living(store, id, &state, err);
    if (result == 0)
        result = read_observed(store, id, &observed, err);
    if (result < 0 || generation == observed)
        return result; /* said twice */
    if (generation < observed)
        return error_set(err, -EINVAL, "policy generation %llu is older than %llu, which is enforced",
                         (unsigned long long)generation, (unsigned long long)observed);
    result = policy_take_over(store, id, generation, err);
    if (result == 0)
        result = set_observed(store, id, generation, err);
    return result < 0 ? result : lease_tell(store, observed == 0 ? armed : applied, id, at_ms, err);
}

int store_lease_policy(struct store *store, const char *id, uint64_t generation, uint64_t at_ms, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, note_policy(store, id, generation, at_ms, err), err);
}

/* A lease without a hypervisor makes its way in one change of its row, and each step of it is an event. */
static int open_external(struct store *store, const char *id, uint64_t generation, uint64_t at_ms, struct error *err)
{
    const struct store_change change = {.to = LEASE_RUNNING, .at_ms = at_ms};
    enum lease_state state = LEASE_TERMINATED;
    int result = lease_living(store, id, &state, err);
    if (result == 0 && state == LEASE_PENDING)
        result = tell_moved(store, id, LEASE_PENDING, LEASE_PREPARING, at_ms, err);
    if (result == 0 && state == LEASE_PENDING)
        result = tell_moved(store, id, LEASE_PREPARING, LEASE_STARTING, at_ms, err);
    if (result == 0) /* it never runs before its filter */
        result = note_policy(store, id, generation, at_ms, err);
    if (result < 0)
        return result;
    if (state != LEASE_PENDING) /* an earlier daemon had it open, or it does so already */
        return transition(store, id, &change, err);
    result = move(store, id, &change, err);
    return result < 0 ? result : tell_moved(store, id, LEASE_STARTING, LEASE_RUNNING, at_ms, err);
}

int store_lease_opened(struct store *store, const char *id, uint64_t generation, uint64_t at_ms, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, open_external(store, id, generation, at_ms, err), err);
}

static int note_exposed(struct store *store, const char *id, uint64_t exposed_ms, uint64_t at_ms, struct error *err)
{
    static const char exposed[] = "INSERT INTO events (at_ms, type, lease_id, data)"
                                  " SELECT ?2, 'lease.exposed', id, json_object('exposed_ms', exposed_ms)"
                                  " FROM leases WHERE id = ?1";
    enum lease_state state;
    int result = lease_living(store, id, &state, err);
    if (result < 0)
        return result;
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer,
                   "UPDATE leases SET generation = generation + 1, exposed_ms = ?2 WHERE id = ?1", err) < 0)
        return query.code;
    query_bind_key(&query, id);
    query_bind_u64(&query, exposed_ms);
    result = query_run(&query);
    return result < 0 ? result : lease_tell(store, exposed, id, at_ms, err);
}

int store_lease_exposed(struct store *store, const char *id, uint64_t exposed_ms, uint64_t at_ms, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    return store_finish(store, note_exposed(store, id, exposed_ms, at_ms, err), err);
}

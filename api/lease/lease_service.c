#include "api/lease/lease_service.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "api/lease/encode.h"
#include "api/lease/journal.h"
#include "api/lease/lease_event.h"
#include "api/lease/lease_limits.h"
#include "base/clock.h"

enum {
    FIRST_POLICY = 1, /* generation of a lease's first policy */
};

int lease_service_init(struct lease_service *service, struct store *store, const struct log *log,
                       const struct store_resources *capacity, struct error *err)
{
    *service = (struct lease_service){
        .store = store, .log = log, .capacity = *capacity, .expiring_lead_s = LEASE_EXPIRING_LEAD_S};
    vmm_boot_id(service->boot_id);
    REQUIRE(pthread_rwlock_init(&service->gate, NULL) == 0 && pthread_mutex_init(&service->policy_turn, NULL) == 0);
    starting_init(&service->starting);
    return lease_watch_open(lease_limits_came, service, &service->watch, err);
}

void lease_service_done(struct lease_service *service)
{
    REQUIRE(service->vmm == NULL);
    lease_watch_close(service->watch);
    pthread_mutex_destroy(&service->policy_turn);
    starting_done(&service->starting);
    pthread_rwlock_destroy(&service->gate);
}

void lease_service_attach(struct lease_service *service, struct vmm *vmm)
{
    pthread_rwlock_wrlock(&service->gate);
    service->vmm = vmm;
    pthread_rwlock_unlock(&service->gate);
}

struct vmm *lease_service_detach(struct lease_service *service)
{
    pthread_rwlock_wrlock(&service->gate);
    struct vmm *vmm = service->vmm;
    service->vmm = NULL;
    pthread_rwlock_unlock(&service->gate);
    return vmm;
}

/* ---- create ---------------------------------------------------------------------------------------------------- */

/* An address of our own making: locally administered, unicast (IEEE 802-2014 section 8.4), the rest random. */
static struct nat_mac fresh_mac(void)
{
    struct nat_mac mac;
    randombytes_buf(mac.b, sizeof mac.b);
    mac.b[0] = (uint8_t)((mac.b[0] & 0xfc) | 0x02);
    return mac;
}

/* What the request says of a NAT's policy; the machine's part is filled in by vmm/. */
static struct nat_policy policy_of(const struct network_request *network)
{
    return (struct nat_policy){
        .mode = mode_to_nat(network->mode),
        .sampling_ppm = network->sampling_ppm,
        .terminate = network->terminate,
        .require_wireguard = network->require_wireguard,
        .budget_unanswered = true,
        .limits = network->limits,
        .generation = FIRST_POLICY,
    };
}

static void fill_spec(const struct lease_service *service, struct vmm_spec *spec, const struct lease_request *request)
{
    *spec = (struct vmm_spec){
        .id = id_new(),
        .vcpus = request->resources.vcpus,
        .memory_mib = (uint32_t)request->resources.memory_mib,
        .disk_mib = (uint32_t)request->resources.disk_mib,
        .direct = request->network.mode == MODE_DIRECT,
        .external = request->external,
        .boot_isolation = request->network.boot_isolation,
        .guest_mac = fresh_mac(),
        .tunnel = request->tunnel,
        .ssh_key_count = request->ssh_key_count,
    };
    spec->resolver_count = service->resolver_count;
    memcpy(spec->resolvers, service->resolvers, sizeof spec->resolvers);
    if (!spec->direct) {
        spec->policy = policy_of(&request->network);
        spec->tunnel_timeout_ms = service->tunnel_timeout_ms;
        spec->tunnel_lost_ms = service->tunnel_lost_ms;
    }
    memcpy(spec->image, request->image, sizeof spec->image);
    memcpy(spec->ssh_user, request->ssh_user, sizeof spec->ssh_user);
    memcpy(spec->ssh_keys, request->ssh_keys, sizeof spec->ssh_keys);
    if (!spec->external) /* else the VM has its own already */
        vmm_key_pair(spec->tunnel.private_key, spec->tunnel.public_key);
}

static void fill_row(const struct lease_service *service, struct store_lease *row, const struct lease_request *request,
                     const struct vmm_spec *spec)
{
    const struct store_renewal end = lease_limits_end_in(service, request->ttl_s);
    *row = (struct store_lease){
        .id = spec->id,
        .created_ms = end.at_ms,
        .state = LEASE_PENDING,
        .generation = LEASE_FIRST_GENERATION,
        .resources = request->resources,
        .overhead_memory_mib = spec->external ? 0 : VMM_OVERHEAD_MIB,
        .overhead_disk_mib = request->image_disk_mib,
        .heartbeat_timeout_s = request->heartbeat_timeout_s,
        .policy_desired = spec->policy.generation, /* 0 in direct mode: there is nothing to enforce */
        .sampling_ppm = request->network.sampling_ppm,
        .require_wireguard = request->network.require_wireguard,
        .egress_bits_per_s = request->network.limits.egress_bits_per_s,
        .ingress_bits_per_s = request->network.limits.ingress_bits_per_s,
        .egress_packets_per_s = request->network.limits.egress_packets_per_s,
        .ingress_packets_per_s = request->network.limits.ingress_packets_per_s,
        .exit_code = -1,
    };
    lease_limits_fill(row, &end);
    memcpy(row->image, request->image, sizeof row->image);
    memcpy(row->ssh_user, request->ssh_user, sizeof row->ssh_user);
    memcpy(row->labels, request->labels, sizeof row->labels);
    snprintf(row->trace_id, sizeof row->trace_id, "%s", request->trace_id == NULL ? "" : request->trace_id);
    snprintf(row->mode, sizeof row->mode, "%s", mode_name(request->network.mode));
    snprintf(row->boot_isolation, sizeof row->boot_isolation, "%s",
             boot_isolation_name(request->network.boot_isolation));
    snprintf(row->on_violation, sizeof row->on_violation, "%s", request->network.terminate ? "terminate" : "drop");
    snprintf(row->tunnel_state, sizeof row->tunnel_state, "%s", nat_tunnel_name(NAT_TUNNEL_WAITING));
    nat_mac_format(spec->guest_mac, row->guest_mac);
    nat_ip_format(VMM_LINK_GUEST_IP, row->guest_ip);
    nat_ip_format(request->tunnel.consumer_tunnel_ip, row->consumer_tunnel_ip);
    nat_ip_format(request->tunnel.vm_tunnel_ip, row->vm_tunnel_ip);
    nat_endpoint_format(request->tunnel.consumer, row->consumer_endpoint);
    vmm_key_format(request->tunnel.consumer_public_key, row->consumer_public_key);
    snprintf(row->attachment, sizeof row->attachment, "%s", spec->external ? "external" : "qemu");
    if (!spec->external)
        vmm_key_format(spec->tunnel.public_key, row->vm_public_key);
}

_Static_assert(sizeof((struct store_lease *)0)->image == sizeof((struct lease_request *)0)->image &&
                   sizeof((struct store_lease *)0)->ssh_user == sizeof((struct lease_request *)0)->ssh_user &&
                   sizeof((struct store_lease *)0)->labels == sizeof((struct lease_request *)0)->labels,
               "what is copied whole has one size on both sides");

static void end_unstarted(struct lease_service *service, const char *id, const char *detail)
{
    uint64_t now_ms = clock_wall_ms();
    const struct store_end end = {
        .reason = LEASE_START_FAILED,
        .initiated_by = "provider",
        .detail = detail,
        .exit_code = -1,
        .detected_ms = now_ms,
        .stopped_ms = now_ms,
    };
    struct error err = {0};
    if (store_lease_terminate(service->store, id, &end, &err) < 0)
        log_line(service->log, LOG_ERROR, "store.failed", "lease=%s cause=\"%s\"", id, err.message);
}

/* Keeps the answer with the key, when there is one. With the gate held for reading. */
static int reserve(struct lease_service *service, const struct store_lease *row, const struct lease_once *once,
                   struct error *err)
{
    if (once == NULL)
        return store_lease_reserve(service->store, row, &service->capacity, err);
    char answer[STORE_ANSWER_BYTES];
    json_t *json = encode_lease(row);
    size_t length = json == NULL ? 0 : json_dumpb(json, answer, sizeof answer - 1, JSON_COMPACT);
    json_decref(json);
    if (length == 0)
        return error_set(err, -ENOMEM, "There is no memory for the answer.");
    REQUIRE(length < sizeof answer);
    answer[length] = '\0';
    const struct store_once kept = {.key = once->key, .request_hash = once->request_hash, .answer = answer};
    return store_lease_reserve_once(service->store, row, &service->capacity, &kept, err);
}

/* The machine of a reserved lease cannot be asked for: the lease ends, and its key may be used again. */
static void give_up(struct lease_service *service, const struct store_lease *row, const struct lease_once *once,
                    const char *detail)
{
    struct error err = {0};
    lease_service_ended(service, &row->id);
    end_unstarted(service, row->id.text, detail);
    if (once != NULL && store_key_forget(service->store, once->key, &err) < 0)
        log_line(service->log, LOG_ERROR, "store.failed", "lease=%s cause=\"%s\"", row->id.text, err.message);
}

/* With the gate held for reading. */
static int may_take(const struct lease_service *service, struct error *err)
{
    if (service->vmm == NULL)
        return error_set(err, -ESHUTDOWN, "The daemon is ending and takes no further lease.");
    return 0;
}

/* With the gate held for reading. */
static int reserve_and_start(struct lease_service *service, const struct vmm_spec *spec, const struct store_lease *row,
                             const struct lease_once *once, struct error *err)
{
    int result = may_take(service, err);
    if (result == 0)
        result = reserve(service, row, once, err);
    if (result < 0)
        return result;
    log_line(service->log, LOG_INFO, "lease.created",
             "lease=%s image=%s mode=%s vcpus=%u memory_mib=%llu endpoint=%s ttl_s=%llu", row->id.text, row->image,
             row->mode, row->resources.vcpus, (unsigned long long)row->resources.memory_mib, row->consumer_endpoint,
             (unsigned long long)row->ttl_s);
    const struct lease_span span = lease_limits_span(service, row);
    result = lease_watch_add(service->watch, &row->id, &span);
    if (result < 0)
        error_set(err, result, "There is no memory for the lease's time limits.");
    else
        result = vmm_start(service->vmm, spec, err);
    if (result < 0)
        give_up(service, row, once, err->message);
    return result;
}

/* Where the NAT of an external lease will listen. With the gate held for reading. */
static int place_socket(const struct lease_service *service, const struct vmm_spec *spec, struct store_lease *row,
                        struct error *err)
{
    char path[VMM_PATH_BYTES];
    if (!spec->external || service->vmm == NULL)
        return 0;
    int result = vmm_socket_path(service->vmm, &spec->id, path, err);
    if (result == 0)
        snprintf(row->socket_path, sizeof row->socket_path, "%.*s", (int)sizeof row->socket_path - 1, path);
    return result;
}

int lease_service_create(struct lease_service *service, const struct lease_request *request,
                         const struct lease_once *once, struct store_lease *ret_lease, struct error *err)
{
    struct vmm_spec spec;
    fill_spec(service, &spec, request);
    fill_row(service, ret_lease, request, &spec);

    pthread_rwlock_rdlock(&service->gate);
    int result = place_socket(service, &spec, ret_lease, err);
    if (result == 0) {
        struct start start = {.id = &ret_lease->id};
        starting_add(&service->starting, &start);
        result = reserve_and_start(service, &spec, ret_lease, once, err);
        starting_remove(&service->starting, &start);
    }
    pthread_rwlock_unlock(&service->gate);
    sodium_memzero(&spec, sizeof spec);
    return result;
}

int lease_service_try(struct lease_service *service, const struct lease_request *request, struct store_lease *ret_lease,
                      struct error *err)
{
    struct vmm_spec spec;
    fill_spec(service, &spec, request);
    fill_row(service, ret_lease, request, &spec);

    pthread_rwlock_rdlock(&service->gate);
    int result = may_take(service, err);
    if (result == 0)
        result = place_socket(service, &spec, ret_lease, err);
    if (result == 0)
        result = store_lease_try(service->store, ret_lease, &service->capacity, err);
    pthread_rwlock_unlock(&service->gate);
    sodium_memzero(&spec, sizeof spec);
    return result;
}

/* ---- release and questions ------------------------------------------------------------------------------------- */

/* As lease_service_stop(), of a lease that has no machine. */
static int end_lost(struct lease_service *service, const struct id *id, enum vmm_end cause, struct error *err)
{
    const char *initiated_by;
    enum lease_reason reason = lease_event_reason(cause, &initiated_by);
    if (service->journal != NULL && journal_holds(service->journal, id))
        return 0;
    uint64_t now_ms = clock_wall_ms();
    const struct store_end end = {
        .reason = reason,
        .initiated_by = initiated_by,
        .detail = "The lease had no machine any more.",
        .exit_code = -1,
        .detected_ms = now_ms,
        .stopped_ms = now_ms,
    };
    int result = store_lease_terminate(service->store, id->text, &end, err);
    if (result < 0 && result != -EALREADY)
        return result;
    lease_service_ended(service, id);
    if (result == 0)
        log_line(service->log, LOG_WARNING, "lease.terminated", "lease=%s reason=%s detail=\"%s\"", id->text,
                 lease_reason_name(reason), end.detail);
    return 1;
}

int lease_service_stop(struct lease_service *service, const struct id *id, enum vmm_end end, struct error *err)
{
    starting_await(&service->starting, id);
    return vmm_stop(service->vmm, id, end) == -ENOENT ? end_lost(service, id, end, err) : 0;
}

int lease_service_release(struct lease_service *service, const char *id, struct store_lease *ret_lease,
                          struct error *err)
{
    int result = store_lease_get(service->store, id, ret_lease, err);
    if (result < 0 || lease_is_final(ret_lease->state))
        return result;
    pthread_rwlock_rdlock(&service->gate);
    if (service->vmm == NULL)
        result = error_set(err, -ESHUTDOWN, "The daemon is ending; it ends this lease too.");
    else
        result = lease_service_stop(service, &ret_lease->id, VMM_END_ASKED, err);
    if (result == 0) /* it ends in any case; that is said only once the next daemon would know */
        result = store_lease_release(service->store, id, err);
    if (result >= 0 || result == -EALREADY)
        result = store_lease_get(service->store, id, ret_lease, err);
    pthread_rwlock_unlock(&service->gate);
    return result;
}

int lease_service_stats(struct lease_service *service, const struct id *id, struct nat_stats *ret_stats)
{
    pthread_rwlock_rdlock(&service->gate);
    int result = service->vmm == NULL ? -ESHUTDOWN : vmm_read_stats(service->vmm, id, ret_stats);
    pthread_rwlock_unlock(&service->gate);
    return result;
}

enum nat_kernel_filter lease_service_kernel_filter(struct lease_service *service, const struct id *id)
{
    struct nat_stats stats;
    return lease_service_stats(service, id, &stats) == 0 ? stats.kernel_filter : NAT_KERNEL_FILTER_UNSUPPORTED;
}

int lease_service_flows(struct lease_service *service, const struct id *id,
                        struct nat_flow ret_flows[static NAT_FLOWS_MAX])
{
    pthread_rwlock_rdlock(&service->gate);
    int result = service->vmm == NULL ? -ESHUTDOWN : vmm_list_flows(service->vmm, id, ret_flows);
    pthread_rwlock_unlock(&service->gate);
    return result;
}

int64_t lease_service_console_live(struct lease_service *service, const struct id *id, uint8_t *ret_bytes,
                                   size_t capacity, uint64_t *ret_offset)
{
    *ret_offset = 0;
    pthread_rwlock_rdlock(&service->gate);
    int64_t bytes =
        service->vmm == NULL ? -ENOENT : vmm_read_console(service->vmm, id, ret_bytes, capacity, ret_offset);
    pthread_rwlock_unlock(&service->gate);
    return bytes;
}

int64_t lease_service_console(struct lease_service *service, const struct id *id, uint8_t *ret_bytes, size_t capacity,
                              uint64_t *ret_offset, struct error *err)
{
    int64_t bytes = lease_service_console_live(service, id, ret_bytes, capacity, ret_offset);
    if (bytes == -ENOENT)
        bytes = store_console_get(service->store, id->text, ret_bytes, capacity, err);
    return bytes == -ENOENT ? 0 : bytes; /* nothing was printed yet */
}

void lease_service_noted(struct lease_service *service, const struct id *id, int64_t pid)
{
    pthread_rwlock_rdlock(&service->gate);
    if (service->vmm != NULL)
        vmm_spawn_noted(service->vmm, id, pid);
    pthread_rwlock_unlock(&service->gate);
}

bool lease_service_totals(struct lease_service *service, struct nat_stats *ret_totals, size_t *ret_machines)
{
    pthread_rwlock_rdlock(&service->gate);
    bool attached = service->vmm != NULL;
    if (attached)
        vmm_read_totals(service->vmm, ret_totals, ret_machines);
    pthread_rwlock_unlock(&service->gate);
    return attached;
}

bool lease_service_accel(struct lease_service *service, struct vmm_accel *ret_accel)
{
    *ret_accel = (struct vmm_accel){0};
    pthread_rwlock_rdlock(&service->gate);
    bool attached = service->vmm != NULL;
    if (attached)
        vmm_read_accel(service->vmm, ret_accel);
    pthread_rwlock_unlock(&service->gate);
    return attached;
}

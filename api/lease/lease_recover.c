#include "api/lease/lease_recover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/lease/lease_event.h"
#include "api/lease/lease_limits.h"
#include "api/lease/mode.h"
#include "api/lease/policy.h"
#include "base/clock.h"

/* Ids of the leases that had not ended. Owner: lease_recover(). */
struct leftovers {
    size_t count;
    size_t room;
    struct id *ids;
};

static int collect(void *context, const struct store_lease *lease)
{
    struct leftovers *leftovers = context;
    if (leftovers->count == leftovers->room) {
        size_t room = leftovers->room == 0 ? STORE_PAGE_MAX : 2 * leftovers->room;
        struct id *grown = realloc(leftovers->ids, room * sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        leftovers->ids = grown;
        leftovers->room = room;
    }
    leftovers->ids[leftovers->count++] = lease->id;
    return 0;
}

static int collect_state(struct lease_service *service, enum lease_state state, struct leftovers *leftovers,
                         struct error *err)
{
    struct store_filter filter = {.state = lease_state_name(state), .limit = STORE_PAGE_MAX};
    size_t before;
    do {
        before = leftovers->count;
        int result = store_lease_list(service->store, &filter, collect, leftovers, err);
        if (result < 0)
            return result;
        if (leftovers->count > before)
            filter.after = leftovers->ids[leftovers->count - 1].text;
    } while (leftovers->count == before + STORE_PAGE_MAX);
    return 0;
}

/* ---- ending ---------------------------------------------------------------------------------------------------- */

/* A lease that was given back is released. One that was ending goes on to end for what it was ending for; its row says it in
 * vmm's words. */
static enum lease_reason reason_of(const struct store_lease *lease, bool expired, const char **ret_initiated_by)
{
    *ret_initiated_by = lease->release_asked ? "orchestrator" : "provider";
    if (lease->release_asked)
        return LEASE_RELEASED;
    if (lease->state == LEASE_STOPPING)
        for (int end = 0; end <= (int)VMM_END_LAST; end++)
            if (strcmp(vmm_end_name((enum vmm_end)end), lease->state_detail) == 0)
                return lease_event_reason((enum vmm_end)end, ret_initiated_by);
    return expired ? LEASE_EXPIRED : LEASE_RECOVERY_FAILED;
}

static int end_lease(struct lease_service *service, const struct store_lease *lease, bool expired, const char *why,
                     struct error *err)
{
    struct error reap = {0};
    int reaped = lease->pid == 0 ? 0 : vmm_reap_stray(lease->pid, lease->pid_start_ticks, lease->boot_id, &reap);
    if (reaped < 0)
        log_line(service->log, LOG_ERROR, "recovery.stray_left", "lease=%s pid=%lld cause=\"%s\"", lease->id.text,
                 (long long)lease->pid, reap.message);
    uint64_t now_ms = clock_wall_ms();
    char detail[STORE_DETAIL_BYTES];
    const char *initiated_by;
    enum lease_reason reason = reason_of(lease, expired, &initiated_by);
    snprintf(detail, sizeof detail, "The daemon was started anew%s%.200s and %s.", why[0] == '\0' ? "" : ": ", why,
             reaped < 0    ? "could not end the machine that it found"
             : reaped == 1 ? "ended the machine that it found"
                           : "found no machine");
    const struct store_end end = {
        .reason = reason,
        .initiated_by = initiated_by,
        .detail = detail,
        .exit_code = -1,
        .detected_ms = now_ms,
        .stopped_ms = now_ms,
    };
    int result = reason != LEASE_RECOVERY_FAILED
                     ? 0
                     : store_event_append(service->store, "recovery.failed", lease->id.text, "{}", now_ms, err);
    if (result == 0)
        result = store_lease_terminate(service->store, lease->id.text, &end, err);
    if (result < 0 && result != -EALREADY)
        return result;
    log_line(service->log, LOG_WARNING, "recovery.ended", "lease=%s reason=%s pid=%lld stray=%s", lease->id.text,
             lease_reason_name(reason), (long long)lease->pid,
             reaped == 1   ? "ended"
             : reaped == 0 ? "none"
                           : "left");
    return 0;
}

/* ---- taking over ----------------------------------------------------------------------------------------------- */

static bool tunnel_is_up(const struct store_lease *lease)
{
    return strcmp(lease->tunnel_state, nat_tunnel_name(NAT_TUNNEL_ESTABLISHED)) == 0;
}

/* What a machine needs that is there already. Return: false for a row that says something that it never should. */
static bool spec_of(const struct lease_service *service, const struct store_lease *lease, struct vmm_spec *ret_spec)
{
    *ret_spec = (struct vmm_spec){
        .id = lease->id,
        .vcpus = lease->resources.vcpus,
        .memory_mib = (uint32_t)lease->resources.memory_mib,
        .disk_mib = (uint32_t)lease->resources.disk_mib,
        .external = strcmp(lease->attachment, "external") == 0,
        .tunnel_timeout_ms = service->tunnel_timeout_ms,
        .tunnel_lost_ms = service->tunnel_lost_ms,
    };
    if (tunnel_is_up(lease))
        ret_spec->resume = (struct nat_ports){(uint16_t)lease->tunnel_ports.guest, (uint16_t)lease->tunnel_ports.local};
    snprintf(ret_spec->image, sizeof ret_spec->image, "%s", lease->image);
    return policy_of_lease(lease, &ret_spec->policy) && policy_told_consumer(lease, &ret_spec->tunnel.consumer) &&
           (lease->guest_mac[0] == '\0' || nat_mac_parse(lease->guest_mac, &ret_spec->guest_mac));
}

static int adopt_machine(struct lease_service *service, const struct store_lease *lease, const struct vmm_spec *spec,
                         struct error *err)
{
    struct vmm_adoption adoption = {
        .pid = lease->pid,
        .start_ticks = lease->pid_start_ticks,
        .boot_id = lease->boot_id,
        .accelerator = lease->accelerator,
        .tunnel_up = tunnel_is_up(lease),
    };
    int result = store_violation_serials(service->store, lease->id.text, VMM_GUEST_SERIAL_FIRST,
                                         &adoption.violation_serial, &adoption.guest_report_serial, err);
    return result < 0 ? result : vmm_adopt(service->vmm, spec, &adoption, err);
}

static int mark_recovering(struct lease_service *service, const struct store_lease *lease, struct error *err)
{
    const struct store_change change = {.to = LEASE_RECOVERING, .at_ms = clock_wall_ms()};
    return lease->state == LEASE_RECOVERING ? 0 /* the daemon before was killed while it recovered */
                                            : store_lease_transition(service->store, lease->id.text, &change, err);
}

/* Return: 0 when the machine tells from now on what becomes of it; else why it cannot be had. */
static int take_over(struct lease_service *service, const struct store_lease *lease, struct error *err)
{
    struct vmm_spec spec;
    const struct lease_span span = lease_limits_span(service, lease);
    if (!spec_of(service, lease, &spec))
        return error_set(err, -EUCLEAN, "its row does not say what it needs");
    int result = lease_watch_add(service->watch, &lease->id, &span);
    if (result == 0)
        result = spec.external ? vmm_start(service->vmm, &spec, err) : adopt_machine(service, lease, &spec, err);
    if (result < 0)
        lease_service_ended(service, &lease->id);
    return result;
}

/* Whether something of the lease can have lived on. */
static bool may_live(const struct lease_service *service, const struct store_lease *lease)
{
    if (lease->state == LEASE_STOPPING || lease->release_asked)
        return false;
    if (strcmp(lease->attachment, "external") == 0)
        return true;
    return service->keep_machines && lease->pid != 0 && strcmp(lease->mode, mode_name(MODE_DIRECT)) != 0;
}

static int recover(struct lease_service *service, const struct store_lease *lease, struct error *err)
{
    struct error why = {0};
    const struct lease_span span = lease_limits_span(service, lease);
    bool expired = span.deadline_ms != 0 && span.deadline_ms <= clock_boot_ms();
    if (expired || !may_live(service, lease))
        return end_lease(service, lease, expired, "", err);
    int result = mark_recovering(service, lease, err);
    if (result < 0)
        return result;
    if (take_over(service, lease, &why) < 0)
        return end_lease(service, lease, false, why.message, err);
    log_line(service->log, LOG_INFO, "recovery.adopting", "lease=%s pid=%lld", lease->id.text, (long long)lease->pid);
    return 0;
}

int lease_recover(struct lease_service *service, struct error *err)
{
    struct leftovers leftovers = {0};
    int result = 0;
    for (int state = 0; result == 0 && state < LEASE_STATE_COUNT; state++)
        if (!lease_is_final((enum lease_state)state))
            result = collect_state(service, (enum lease_state)state, &leftovers, err);
    for (size_t at = 0; result == 0 && at < leftovers.count; at++) {
        struct store_lease lease;
        result = store_lease_get(service->store, leftovers.ids[at].text, &lease, err);
        if (result == 0)
            result = recover(service, &lease, err);
    }
    free(leftovers.ids);
    vmm_sweep(service->vmm);
    return result;
}

#include "api/lease/lease_limits.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"

struct store_renewal lease_limits_end_in(const struct lease_service *service, uint64_t ttl_s)
{
    uint64_t wall_ms = clock_wall_ms();
    return (struct store_renewal){
        .at_ms = wall_ms,
        .ttl_s = ttl_s,
        .expires_ms = wall_ms + ttl_s * 1000,
        .deadline_ms = clock_boot_ms() + ttl_s * 1000,
        .deadline_boot_id = service->boot_id,
    };
}

void lease_limits_fill(struct store_lease *row, const struct store_renewal *end)
{
    if (end->ttl_s == 0)
        return;
    row->ttl_s = end->ttl_s;
    row->expires_ms = end->expires_ms;
    row->deadline_ms = end->deadline_ms;
    memcpy(row->deadline_boot_id, end->deadline_boot_id, sizeof row->deadline_boot_id);
}

struct lease_span lease_limits_span(const struct lease_service *service, const struct store_lease *row)
{
    return lease_span_of(row, service->expiring_lead_s, service->boot_id, clock_boot_ms(), clock_wall_ms());
}

void lease_limits_came(void *context, const struct id *id, enum lease_due due)
{
    struct lease_service *service = context;
    struct error err = {0};
    if (due == LEASE_DUE_WARNING) {
        int result = store_lease_expiring(service->store, id->text, clock_wall_ms(), &err);
        if (result < 0 && result != -EALREADY)
            log_line(service->log, LOG_ERROR, "store.failed", "lease=%s cause=\"%s\"", id->text, err.message);
        else if (result == 0)
            log_line(service->log, LOG_INFO, "lease.expiring", "lease=%s", id->text);
        return;
    }
    bool silent = due == LEASE_DUE_SILENCE;
    pthread_rwlock_rdlock(&service->gate);
    if (service->vmm != NULL &&
        lease_service_stop(service, id, silent ? VMM_END_HEARTBEAT_LOST : VMM_END_DEADLINE, &err) < 0)
        log_line(service->log, LOG_ERROR, "store.failed", "lease=%s cause=\"%s\"", id->text, err.message);
    pthread_rwlock_unlock(&service->gate);
}

void lease_service_ended(struct lease_service *service, const struct id *id)
{
    lease_watch_remove(service->watch, id);
}

/* Why a lease has no time limits that could be changed. */
static int why_not_watched(struct lease_service *service, const struct id *id, int result, struct error *err)
{
    struct store_lease lease;
    if (result == -ENODATA) {
        error_set(err, -ENODATA, "The lease was asked for without heartbeat_timeout_s.");
        return error_tag(err, "heartbeat-not-watched", "");
    }
    if (result == -ENOENT && (result = store_lease_get(service->store, id->text, &lease, err)) < 0)
        return result;
    error_set(err, -EALREADY, "The lease has ended or is ending.");
    return error_tag(err, "lease-ended", "");
}

int lease_service_heartbeat(struct lease_service *service, const struct id *id, struct error *err)
{
    int result = lease_watch_beat(service->watch, id);
    return result == 0 ? 0 : why_not_watched(service, id, result, err);
}

int lease_service_renew(struct lease_service *service, const struct id *id, uint64_t ttl_s,
                        struct store_lease *ret_lease, struct error *err)
{
    int result = lease_watch_hold(service->watch, id);
    if (result < 0)
        return why_not_watched(service, id, result, err);
    const struct store_renewal renewal = lease_limits_end_in(service, ttl_s);
    result = store_lease_renew(service->store, id->text, &renewal, err);
    struct store_lease renewed = {0};
    lease_limits_fill(&renewed, &renewal);
    const struct lease_span span = lease_limits_span(service, &renewed);
    lease_watch_release(service->watch, id, result == 0 ? &span : NULL);
    if (result < 0)
        return result;
    log_line(service->log, LOG_INFO, "lease.renewed", "lease=%s ttl_s=%llu", id->text, (unsigned long long)ttl_s);
    return store_lease_get(service->store, id->text, ret_lease, err);
}

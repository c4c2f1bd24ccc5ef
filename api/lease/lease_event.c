#include "api/lease/lease_event.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/scope.h"

enum {
    TEXT_BYTES = 512,        /* an escaped detail in a log line */
    EVENT_DATA_BYTES = 2048, /* a detail of VMM_DETAIL_BYTES, each byte as six at worst */
};

/* What passes is tried again and not worth a line each time. Return: @result if it passes, else 0. */
static int settle(const struct lease_service *service, const char *id, int result, const struct error *err)
{
    if (result < 0 && store_failure_passes(result))
        return result;
    if (result < 0)
        log_line(service->log, LOG_ERROR, "store.failed", "lease=%s cause=\"%s\"", id, err->message);
    return 0;
}

static const char *escaped(const char *text, char ret_text[static TEXT_BYTES])
{
    return text == NULL ? "" : log_escape(text, strlen(text), ret_text, TEXT_BYTES);
}

/* ---- steps up -------------------------------------------------------------------------------------------------- */

static int on_prepared(struct lease_service *service, const struct vmm_event *event, struct error *err)
{
    const struct store_change change = {
        .to = LEASE_PREPARING,
        .at_ms = event->at_ms,
        .image_digest = event->image_digest,
        .accelerator = event->accelerator,
    };
    int result =
        settle(service, event->id.text, store_lease_transition(service->store, event->id.text, &change, err), err);
    if (result == 0)
        log_line(service->log, LOG_INFO, "lease.prepared", "lease=%s accelerator=%s image_digest=%s", event->id.text,
                 event->accelerator == NULL ? "" : event->accelerator,
                 event->image_digest == NULL ? "" : event->image_digest);
    return result;
}

static int on_spawned(struct lease_service *service, const struct vmm_event *event, struct error *err)
{
    char boot_id[ID_TEXT_BYTES];
    const struct store_process process = {
        .pid = event->pid,
        .start_ticks = event->pid_start_ticks,
        .boot_id = vmm_boot_id(boot_id),
        .accelerator = event->accelerator,
    };
    const struct store_change change = {.to = LEASE_STARTING, .at_ms = event->at_ms};
    /* The process before the state: a second spawn of the same lease, with the other accelerator, changes no state. */
    int result = store_lease_spawned(service->store, event->id.text, &process, err);
    if (result == 0) {
        result = store_lease_transition(service->store, event->id.text, &change, err);
        result = result == -EINVAL ? 0 : result;
    }
    result = settle(service, event->id.text, result, err);
    if (result == 0)
        lease_service_noted(service, &event->id, event->pid);
    if (result == 0)
        log_line(service->log, LOG_INFO, "lease.spawned", "lease=%s pid=%lld accelerator=%s", event->id.text,
                 (long long)event->pid, event->accelerator);
    return result;
}

static int on_state(struct lease_service *service, const struct vmm_event *event, enum lease_state to,
                    const char *detail, struct error *err)
{
    const struct store_change change = {.to = to, .at_ms = event->at_ms, .detail = detail};
    int result =
        settle(service, event->id.text, store_lease_transition(service->store, event->id.text, &change, err), err);
    if (result == 0)
        log_line(service->log, LOG_INFO, "lease.state_changed", "lease=%s state=%s cause=\"%s\"", event->id.text,
                 lease_state_name(to), detail == NULL ? "" : detail);
    return result;
}

static int on_opened(struct lease_service *service, const struct vmm_event *event, struct error *err)
{
    int result = store_lease_opened(service->store, event->id.text, event->generation, event->at_ms, err);
    result = settle(service, event->id.text, result, err);
    if (result == 0)
        log_line(service->log, LOG_INFO, "lease.opened", "lease=%s generation=%llu", event->id.text,
                 (unsigned long long)event->generation);
    return result;
}

static int on_policy(struct lease_service *service, const struct vmm_event *event, struct error *err)
{
    int result = store_lease_policy(service->store, event->id.text, event->generation, event->at_ms, err);
    result = settle(service, event->id.text, result, err);
    if (result == 0)
        log_line(service->log, LOG_INFO, "filter.policy_applied", "lease=%s generation=%llu", event->id.text,
                 (unsigned long long)event->generation);
    return result;
}

static int on_tunnel(struct lease_service *service, const struct vmm_event *event, struct error *err)
{
    const char *state = nat_tunnel_name(event->tunnel);
    const struct store_ports ports = {event->ports.guest, event->ports.local};
    int result = store_lease_tunnel(service->store, event->id.text, state, ports, event->at_ms, err);
    result = settle(service, event->id.text, result, err);
    if (result == 0)
        log_line(service->log, LOG_INFO, "tunnel.changed", "lease=%s tunnel=%s", event->id.text, state);
    return result;
}

static int on_exposed(struct lease_service *service, const struct vmm_event *event, struct error *err)
{
    int result = store_lease_exposed(service->store, event->id.text, event->exposed_ms, event->at_ms, err);
    result = settle(service, event->id.text, result, err);
    if (result == 0)
        log_line(service->log, LOG_WARNING, "lease.exposed", "lease=%s exposed_ms=%llu", event->id.text,
                 (unsigned long long)event->exposed_ms);
    return result;
}

/* ---- violations ------------------------------------------------------------------------------------------------ */

static uint64_t wall_of(uint64_t at_mono_ms, uint64_t mono_ms, uint64_t wall_ms)
{
    uint64_t ago_ms = mono_ms > at_mono_ms ? mono_ms - at_mono_ms : 0;
    return wall_ms > ago_ms ? wall_ms - ago_ms : 0;
}

struct store_violation lease_event_violation(const struct id *lease_id, const struct nat_violation *violation,
                                             uint64_t mono_ms, uint64_t wall_ms)
{
    struct store_violation row = {
        .id = id_new(),
        .lease_id = *lease_id,
        .serial = violation->serial,
        .first_seen_ms = wall_of(violation->first_ms, mono_ms, wall_ms),
        .last_seen_ms = wall_of(violation->last_ms, mono_ms, wall_ms),
        .count = violation->count,
        .overflow = violation->overflow,
        .ethertype = violation->ethertype,
        .ip_protocol = violation->ip_protocol,
        .source_port = violation->source.port,
        .destination_port = violation->destination.port,
        .frame_bytes = violation->frame_bytes,
        .policy_generation = violation->policy_generation,
        .detection_latency_us = violation->detection_latency_us,
        .sampling_ppm = violation->sampling_ppm,
        .evidence_bytes = violation->evidence_bytes < STORE_EVIDENCE_BYTES ? violation->evidence_bytes
                                                                           : (uint32_t)STORE_EVIDENCE_BYTES,
    };
    snprintf(row.code, sizeof row.code, "%s", nat_reason_name(violation->reason));
    snprintf(row.mode, sizeof row.mode, "%s", nat_mode_name(violation->mode));
    snprintf(row.verdict, sizeof row.verdict, "%s", violation->terminated ? "terminated" : "dropped");
    snprintf(row.source, sizeof row.source, "filter");
    nat_mac_format(violation->source_mac, row.source_mac);
    if (violation->source.ip != 0)
        nat_ip_format(violation->source.ip, row.source_ip);
    if (violation->destination.ip != 0)
        nat_ip_format(violation->destination.ip, row.destination_ip);
    memcpy(row.evidence, violation->evidence, row.evidence_bytes);
    return row;
}

struct store_violation lease_event_guest_report(const struct store_lease *lease, const struct vmm_guest_report *report,
                                                uint64_t at_ms)
{
    struct store_violation row = {
        .id = id_new(),
        .lease_id = lease->id,
        .serial = report->serial,
        .first_seen_ms = at_ms,
        .last_seen_ms = at_ms,
        .count = report->count,
        .overflow = report->overflow,
        .ethertype = 0x0800, /* iptables speaks of IPv4 alone */
        .ip_protocol = report->ip_protocol,
        .source_port = report->source.port,
        .destination_port = report->destination.port,
        .policy_generation = lease->policy_observed,
    };
    snprintf(row.code, sizeof row.code, "%s", nat_reason_name(NAT_REASON_DESTINATION_NOT_ALLOWED));
    snprintf(row.mode, sizeof row.mode, "%s", lease->mode);
    snprintf(row.verdict, sizeof row.verdict, "dropped");
    snprintf(row.source, sizeof row.source, "guest_firewall");
    if (report->source.ip != 0)
        nat_ip_format(report->source.ip, row.source_ip);
    if (report->destination.ip != 0)
        nat_ip_format(report->destination.ip, row.destination_ip);
    return row;
}

/* An aggregate that grows is told of many times; only its first report is news. */
static void log_if_new(const struct lease_service *service, const struct store_violation *row, const struct id *id)
{
    if (strcmp(id->text, row->id.text) == 0)
        log_line(service->log, LOG_WARNING, "violation.detected",
                 "lease=%s violation=%s code=%s destination=%s:%u protocol=%u verdict=%s source=%s", row->lease_id.text,
                 row->id.text, row->code, row->destination_ip, row->destination_port, row->ip_protocol, row->verdict,
                 row->source);
}

/* All at once; where that can never be, one by one, so that a single bad row does not take the others with it. */
static int record_all(struct lease_service *service, const struct id *lease_id, const struct store_violation *rows,
                      size_t count, struct error *err)
{
    struct id ids[LEASE_EVENT_SIGHTINGS_MAX];
    int result = store_violation_record_all(service->store, rows, count, ids, err);
    for (size_t at = 0; result == 0 && at < count; at++)
        log_if_new(service, &rows[at], &ids[at]);
    if (result == 0 || store_failure_passes(result) || count == 1)
        return settle(service, lease_id->text, result, err);
    result = 0;
    for (size_t at = 0; at < count && result == 0; at++)
        result = record_all(service, lease_id, &rows[at], 1, err);
    return result;
}

int lease_event_sightings(struct lease_service *service, const struct id *lease_id, const struct sighting *sightings,
                          size_t count, struct error *err)
{
    REQUIRE(count <= LEASE_EVENT_SIGHTINGS_MAX);
    struct store_lease lease;
    uint64_t mono_ms = clock_monotonic_ms();
    uint64_t wall_ms = clock_wall_ms();
    int result = store_lease_get(service->store, lease_id->text, &lease, err);
    if (result < 0)
        return settle(service, lease_id->text, result, err);
    struct store_violation *rows SCOPED_FREE = calloc(count, sizeof *rows);
    if (rows == NULL)
        return error_set(err, -ENOMEM, "no memory for %zu violations", count);
    for (size_t at = 0; at < count; at++) {
        const struct sighting *one = &sightings[at];
        if (one->by_guest) {
            rows[at] = lease_event_guest_report(&lease, &one->report, one->last_ms);
            rows[at].first_seen_ms = one->first_ms;
        } else {
            rows[at] = lease_event_violation(lease_id, &one->violation, mono_ms, wall_ms);
        }
    }
    return record_all(service, lease_id, rows, count, err);
}

/* ---- the end --------------------------------------------------------------------------------------------------- */

enum lease_reason lease_event_reason(enum vmm_end end, const char **ret_initiated_by)
{
    *ret_initiated_by = "provider";
    switch (end) {
    case VMM_END_ASKED:
        *ret_initiated_by = "orchestrator";
        return LEASE_RELEASED;
    case VMM_END_DEADLINE:
        return LEASE_EXPIRED;
    case VMM_END_SHUTDOWN:
        return LEASE_PROVIDER_SHUTDOWN;
    case VMM_END_GUEST_SHUTDOWN:
        *ret_initiated_by = "guest";
        return LEASE_GUEST_SHUTDOWN;
    case VMM_END_GUEST_CRASH:
        *ret_initiated_by = "guest";
        return LEASE_GUEST_CRASH;
    case VMM_END_HYPERVISOR_CRASH:
        return LEASE_VMM_CRASH;
    case VMM_END_FILTER_FAILED:
        *ret_initiated_by = "filter";
        return LEASE_FILTER_FAILURE;
    case VMM_END_START_FAILED:
        return LEASE_START_FAILED;
    case VMM_END_START_TIMEOUT:
        return LEASE_START_TIMEOUT;
    case VMM_END_IMAGE_REJECTED:
        return LEASE_IMAGE_REJECTED;
    case VMM_END_POLICY_VIOLATION:
        *ret_initiated_by = "filter";
        return LEASE_POLICY_VIOLATION;
    case VMM_END_TUNNEL_TIMEOUT:
        return LEASE_TUNNEL_TIMEOUT;
    case VMM_END_TUNNEL_LOST:
        return LEASE_TUNNEL_LOST;
    case VMM_END_HEARTBEAT_LOST:
        return LEASE_HEARTBEAT_LOST;
    case VMM_END_RECOVERY_FAILED:
        return LEASE_RECOVERY_FAILED;
    }
    return LEASE_VMM_CRASH;
}

/* An event of its own for an end that more than the lease's owner should hear of. */
static int append_event(struct lease_service *service, const struct vmm_event *event, const char *type,
                        struct error *err)
{
    json_t *json = json_pack("{s:s}", "detail", event->detail == NULL ? "" : event->detail);
    char data[EVENT_DATA_BYTES];
    size_t length = json == NULL ? 0 : json_dumpb(json, data, sizeof data - 1, JSON_COMPACT);
    json_decref(json);
    REQUIRE(length < sizeof data);
    data[length] = '\0';
    int result = store_event_append(service->store, type, event->id.text, length == 0 ? "{}" : data, event->at_ms, err);
    return settle(service, event->id.text, result, err);
}

/* The row of the violation that ended the machine, with the time it took. @ret_id: "" when there is none. */
static int link_violation(struct lease_service *service, const struct vmm_event *event, struct id *ret_id,
                          struct error *err)
{
    *ret_id = (struct id){0};
    if (event->end != VMM_END_POLICY_VIOLATION || event->violation == NULL)
        return 0;
    const struct store_violation row =
        lease_event_violation(&event->id, event->violation, clock_monotonic_ms(), clock_wall_ms());
    struct id id;
    int result = store_violation_record(service->store, &row, &id, err);
    if (result == 0) {
        log_if_new(service, &row, &id);
        *ret_id = id;
        result = store_violation_stopped(service->store, id.text, event->stop_latency_ms, err);
    }
    return settle(service, event->id.text, result, err);
}

static int terminate(struct lease_service *service, const struct vmm_event *event, const struct id *violation_id,
                     struct error *err)
{
    const char *initiated_by;
    enum lease_reason reason = lease_event_reason(event->end, &initiated_by);
    const struct store_end end = {
        .reason = reason,
        .initiated_by = initiated_by,
        .detail = event->detail,
        .violation_id = violation_id->text[0] == '\0' ? NULL : violation_id->text,
        .exit_code = event->exit_code,
        .signal = event->signal,
        .detected_ms = event->detected_ms,
        .stopped_ms = event->at_ms,
        .console = event->console,
        .console_bytes = event->console_bytes,
    };
    int result = store_lease_terminate(service->store, event->id.text, &end, err);
    if (result == -EALREADY)
        return 0; /* told before */
    if (result < 0)
        return settle(service, event->id.text, result, err);
    char detail[TEXT_BYTES];
    log_line(service->log, LOG_INFO, "lease.terminated",
             "lease=%s reason=%s initiated_by=%s violation=%s exit_code=%d signal=%d detail=\"%s\"", event->id.text,
             lease_reason_name(reason), initiated_by, violation_id->text, event->exit_code, event->signal,
             escaped(event->detail, detail));
    return 0;
}

/* The event comes last: all before it may be written twice and is there once. */
static int on_ended(struct lease_service *service, const struct vmm_event *event, struct error *err)
{
    struct id violation_id;
    lease_service_ended(service, &event->id);
    int result = link_violation(service, event, &violation_id, err);
    if (result == 0)
        result = terminate(service, event, &violation_id, err);
    if (result == 0 && event->end == VMM_END_IMAGE_REJECTED)
        result = append_event(service, event, "image.rejected", err);
    if (result == 0 && event->end == VMM_END_FILTER_FAILED)
        result = append_event(service, event, "filter.failed", err);
    if (result == 0 && event->end == VMM_END_RECOVERY_FAILED)
        result = append_event(service, event, "recovery.failed", err);
    return result;
}

int lease_event_write(struct lease_service *service, const struct vmm_event *event, struct error *err)
{
    char detail[TEXT_BYTES];
    switch (event->kind) {
    case VMM_EVENT_PREPARED:
        return on_prepared(service, event, err);
    case VMM_EVENT_SPAWNED:
        return on_spawned(service, event, err);
    case VMM_EVENT_RUNNING:
        return on_state(service, event, LEASE_RUNNING, NULL, err);
    case VMM_EVENT_STOPPING:
        return on_state(service, event, LEASE_STOPPING, vmm_end_name(event->end), err);
    case VMM_EVENT_ENDED:
        return on_ended(service, event, err);
    case VMM_EVENT_OPENED:
        return on_opened(service, event, err);
    case VMM_EVENT_POLICY:
        return on_policy(service, event, err);
    case VMM_EVENT_TUNNEL:
        return on_tunnel(service, event, err);
    case VMM_EVENT_EXPOSED:
        return on_exposed(service, event, err);
    case VMM_EVENT_NOTICE:
        log_line(service->log, LOG_WARNING, "lease.notice", "lease=%s detail=\"%s\"", event->id.text,
                 escaped(event->detail, detail));
        return 0;
    case VMM_EVENT_VIOLATION:
    case VMM_EVENT_GUEST_REPORT:
        break;
    }
    REQUIRE(false);
    return 0;
}

/* What machines do, written to the leases' rows. */
#ifndef API_LEASE_EVENT_H
#define API_LEASE_EVENT_H

#include "api/lease_service.h"

/**
 * lease_event() - Take one step of one machine; the vmm_config's on_event
 * @context: struct lease_service
 * Thread:   the supervisor's. Uses the store and the log, never the vmm
 */
void lease_event(void *context, const struct vmm_event *event);

/**
 * lease_event_violation() - A violation as the store keeps it
 * @mono_ms: monotonic time now
 * @wall_ms: wall time at the same moment
 * Thread:   any
 */
struct store_violation lease_event_violation(const struct id *lease_id, const struct nat_violation *violation,
                                             uint64_t mono_ms, uint64_t wall_ms);

/** lease_event_guest_report() - What a guest's firewall says, as the store keeps it. @at_ms: wall clock. Thread: any */
struct store_violation lease_event_guest_report(const struct store_lease *lease, const struct vmm_guest_report *report,
                                                uint64_t at_ms);

/** lease_event_reason() - The API's reason for a machine's end, and who began it. Thread: any */
enum lease_reason lease_event_reason(enum vmm_end end, const char **ret_initiated_by);

#endif

/* What machines do, written to the leases' rows. */
#ifndef API_LEASE_LEASE_EVENT_H
#define API_LEASE_LEASE_EVENT_H

#include "api/lease/lease_service.h"

enum lease_event_limits {
    LEASE_EVENT_SIGHTINGS_MAX = 64, /* written at a time: with their events a transaction of some milliseconds */
};

/**
 * struct sighting - A violation as it was told of last: by the NAT, or by the guest's own firewall
 * @first_ms, @last_ms: wall clock; of a guest's report, which has no times of its own
 */
struct sighting {
    bool by_guest;
    struct nat_violation violation;
    struct vmm_guest_report report;
    uint64_t first_ms;
    uint64_t last_ms;
};

/**
 * lease_event_write() - Write one step of one machine to its lease; log it once it is written
 *
 * Violations have a way of their own, lease_event_sightings(). A step may be written again after a failure: what was
 * written of it before stays as it is.
 *
 * Return: 0 when it is written, or never can be (the log says so then); a failure for which store_failure_passes()
 * Thread: any, one at a time for each lease. Waits for the store and the log, never for a machine
 */
int lease_event_write(struct lease_service *service, const struct vmm_event *event, struct error *err);

/**
 * lease_event_sightings() - Write violations of one lease in one transaction
 * @count: at most LEASE_EVENT_SIGHTINGS_MAX
 * Return: as lease_event_write()
 * Thread: as lease_event_write()
 */
int lease_event_sightings(struct lease_service *service, const struct id *lease_id, const struct sighting *sightings,
                          size_t count, struct error *err);

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

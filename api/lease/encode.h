/* Rows and counters as the API's JSON. Each function returns a new tree that the caller owns, or NULL without memory. */
#ifndef API_LEASE_ENCODE_H
#define API_LEASE_ENCODE_H

#include <jansson.h>

#include "store/store.h"
#include "vmm/vmm.h"

/** encode_time() - RFC 3339, or null for 0. Thread: any */
json_t *encode_time(uint64_t unix_ms);

/** encode_lease() - A lease, without a machine as far as it says. Thread: any */
json_t *encode_lease(const struct store_lease *lease);

/** encode_kernel_filter() - Say in an encoded lease what its machine's NAT says now. @lease: NULL is left. Thread: any */
void encode_kernel_filter(json_t *lease, enum nat_kernel_filter kernel_filter);

/** encode_termination() - How a lease ended, with what is needed to know which. Thread: any */
json_t *encode_termination(const struct store_lease *lease);

/** encode_violation() - A violation. Thread: any */
json_t *encode_violation(const struct store_violation *violation);

/** encode_drain() - Whether the machine is being drained. Thread: any */
json_t *encode_drain(const struct store_drain *drain);

/** encode_event() - An event of the log @epoch. Thread: any */
json_t *encode_event(const struct store_event *event, const char *epoch);

/** encode_peer() - A WireGuard peer and its tunnel. Thread: any */
json_t *encode_peer(const struct store_peer *peer);

/** encode_stats() - Counters of a lease's NAT. @mono_ms, @wall_ms: the same moment on both clocks. Thread: any */
json_t *encode_stats(const struct nat_stats *stats, uint64_t mono_ms, uint64_t wall_ms);

/** encode_policy() - What a lease's filter enforces. @policy: from policy_of_lease(). Thread: any */
json_t *encode_policy(const struct store_lease *lease, const struct nat_policy *policy);

/**
 * encode_evaluation() - What the filter would do with a frame
 * @passed_over: its other fate in `sampled`, or NULL
 * Thread:       any
 */
json_t *encode_evaluation(const struct nat_policy *policy, size_t frame_bytes, const struct nat_evaluation *drawn,
                          const struct nat_evaluation *passed_over);

/** encode_flows() - Open flows of a lease's NAT. @mono_ms, @wall_ms: the same moment on both clocks. Thread: any */
json_t *encode_flows(const struct nat_flow *flows, size_t count, uint64_t mono_ms, uint64_t wall_ms);

/** encode_image() - An image's manifest. Thread: any */
json_t *encode_image(const struct vmm_image *image);

/** encode_resources() - What a machine has, or what of it is used. Thread: any */
json_t *encode_resources(const struct store_resources *resources);

#endif

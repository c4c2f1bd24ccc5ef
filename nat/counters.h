/* Counters of one VM: written by its NAT thread alone, read by anybody, so relaxed stores without a lock prefix do. */
#ifndef NAT_COUNTERS_H
#define NAT_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "nat/nat.h"

typedef _Atomic uint64_t counter;

/**
 * struct flow_counters - One slot of the flows. Its name tells which flow the rest is about: a reader looks at it again
 * @name: guest port, address and port in one; 0: no flow
 */
struct flow_counters {
    counter name;
    counter listens;
    counter opened_ms;
    counter used_ms;
    counter sent_packets;
    counter sent_bytes;
    counter received_packets;
    counter received_bytes;
};

/** struct counters - As struct nat_stats. Owner: the nat; writer: its thread. */
struct counters {
    counter frames[NAT_REASON_COUNT];
    counter bytes[NAT_REASON_COUNT];
    counter inbound_packets[NAT_INBOUND_COUNT];
    counter inbound_bytes[NAT_INBOUND_COUNT];
    counter violations;
    counter flows_opened;
    counter flows_open;
    counter kernel_filter;
    counter kernel_filter_closings;
    counter tunnel;
    counter tunnel_established_ms;
    counter tunnel_last_handshake_ms;
    counter consumer_heard_ms;
    counter policy_generation;
    counter guest_mac; /* 48 bits */
    struct flow_counters flows[NAT_FLOWS_MAX];
};

static inline void counter_set(counter *c, uint64_t value)
{
    atomic_store_explicit(c, value, memory_order_relaxed);
}

static inline uint64_t counter_get(const counter *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

static inline void counter_add(counter *c, uint64_t more)
{
    counter_set(c, counter_get(c) + more);
}

/** counters_read() - All but the flows, each as it is at some moment. Thread: any */
void counters_read(const struct counters *counters, struct nat_stats *ret_stats);

/** counters_list_flows() - The open flows that did not change while they were read. Return: their number. Thread: any */
size_t counters_list_flows(const struct counters *counters, struct nat_flow ret_flows[static NAT_FLOWS_MAX]);

#endif

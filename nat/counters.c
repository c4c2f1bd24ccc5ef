#include "nat/counters.h"

#include "nat/flow.h"

_Static_assert((int)NAT_FLOWS_MAX == (int)FLOW_MAX, "a flow each");

void counters_read(const struct counters *counters, struct nat_stats *ret_stats)
{
    for (size_t i = 0; i < NAT_REASON_COUNT; i++) {
        ret_stats->frames[i] = counter_get(&counters->frames[i]);
        ret_stats->bytes[i] = counter_get(&counters->bytes[i]);
    }
    for (size_t i = 0; i < NAT_INBOUND_COUNT; i++) {
        ret_stats->inbound_packets[i] = counter_get(&counters->inbound_packets[i]);
        ret_stats->inbound_bytes[i] = counter_get(&counters->inbound_bytes[i]);
    }
    ret_stats->violations = counter_get(&counters->violations);
    ret_stats->flows_opened = counter_get(&counters->flows_opened);
    ret_stats->flows_open = (uint32_t)counter_get(&counters->flows_open);
    ret_stats->kernel_filter = (enum nat_kernel_filter)counter_get(&counters->kernel_filter);
    ret_stats->kernel_filter_closings = counter_get(&counters->kernel_filter_closings);
    ret_stats->tunnel = (enum nat_tunnel)counter_get(&counters->tunnel);
    ret_stats->tunnel_established_ms = counter_get(&counters->tunnel_established_ms);
    ret_stats->tunnel_last_handshake_ms = counter_get(&counters->tunnel_last_handshake_ms);
    ret_stats->consumer_heard_ms = counter_get(&counters->consumer_heard_ms);
    ret_stats->policy_generation = counter_get(&counters->policy_generation);
    uint64_t mac = counter_get(&counters->guest_mac);
    for (size_t i = 0; i < sizeof ret_stats->guest_mac.b; i++)
        ret_stats->guest_mac.b[i] = (uint8_t)(mac >> (40 - 8 * i));
}

static bool read_flow(const struct flow_counters *shown, struct nat_flow *ret_flow)
{
    uint64_t name = atomic_load_explicit(&shown->name, memory_order_acquire);
    *ret_flow = (struct nat_flow){
        .guest_port = (uint16_t)(name / UINT64_C(281474976710656)),
        .consumer = {.ip = (uint32_t)(name % UINT64_C(4294967296)),
                     .port = (uint16_t)(name / UINT64_C(4294967296) % 65536)},
        .listens = counter_get(&shown->listens) != 0,
        .opened_ms = counter_get(&shown->opened_ms),
        .used_ms = counter_get(&shown->used_ms),
        .sent_packets = counter_get(&shown->sent_packets),
        .sent_bytes = counter_get(&shown->sent_bytes),
        .received_packets = counter_get(&shown->received_packets),
        .received_bytes = counter_get(&shown->received_bytes),
    };
    atomic_thread_fence(memory_order_acquire);
    return name != 0 && counter_get(&shown->name) == name;
}

size_t counters_list_flows(const struct counters *counters, struct nat_flow ret_flows[static NAT_FLOWS_MAX])
{
    size_t count = 0;
    for (size_t slot = 0; slot < NAT_FLOWS_MAX; slot++) {
        struct nat_flow flow;
        if (read_flow(&counters->flows[slot], &flow))
            ret_flows[count++] = flow;
    }
    return count;
}

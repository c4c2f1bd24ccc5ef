/* What happens between batches: another policy, a shut gate, and what time brings to an end. */
#include "nat/allowlist.h"
#include "nat/worker.h"

/* What is on its way through these slots goes no further. */
static void empty_flows(struct worker *worker, uint64_t slots)
{
    if (worker->run.payloads.count > 0 && slots >> worker->run.slot & 1)
        worker_drop_run(worker);
    worker_inbound_drop(worker, slots);
}

static void closed_flows(struct worker *worker, uint64_t slots)
{
    if (slots == 0)
        return;
    empty_flows(worker, slots);
    uplink_close(&worker->uplink, slots);
    for (int slot = 0; slot < FLOW_MAX && slots >> slot != 0; slot++) {
        if (slots >> slot & 1)
            worker_publish_flow(worker, slot, false);
    }
    counter_set(&worker->counters->flows_open, worker->flows.open_count);
}

static void set_rates(struct worker *worker, const struct nat_rates *limits, uint64_t now_ms)
{
    const uint64_t packet_bits = UINT64_C(8) * NAT_MTU_MAX;
    worker->rates = (struct worker_rates){
        .egress_bits = bucket_for(limits->egress_bits_per_s, packet_bits, now_ms),
        .egress_packets = bucket_for(limits->egress_packets_per_s, 1, now_ms),
        .ingress_bits = bucket_for(limits->ingress_bits_per_s, packet_bits, now_ms),
        .ingress_packets = bucket_for(limits->ingress_packets_per_s, 1, now_ms),
        .unanswered = bucket_make(WORKER_UNANSWERED_PER_S, WORKER_UNANSWERED_BURST, now_ms),
    };
}

static bool same_allowlist(const struct nat_policy *a, const struct nat_policy *b)
{
    bool same = a->allow_count == b->allow_count;
    for (size_t i = 0; same && i < a->allow_count; i++)
        same = a->allow[i].ip == b->allow[i].ip && a->allow[i].port == b->allow[i].port;
    return same;
}

/* A flow that gets no socket is closed: the guest's next packet opens it anew. */
static void move_flows(struct worker *worker, uint64_t moved)
{
    uint64_t failed = 0;
    empty_flows(worker, moved);
    for (int slot = 0; slot < FLOW_MAX && moved >> slot != 0; slot++) {
        if ((moved >> slot & 1) == 0)
            continue;
        if (uplink_move(&worker->uplink, slot, worker->flows.slots[slot].consumer) == 0) {
            worker_publish_flow(worker, slot, false);
        } else {
            flow_close(&worker->flows, slot);
            failed |= UINT64_C(1) << slot;
        }
    }
    closed_flows(worker, failed);
}

/* The tunnel that was up goes on: keys and ports are what they were, so no handshake shows that the consumer agrees. */
static void resume_tunnel(struct worker *worker, uint64_t now_ms)
{
    const struct nat_ports ports = worker->resume;
    worker->resume = (struct nat_ports){0};
    if (ports.guest == 0 || worker->policy.allow_count == 0)
        return;
    const struct nat_endpoint consumer = worker->policy.allow[0];
    int slot = flow_open(&worker->flows, ports.guest, consumer, now_ms);
    if (slot == FLOW_NONE)
        return;
    worker->flows.slots[slot].listens = true;
    if (uplink_resume(&worker->uplink, slot, consumer, ports.local) < 0) {
        flow_close(&worker->flows, slot);
        return;
    }
    worker->answered = true;
    worker->tunnel = (struct wireguard_observer){
        .state = NAT_TUNNEL_ESTABLISHED, .heard_ms = now_ms, .established_ms = now_ms, .last_handshake_ms = now_ms};
    counter_set(&worker->counters->tunnel, worker->tunnel.state);
    counter_set(&worker->counters->tunnel_established_ms, now_ms);
    counter_set(&worker->counters->consumer_heard_ms, now_ms);
    worker_opened_flow(worker, slot, now_ms);
}

void worker_apply(struct worker *worker, const struct nat_policy *policy, uint64_t now_ms)
{
    if (worker->ended)
        return;
    if (!same_allowlist(&worker->policy, policy))
        worker->answered = false; /* another consumer has to agree for itself */
    const uint64_t moved = flow_follow(&worker->flows, &worker->policy, policy);
    worker->policy = *policy;
    move_flows(worker, moved);
    set_rates(worker, &policy->limits, now_ms);
    closed_flows(worker, flow_retain(&worker->flows, policy));
    resume_tunnel(worker, now_ms);
    /* Before anybody is told: a frame that the new policy allows must not meet the old one's program. */
    kernel_gate_apply(&worker->gate, worker->frame_io.fd, policy, &worker->link);
    counter_set(&worker->counters->kernel_filter, kernel_gate_state(&worker->gate));
    counter_set(&worker->counters->policy_generation, policy->generation);
    reporter_policy(&worker->reporter, policy->generation, now_ms);
}

void worker_replace_own(struct worker *worker, const uint32_t *own, size_t count)
{
    for (size_t i = 0; i < count; i++)
        worker->policy.own[i] = own[i];
    worker->policy.own_count = count;
}

void worker_shut(struct worker *worker)
{
    worker->policy = (struct nat_policy){0};
    closed_flows(worker, flow_retain(&worker->flows, &worker->policy));
    kernel_gate_apply(&worker->gate, worker->frame_io.fd, &worker->policy, &worker->link);
    counter_set(&worker->counters->kernel_filter, kernel_gate_state(&worker->gate));
    counter_set(&worker->counters->policy_generation, 0);
}

bool worker_listens(const struct worker *worker, int slot)
{
    return worker->uplink.fds[slot] >= 0 && worker->flows.slots[slot].listens;
}

void worker_expire(struct worker *worker, uint64_t now_ms)
{
    if (now_ms < worker->expiry_ms)
        return;
    closed_flows(worker, flow_expire(&worker->flows, now_ms));
    if (wireguard_expire(&worker->tunnel, now_ms))
        worker_tell_tunnel(worker, FLOW_NONE, now_ms);
    if (kernel_gate_expire(&worker->gate, worker->frame_io.fd, now_ms))
        counter_set(&worker->counters->kernel_filter, kernel_gate_state(&worker->gate));
    uint64_t flow_ms = flow_next_expiry(&worker->flows);
    uint64_t tunnel_ms = wireguard_next_expiry(&worker->tunnel);
    worker->expiry_ms = flow_ms < tunnel_ms ? flow_ms : tunnel_ms;
    if (worker->gate.opens_ms < worker->expiry_ms)
        worker->expiry_ms = worker->gate.opens_ms;
}

uint64_t worker_next_expiry(const struct worker *worker)
{
    return worker->expiry_ms;
}

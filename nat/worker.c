#include "nat/worker.h"

#include <errno.h>
#include <sodium.h>
#include <time.h>

#include "base/error.h"
#include "nat/allowlist.h"
#include "nat/arp.h"
#include "nat/compose.h"
#include "nat/dhcp.h"
#include "nat/packet.h"
#include "nat/verdict.h"
#include "nat/wire.h"

static void count_frames(struct worker *worker, enum nat_reason reason, uint64_t frames, uint64_t bytes)
{
    counter_add(&worker->counters->frames[reason], frames);
    counter_add(&worker->counters->bytes[reason], bytes);
}

static void count_inbound(struct worker *worker, enum nat_inbound what, uint64_t packets, uint64_t bytes)
{
    counter_add(&worker->counters->inbound_packets[what], packets);
    counter_add(&worker->counters->inbound_bytes[what], bytes);
}

static void tell_tunnel(struct worker *worker, uint64_t now_ms)
{
    counter_set(&worker->counters->tunnel, worker->tunnel.state);
    counter_set(&worker->counters->tunnel_established_ms, worker->tunnel.established_ms);
    reporter_tunnel(&worker->reporter, worker->tunnel.state, now_ms);
}

static void observe_tunnel(struct worker *worker, enum wireguard_side from, const uint8_t *payload, size_t length,
                           uint64_t now_ms)
{
    struct wireguard_observer *tunnel = &worker->tunnel;
    enum wireguard_message message = wireguard_classify(payload, length);
    if (from == WIREGUARD_CONSUMER && (message == WIREGUARD_RESPONSE || message == WIREGUARD_INITIATION))
        worker->answered = true;
    uint64_t told_ms = counter_get(&worker->counters->tunnel_last_handshake_ms);
    bool changed = wireguard_observe(tunnel, from, message, now_ms);
    bool renewed = tunnel->last_handshake_ms >= told_ms + WORKER_HANDSHAKE_GAP_MS;
    if (!changed && !renewed)
        return;
    counter_set(&worker->counters->tunnel_last_handshake_ms, tunnel->last_handshake_ms);
    tell_tunnel(worker, now_ms);
}

/* Whether a packet of @bytes may pass two buckets; takes from both or from none. */
static bool pass_buckets(struct bucket *bits, struct bucket *packets, size_t bytes, uint64_t now_ms)
{
    if (!bucket_holds(bits, (uint64_t)bytes * 8, now_ms) || !bucket_holds(packets, 1, now_ms))
        return false;
    bucket_take(bits, (uint64_t)bytes * 8);
    bucket_take(packets, 1);
    return true;
}

/* ---- out: VM to consumer ---------------------------------------------------------------------------------------- */

static void flush_run(struct worker *worker)
{
    struct worker_run *run = &worker->run;
    if (run->count == 0)
        return;
    struct uplink_sent sent = uplink_send(&worker->uplink, run->slot, run->payloads, run->count);
    uint64_t offered_bytes = 0;
    for (size_t i = 0; i < run->count; i++)
        offered_bytes += run->payloads[i].length + WIRE_PAYLOAD;
    uint64_t sent_bytes = sent.payload_bytes + sent.packets * WIRE_PAYLOAD;
    count_frames(worker, run->reason, sent.packets, sent_bytes);
    count_frames(worker, NAT_REASON_UPLINK, run->count - sent.packets, offered_bytes - sent_bytes);
    run->count = 0;
}

static int open_flow(struct worker *worker, uint16_t guest_port, struct nat_endpoint consumer, uint64_t now_ms)
{
    int slot = flow_open(&worker->flows, guest_port, consumer, now_ms);
    if (slot == FLOW_NONE)
        return FLOW_NONE;
    worker->flows.slots[slot].listens = allowlist_holds(&worker->policy, consumer);
    if (uplink_open(&worker->uplink, slot, consumer, worker->flows.slots[slot].listens) < 0) {
        flow_close(&worker->flows, slot);
        slot = FLOW_NONE;
    } else {
        counter_add(&worker->counters->flows_opened, 1);
    }
    counter_set(&worker->counters->flows_open, worker->flows.open_count);
    return slot;
}

/* What keeps a packet that was judged FORWARD from going all the same; NAT_REASON_ALLOWED when nothing does. */
static enum nat_reason hold_back(struct worker *worker, const struct packet *packet, uint64_t now_ms)
{
    struct worker_rates *rates = &worker->rates;
    if (worker->policy.budget_unanswered && !worker->answered) {
        if (!bucket_holds(&rates->unanswered, 1, now_ms))
            return NAT_REASON_UNANSWERED;
        bucket_take(&rates->unanswered, 1);
    }
    size_t ip_bytes = packet->payload_bytes + (WIRE_PAYLOAD - WIRE_IPV4);
    bool passes = pass_buckets(&rates->egress_bits, &rates->egress_packets, ip_bytes, now_ms);
    return passes ? NAT_REASON_ALLOWED : NAT_REASON_RATE_LIMITED;
}

static void forward(struct worker *worker, enum nat_reason reason, const struct packet *packet, size_t frame_bytes,
                    uint64_t now_ms)
{
    enum nat_reason held = hold_back(worker, packet, now_ms);
    if (held != NAT_REASON_ALLOWED) {
        count_frames(worker, held, 1, frame_bytes);
        return;
    }
    struct worker_run *run = &worker->run;
    int slot = flow_find(&worker->flows, packet->source.port, packet->destination);
    if (run->count > 0 && (slot != run->slot || reason != run->reason))
        flush_run(worker); /* also before a slot is given to another flow */
    if (slot == FLOW_NONE)
        slot = open_flow(worker, packet->source.port, packet->destination, now_ms);
    if (slot == FLOW_NONE) {
        count_frames(worker, NAT_REASON_UPLINK, 1, frame_bytes);
        return;
    }
    flow_touch(&worker->flows, slot, now_ms);
    run->slot = slot;
    run->reason = reason;
    run->payloads[run->count++] = (struct datagram){
        .bytes = (uint8_t *)(uintptr_t)packet->payload, /* sendmmsg(2) takes what it only reads as non-const */
        .length = packet->payload_bytes,
    };
    if (worker->flows.slots[slot].listens)
        observe_tunnel(worker, WIREGUARD_GUEST, packet->payload, packet->payload_bytes, now_ms);
}

static void answer(struct worker *worker, enum nat_reason reason, const struct packet *packet)
{
    uint8_t frame[DHCP_FRAME_BYTES];
    size_t length =
        reason == NAT_REASON_ARP ? arp_answer(packet, &worker->link, frame) : dhcp_answer(packet, &worker->link, frame);
    if (length == 0)
        return;
    struct datagram message = {.bytes = frame, .length = length};
    /* A VM that does not take its answer asks again. */
    (void)frame_io_send(&worker->frame_io, &message, 1);
}

static uint64_t now_us(void)
{
    struct timespec now;
    REQUIRE(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Written once, before the flag that others read it behind. */
static void condemn(struct worker *worker)
{
    const struct nat_violation *violation = violation_terminating(&worker->violations);
    REQUIRE(violation != NULL && !atomic_load(&worker->condemned));
    worker->condemning = *violation;
    atomic_store_explicit(&worker->condemned, true, memory_order_release);
}

static void note_violation(struct worker *worker, const struct violation_frame *frame, const struct nat_policy *policy,
                           uint64_t batch_us, uint64_t now_ms)
{
    struct nat_violation *made = violation_record(&worker->violations, frame, policy, now_ms);
    if (made != NULL) {
        made->detection_latency_us = (uint32_t)(now_us() - batch_us);
        counter_set(&worker->counters->violations, worker->violations.made);
    }
    if (frame->terminates)
        condemn(worker); /* before the report, which may have to wait for room */
    reporter_violation(&worker->reporter, &worker->violations, made != NULL || frame->terminates, now_ms);
}

bool worker_condemned(const struct worker *worker, struct nat_violation *ret_violation)
{
    if (!atomic_load_explicit(&worker->condemned, memory_order_acquire))
        return false;
    *ret_violation = worker->condemning;
    return true;
}

/* The gate first: whatever follows in this batch meets it shut. */
static void terminate(struct worker *worker, const struct violation_frame *frame, uint64_t batch_us, uint64_t now_ms)
{
    struct nat_policy broken = worker->policy;
    flush_run(worker); /* what was allowed before, in order */
    worker_shut(worker);
    worker->ended = true;
    note_violation(worker, frame, &broken, batch_us, now_ms);
}

/* Without a leased address the first frame's is taken and kept. */
static void learn_guest_mac(struct worker *worker, const struct packet *packet)
{
    uint64_t mac = 0;
    for (size_t i = 0; i < sizeof packet->source_mac.b; i++)
        mac = mac * 256 + packet->source_mac.b[i];
    bool group = packet->source_mac.b[0] % 2 == 1;
    if (packet->kind == PACKET_MALFORMED || mac == 0 || group)
        return;
    worker->link.guest_mac = packet->source_mac;
    counter_set(&worker->counters->guest_mac, mac);
}

static void judge(struct worker *worker, const struct datagram *frame, uint64_t batch_us, uint64_t now_ms)
{
    struct packet packet;
    packet_parse(frame->bytes, frame->length, worker->link.mtu, &packet);
    if (counter_get(&worker->counters->guest_mac) == 0)
        learn_guest_mac(worker, &packet);

    struct verdict verdict = verdict_decide(&worker->policy, &worker->link, &worker->memory, &packet, now_ms);
    struct violation_frame frame_seen = {verdict.reason, verdict.what == NAT_TERMINATE, &packet, frame->bytes,
                                         frame->length};
    switch (verdict.what) {
    case NAT_FORWARD:
        forward(worker, verdict.reason, &packet, frame->length, now_ms); /* counts once it is known to have gone */
        return;
    case NAT_ANSWER:
        answer(worker, verdict.reason, &packet);
        break;
    case NAT_TERMINATE:
        terminate(worker, &frame_seen, batch_us, now_ms);
        break;
    case NAT_DROP:
        if (verdict.violation)
            note_violation(worker, &frame_seen, &worker->policy, batch_us, now_ms);
        break;
    case NAT_VERDICT_COUNT:
        break;
    }
    count_frames(worker, verdict.reason, 1, frame->length);
}

/* The sampler may have run dry before: then it has every frame judged, which is safe and only slower. */
static void refill_sampler(struct worker *worker)
{
    struct sampler *sampler = &worker->memory.sampler;
    if (worker->policy.mode != NAT_MODE_SAMPLED || sampler->left >= DATAGRAMS_MAX)
        return;
    randombytes_buf(sampler->words, sizeof sampler->words);
    sampler->left = SAMPLER_WORDS;
}

/* Errors of a socket that say nothing about the next call. */
static bool is_passing(int rc)
{
    return rc == -EAGAIN || rc == -EINTR || rc == -ECONNRESET || rc == -ECONNREFUSED || rc == -ENOBUFS || rc == -ENOMEM;
}

int worker_outbound(struct worker *worker, uint64_t now_ms)
{
    int rc = frame_io_receive(&worker->frame_io, &worker->outbound);
    if (rc < 0)
        return is_passing(rc) ? 0 : rc;
    refill_sampler(worker);
    uint64_t batch_us = now_us();
    for (size_t i = 0; i < worker->outbound.count; i++)
        judge(worker, &worker->outbound.frames[i], batch_us, now_ms);
    flush_run(worker);
    return 0;
}

/* ---- back: consumer to VM --------------------------------------------------------------------------------------- */

bool worker_inbound_waits(const struct worker *worker)
{
    return worker->inbound.next < worker->inbound.count;
}

void worker_push(struct worker *worker)
{
    struct worker_inbound *inbound = &worker->inbound;
    while (worker_inbound_waits(worker)) {
        size_t waiting = inbound->count - inbound->next;
        int sent = frame_io_send(&worker->frame_io, &inbound->frames[inbound->next], waiting);
        if (sent == -EAGAIN || sent == -ENOBUFS)
            return;
        enum nat_inbound what = sent > 0 ? NAT_INBOUND_DELIVERED : NAT_INBOUND_VM_GONE;
        size_t passed = sent > 0 ? (size_t)sent : waiting;
        uint64_t bytes = 0;
        for (size_t i = 0; i < passed; i++)
            bytes += inbound->frames[inbound->next + i].length;
        count_inbound(worker, what, passed, bytes);
        inbound->next += passed;
    }
}

static void compose_frame(struct worker *worker, const struct flow *flow, const struct datagram *payload,
                          uint64_t now_ms)
{
    struct worker_inbound *inbound = &worker->inbound;
    struct nat_endpoint guest = {worker->link.guest_ip, flow->guest_port};
    uint8_t *frame = payload->bytes - WIRE_PAYLOAD;
    size_t length = 0;
    size_t ip_bytes = payload->length + (WIRE_PAYLOAD - WIRE_IPV4);
    if (!pass_buckets(&worker->rates.ingress_bits, &worker->rates.ingress_packets, ip_bytes, now_ms)) {
        count_inbound(worker, NAT_INBOUND_RATE_LIMITED, 1, payload->length);
        return;
    }
    if (!payload->truncated)
        length = compose_udp(frame, payload->bytes, payload->length, &worker->link, flow->consumer, guest);
    if (length == 0) {
        count_inbound(worker, NAT_INBOUND_TOO_BIG, 1, payload->length);
        return;
    }
    inbound->frames[inbound->count++] = (struct datagram){.bytes = frame, .length = length};
}

void worker_inbound(struct worker *worker, int slot, uint64_t now_ms)
{
    struct worker_inbound *inbound = &worker->inbound;
    REQUIRE(!worker_inbound_waits(worker));
    struct datagram payloads[DATAGRAMS_MAX];
    for (size_t i = 0; i < DATAGRAMS_MAX; i++)
        payloads[i] =
            (struct datagram){.bytes = inbound->bytes[i] + WIRE_PAYLOAD, .length = DATAGRAM_BYTES - WIRE_PAYLOAD};
    int received = uplink_receive(&worker->uplink, slot, payloads, DATAGRAMS_MAX);
    if (received <= 0)
        return;
    const struct flow *flow = &worker->flows.slots[slot];
    flow_touch(&worker->flows, slot, now_ms);
    counter_set(&worker->counters->consumer_heard_ms, now_ms);
    inbound->next = 0;
    inbound->count = 0;
    for (size_t i = 0; i < (size_t)received; i++) {
        observe_tunnel(worker, WIREGUARD_CONSUMER, payloads[i].bytes, payloads[i].length, now_ms);
        compose_frame(worker, flow, &payloads[i], now_ms);
    }
    worker_push(worker);
}

/* ---- policy ----------------------------------------------------------------------------------------------------- */

static void closed_flows(struct worker *worker, uint64_t slots)
{
    uplink_close(&worker->uplink, slots);
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

void worker_apply(struct worker *worker, const struct nat_policy *policy, uint64_t now_ms)
{
    if (worker->ended)
        return;
    if (!same_allowlist(&worker->policy, policy))
        worker->answered = false; /* another consumer has to agree for itself */
    worker->policy = *policy;
    set_rates(worker, &policy->limits, now_ms);
    closed_flows(worker, flow_retain(&worker->flows, policy));
    counter_set(&worker->counters->policy_generation, policy->generation);
    reporter_policy(&worker->reporter, policy->generation, now_ms);
}

void worker_shut(struct worker *worker)
{
    worker->policy = (struct nat_policy){0};
    closed_flows(worker, flow_retain(&worker->flows, &worker->policy));
    worker->inbound.next = worker->inbound.count;
    counter_set(&worker->counters->policy_generation, 0);
}

bool worker_listens(const struct worker *worker, int slot)
{
    return worker->uplink.fds[slot] >= 0 && worker->flows.slots[slot].listens;
}

void worker_expire(struct worker *worker, uint64_t now_ms)
{
    closed_flows(worker, flow_expire(&worker->flows, now_ms));
    if (wireguard_expire(&worker->tunnel, now_ms))
        tell_tunnel(worker, now_ms);
}

uint64_t worker_next_expiry(const struct worker *worker)
{
    uint64_t flow_ms = flow_next_expiry(&worker->flows);
    uint64_t tunnel_ms = wireguard_next_expiry(&worker->tunnel);
    return flow_ms < tunnel_ms ? flow_ms : tunnel_ms;
}

#include "nat/worker.h"

#include <errno.h>

#include "base/clock.h"
#include "base/error.h"
#include "nat/allowlist.h"
#include "nat/arp.h"
#include "nat/dhcp.h"
#include "nat/judge.h"
#include "nat/packet.h"
#include "nat/verdict.h"
#include "nat/wire.h"

_Static_assert((int)FRAME_BATCH_MAX <= (int)UPLINK_RUN_MAX, "a batch may be one run");

void worker_init(struct worker *worker, const struct nat_config *config, struct counters *counters)
{
    worker->link = config->link;
    worker->resume = config->resume;
    worker->counters = counters;
    worker->expiry_ms = UINT64_MAX;
    frame_io_init(&worker->frame_io, config->frame_fd, config->framing, config->peer_known);
    uplink_init(&worker->uplink);
    random_key(&worker->random);
    worker->flows.limit = config->flows_max;
    reporter_init(&worker->reporter, config->report_fd);
    kernel_gate_init(&worker->gate, config->framing);
    counter_set(&counters->kernel_filter, kernel_gate_state(&worker->gate));
    uint64_t mac = 0;
    for (size_t i = 0; i < sizeof config->link.guest_mac.b; i++)
        mac = mac * 256 + config->link.guest_mac.b[i];
    counter_set(&counters->guest_mac, mac);
}

static void count_frames(struct worker *worker, enum nat_reason reason, uint64_t frames, uint64_t bytes)
{
    counter_add(&worker->counters->frames[reason], frames);
    counter_add(&worker->counters->bytes[reason], bytes);
}

void worker_tell_tunnel(struct worker *worker, int slot, uint64_t now_ms)
{
    struct nat_ports ports = {0};
    if (slot != FLOW_NONE && worker->tunnel.state == NAT_TUNNEL_ESTABLISHED)
        ports = (struct nat_ports){worker->flows.slots[slot].guest_port, uplink_local_port(&worker->uplink, slot)};
    counter_set(&worker->counters->tunnel, worker->tunnel.state);
    counter_set(&worker->counters->tunnel_established_ms, worker->tunnel.established_ms);
    reporter_tunnel(&worker->reporter, worker->tunnel.state, ports, now_ms);
    worker->expiry_ms = now_ms; /* it may have a date now */
}

void worker_observe(struct worker *worker, int slot, enum wireguard_side from, const uint8_t *payload, size_t length,
                    uint64_t now_ms)
{
    struct wireguard_observer *tunnel = &worker->tunnel;
    enum wireguard_message message = wireguard_classify(payload, length);
    if (message == WIREGUARD_NONE)
        return;
    /* A consumer that has moved goes on with the keys it has: no handshake comes before its first packet. */
    if (from == WIREGUARD_CONSUMER && message == WIREGUARD_TRANSPORT && tunnel->established_ms != 0)
        worker->answered = true;
    if (message == WIREGUARD_TRANSPORT &&
        !tunnel->initiated) { /* nearly every packet: it can only show that somebody is there */
        tunnel->heard_ms = from == WIREGUARD_CONSUMER ? now_ms : tunnel->heard_ms;
        return;
    }
    if (from == WIREGUARD_CONSUMER && (message == WIREGUARD_RESPONSE || message == WIREGUARD_INITIATION))
        worker->answered = true;
    uint64_t told_ms = counter_get(&worker->counters->tunnel_last_handshake_ms);
    bool changed = wireguard_observe(tunnel, from, message, now_ms);
    bool renewed = tunnel->last_handshake_ms >= told_ms + WORKER_HANDSHAKE_GAP_MS;
    if (!changed && !renewed)
        return;
    counter_set(&worker->counters->tunnel_last_handshake_ms, tunnel->last_handshake_ms);
    worker_tell_tunnel(worker, slot, now_ms);
}

/* ---- out: VM to consumer ---------------------------------------------------------------------------------------- */

void worker_drop_run(struct worker *worker)
{
    struct worker_run *run = &worker->run;
    uint64_t bytes = 0;
    for (size_t i = run->from; i < run->payloads.count; i++)
        bytes += run->payloads.payloads[i].iov_len + WIRE_PAYLOAD;
    count_frames(worker, NAT_REASON_UPLINK, run->payloads.count - run->from, bytes);
    run->payloads.count = 0;
    run->from = 0;
    run->held = false;
    run->stalled = false;
}

static void hold_run(struct worker *worker, bool moved, uint64_t now_ms)
{
    struct worker_run *run = &worker->run;
    if (!run->held || moved)
        run->held_ms = now_ms;
    run->stalled = run->held && !moved;
    run->held = true;
}

/* Counts the run's payloads from @from on and before @end as what each was forwarded for, or as refused. */
static void count_run(struct worker *worker, size_t from, size_t end, const struct marks *refused, uint64_t now_ms)
{
    enum { CHECKED, UNCHECKED, REFUSED, KINDS };
    static const enum nat_reason reasons[KINDS] = {NAT_REASON_ALLOWED, NAT_REASON_UNCHECKED, NAT_REASON_UPLINK};
    const struct worker_run *run = &worker->run;
    uint64_t frames[KINDS] = {0};
    uint64_t bytes[KINDS] = {0};
    for (size_t i = from; i < end; i++) {
        size_t kind = marks_has(refused, i) ? REFUSED : (size_t)marks_has(&run->unchecked, i);
        frames[kind]++;
        bytes[kind] += run->payloads.payloads[i].iov_len + WIRE_PAYLOAD;
    }
    for (size_t kind = 0; kind < KINDS; kind++) {
        if (frames[kind] > 0)
            count_frames(worker, reasons[kind], frames[kind], bytes[kind]);
    }
    const uint64_t sent = frames[CHECKED] + frames[UNCHECKED];
    struct flow_counters *flow = &worker->counters->flows[run->slot];
    counter_add(&flow->sent_packets, sent);
    counter_add(&flow->sent_bytes, bytes[CHECKED] + bytes[UNCHECKED] - sent * WIRE_PAYLOAD);
    counter_set(&flow->used_ms, now_ms);
}

/* Return: whether the run is done with; else it is held. */
static bool flush_run(struct worker *worker, uint64_t now_ms)
{
    struct worker_run *run = &worker->run;
    if (run->payloads.count == 0)
        return true;
    struct uplink_sent sent = uplink_send(&worker->uplink, run->slot, &run->payloads, run->from);
    count_run(worker, run->from, run->from + sent.done, &sent.refused, now_ms);
    run->from += sent.done;
    if (run->from < run->payloads.count) {
        hold_run(worker, sent.done > 0, now_ms);
        if (now_ms - run->held_ms < WORKER_HOLD_MS)
            return false;
    }
    worker_drop_run(worker);
    return true;
}

/* The name goes first and comes last, so that whoever reads the same one before and after has read one flow. */
void worker_publish_flow(struct worker *worker, int slot, bool anew)
{
    struct flow_counters *shown = &worker->counters->flows[slot];
    const struct flow *flow = &worker->flows.slots[slot];
    atomic_store_explicit(&shown->name, 0, memory_order_release);
    if (flow->state != FLOW_OPEN)
        return;
    atomic_thread_fence(memory_order_release);
    counter_set(&shown->listens, flow->listens);
    counter_set(&shown->opened_ms, flow->opened_ms);
    counter_set(&shown->used_ms, flow->used_ms);
    if (anew) {
        counter_set(&shown->sent_packets, 0);
        counter_set(&shown->sent_bytes, 0);
        counter_set(&shown->received_packets, 0);
        counter_set(&shown->received_bytes, 0);
    }
    uint64_t name =
        ((uint64_t)flow->guest_port * 65536 + flow->consumer.port) * UINT64_C(4294967296) + flow->consumer.ip;
    atomic_store_explicit(&shown->name, name, memory_order_release);
}

void worker_opened_flow(struct worker *worker, int slot, uint64_t now_ms)
{
    counter_add(&worker->counters->flows_opened, 1);
    counter_set(&worker->counters->flows_open, worker->flows.open_count);
    worker_publish_flow(worker, slot, true);
    if (now_ms + FLOW_IDLE_MS < worker->expiry_ms)
        worker->expiry_ms = now_ms + FLOW_IDLE_MS;
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
        worker_opened_flow(worker, slot, now_ms);
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
    if (bucket_is_open(&rates->egress_bits) && bucket_is_open(&rates->egress_packets))
        return NAT_REASON_ALLOWED;
    size_t ip_bytes = packet->payload_bytes + (WIRE_PAYLOAD - WIRE_IPV4);
    bool passes = bucket_pass(&rates->egress_bits, &rates->egress_packets, ip_bytes, now_ms);
    return passes ? NAT_REASON_ALLOWED : NAT_REASON_RATE_LIMITED;
}

/* Return: false when the frame has to be judged again, because the run before it is held. */
static bool forward(struct worker *worker, enum nat_reason reason, const struct packet *packet, size_t frame_bytes,
                    uint64_t now_ms)
{
    struct worker_run *run = &worker->run;
    int slot = flow_find(&worker->flows, packet->source.port, packet->destination);
    if (run->payloads.count > 0 && slot != run->slot && !flush_run(worker, now_ms))
        return false; /* also before a slot is given to another flow */
    enum nat_reason held = hold_back(worker, packet, now_ms);
    if (held != NAT_REASON_ALLOWED) {
        count_frames(worker, held, 1, frame_bytes);
        return true;
    }
    if (slot == FLOW_NONE)
        slot = open_flow(worker, packet->source.port, packet->destination, now_ms);
    if (slot == FLOW_NONE) {
        count_frames(worker, NAT_REASON_UPLINK, 1, frame_bytes);
        return true;
    }
    if (run->payloads.count == 0) {
        flow_touch(&worker->flows, slot, now_ms);
        run->slot = slot;
        run->unchecked = (struct marks){0};
    }
    if (reason == NAT_REASON_UNCHECKED)
        marks_set(&run->unchecked, run->payloads.count);
    run->payloads.payloads[run->payloads.count++] =
        (struct iovec){.iov_base = (uint8_t *)(uintptr_t)packet->payload, .iov_len = packet->payload_bytes};
    if (worker->flows.slots[slot].listens)
        worker_observe(worker, slot, WIREGUARD_GUEST, packet->payload, packet->payload_bytes, now_ms);
    return true;
}

static void answer(struct worker *worker, enum nat_reason reason, const struct packet *packet)
{
    uint8_t bytes[DATAGRAM_ROOM + DHCP_FRAME_BYTES];
    uint8_t *frame = bytes + DATAGRAM_ROOM;
    size_t length =
        reason == NAT_REASON_ARP ? arp_answer(packet, &worker->link, frame) : dhcp_answer(packet, &worker->link, frame);
    if (length == 0)
        return;
    struct datagram_parts message = {.head = frame, .head_bytes = length};
    /* A VM that does not take its answer asks again. */
    (void)frame_io_send(&worker->frame_io, &message, 1);
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
        made->detection_latency_us = (uint32_t)(clock_monotonic_us() - batch_us);
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
    (void)flush_run(worker, now_ms); /* what was allowed before, in order; a held rest goes with its flow */
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

/* Return: false when the frame has to be judged again. */
static bool judge(struct worker *worker, const struct datagram *frame, uint64_t now_us)
{
    const uint64_t now_ms = now_us / 1000;
    struct packet packet;
    packet_parse(frame->bytes, frame->length, worker->link.mtu, &packet);
    if (counter_get(&worker->counters->guest_mac) == 0)
        learn_guest_mac(worker, &packet);

    struct verdict verdict = judge_packet(&worker->policy, &worker->link, &worker->memory, &packet, now_ms);
    if (verdict.what == NAT_FORWARD)
        return forward(worker, verdict.reason, &packet, frame->length, now_ms); /* counts once it has gone */
    struct violation_frame frame_seen = {verdict.reason, verdict.what == NAT_TERMINATE, &packet, frame->bytes,
                                         frame->length};
    switch (verdict.what) {
    case NAT_ANSWER:
        answer(worker, verdict.reason, &packet);
        break;
    case NAT_TERMINATE:
        terminate(worker, &frame_seen, now_us, now_ms);
        break;
    case NAT_DROP:
        worker->dropped++;
        if (nat_reason_is_violation(verdict.reason))
            note_violation(worker, &frame_seen, &worker->policy, now_us, now_ms);
        break;
    case NAT_FORWARD:
    case NAT_VERDICT_COUNT:
        break;
    }
    count_frames(worker, verdict.reason, 1, frame->length);
    return true;
}

/* The sampler may have run dry before: then it has every frame judged, which is safe and only slower. */
static void refill_sampler(struct worker *worker)
{
    struct sampler *sampler = &worker->memory.sampler;
    if (worker->policy.mode != NAT_MODE_SAMPLED || sampler->left >= FRAME_BATCH_MAX)
        return;
    random_fill(&worker->random, sampler->words, sizeof sampler->words);
    sampler->left = SAMPLER_WORDS;
}

/* Errors of a socket that say nothing about the next call. */
static bool is_passing(int rc)
{
    return rc == -EAGAIN || rc == -EINTR || rc == -ECONNRESET || rc == -ECONNREFUSED || rc == -ENOBUFS || rc == -ENOMEM;
}

/* A flood of frames that cannot pass is left to the kernel. */
static void note_dropped(struct worker *worker, uint64_t now_ms)
{
    const uint32_t dropped = worker->dropped;
    worker->dropped = 0;
    if (dropped == 0 ||
        !kernel_gate_note(&worker->gate, worker->frame_io.fd, &worker->policy, &worker->link, dropped, now_ms))
        return;
    counter_add(&worker->counters->kernel_filter_closings, 1);
    counter_set(&worker->counters->kernel_filter, kernel_gate_state(&worker->gate));
    if (worker->gate.opens_ms < worker->expiry_ms)
        worker->expiry_ms = worker->gate.opens_ms;
}

int worker_outbound(struct worker *worker, uint64_t now_us)
{
    struct frame_batch *batch = &worker->outbound;
    if (worker->run.held && !flush_run(worker, now_us / 1000))
        return 0;
    if (worker->judged == batch->count) {
        int rc = frame_io_receive(&worker->frame_io, batch);
        worker->judged = 0;
        if (rc < 0)
            return is_passing(rc) ? 0 : rc;
        refill_sampler(worker);
    }
    while (worker->judged < batch->count) {
        if (!judge(worker, &batch->frames[worker->judged], now_us))
            return 0;
        worker->judged++;
    }
    note_dropped(worker, now_us / 1000);
    (void)flush_run(worker,
                    now_us / 1000); /* the payloads lie in the batch: a held run keeps it from being filled again */
    return 0;
}

enum worker_wait worker_outbound_wait(const struct worker *worker)
{
    if (worker->run.held)
        return worker->run.stalled ? WORKER_WAIT_MOMENT : WORKER_WAIT_UPLINK;
    bool more = worker->judged < worker->outbound.count || frame_io_has_more(&worker->frame_io);
    return more ? WORKER_WAIT_NOT : WORKER_WAIT_FRAMES;
}

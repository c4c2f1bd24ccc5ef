/* The way back: datagrams of the consumer become frames for the VM. */
#include <errno.h>

#include "base/error.h"
#include "nat/compose.h"
#include "nat/wire.h"
#include "nat/worker.h"

_Static_assert(WORKER_HEADER_BYTES >= DATAGRAM_ROOM + WIRE_PAYLOAD, "the headers and the room before them");

static void count_inbound(struct worker *worker, enum nat_inbound what, uint64_t packets, uint64_t bytes)
{
    counter_add(&worker->counters->inbound_packets[what], packets);
    counter_add(&worker->counters->inbound_bytes[what], bytes);
}

bool worker_inbound_waits(const struct worker *worker)
{
    const struct worker_inbound *inbound = &worker->inbound;
    return inbound->next < inbound->count || inbound->message < inbound->received.count;
}

void worker_inbound_drop(struct worker *worker, uint64_t slots)
{
    struct worker_inbound *inbound = &worker->inbound;
    if (!worker_inbound_waits(worker) || (slots >> inbound->slot & 1) == 0)
        return;
    inbound->next = inbound->count;
    inbound->message = inbound->received.count;
}

/** struct segment - One datagram of the consumer, where the kernel has put it. */
struct segment {
    const uint8_t *bytes;
    size_t length;
    bool truncated;
};

static struct segment take_segment(struct worker_inbound *inbound)
{
    const struct uplink_message *message = inbound->received.messages[inbound->message];
    size_t left = message->length - inbound->offset;
    size_t length = left < message->segment ? left : message->segment;
    struct segment segment = {message->bytes + inbound->offset, length, message->truncated && length == left};
    inbound->offset += length;
    if (inbound->offset == message->length) {
        inbound->message++;
        inbound->offset = 0;
    }
    return segment;
}

static void compose_frame(struct worker *worker, const struct segment *segment, uint64_t now_ms)
{
    struct worker_inbound *inbound = &worker->inbound;
    struct worker_rates *rates = &worker->rates;
    bool open = bucket_is_open(&rates->ingress_bits) && bucket_is_open(&rates->ingress_packets);
    if (!open && !bucket_pass(&rates->ingress_bits, &rates->ingress_packets,
                              segment->length + (WIRE_PAYLOAD - WIRE_IPV4), now_ms)) {
        count_inbound(worker, NAT_INBOUND_RATE_LIMITED, 1, segment->length);
        return;
    }
    uint8_t *headers = inbound->headers[inbound->count] + (WORKER_HEADER_BYTES - WIRE_PAYLOAD);
    size_t length = 0;
    if (!segment->truncated)
        length =
            compose_inbound(headers, segment->bytes, segment->length, &worker->policy, &worker->link, &inbound->flow);
    if (length == 0) { /* a flow that the policy does not allow was closed when the policy came */
        count_inbound(worker, NAT_INBOUND_TOO_BIG, 1, segment->length);
        return;
    }
    inbound->frames[inbound->count++] =
        (struct datagram_parts){.head = headers, .head_bytes = WIRE_PAYLOAD, segment->bytes, segment->length};
}

/* Fills the frames anew once all have gone. Return: whether there are any to send. */
static bool compose_some(struct worker *worker, uint64_t now_ms)
{
    struct worker_inbound *inbound = &worker->inbound;
    if (inbound->next < inbound->count)
        return true;
    inbound->next = 0;
    inbound->count = 0;
    while (inbound->count < DATAGRAMS_MAX && inbound->message < inbound->received.count) {
        struct segment segment = take_segment(inbound);
        worker_observe(worker, inbound->slot, WIREGUARD_CONSUMER, segment.bytes, segment.length, now_ms);
        compose_frame(worker, &segment, now_ms);
    }
    return inbound->count > 0;
}

void worker_push(struct worker *worker, uint64_t now_ms)
{
    struct worker_inbound *inbound = &worker->inbound;
    while (compose_some(worker, now_ms)) {
        size_t waiting = inbound->count - inbound->next;
        int sent = frame_io_send(&worker->frame_io, &inbound->frames[inbound->next], waiting);
        if (sent == -EAGAIN || sent == -ENOBUFS)
            return;
        enum nat_inbound what = sent > 0 ? NAT_INBOUND_DELIVERED : NAT_INBOUND_VM_GONE;
        size_t passed = sent > 0 ? (size_t)sent : waiting;
        uint64_t bytes = 0;
        for (size_t i = 0; i < passed; i++)
            bytes += inbound->frames[inbound->next + i].body_bytes;
        inbound->next += passed;
        count_inbound(worker, what, passed, bytes);
    }
}

static void count_flow(struct worker *worker, int slot, uint64_t now_ms)
{
    const struct uplink_batch *received = &worker->inbound.received;
    struct flow_counters *flow = &worker->counters->flows[slot];
    for (size_t i = 0; i < received->count; i++) {
        const struct uplink_message *message = received->messages[i];
        size_t packets = message->segment == 0 ? 1 : (message->length + message->segment - 1) / message->segment;
        counter_add(&flow->received_packets, packets);
        counter_add(&flow->received_bytes, message->length);
    }
    counter_set(&flow->used_ms, now_ms);
}

bool worker_inbound(struct worker *worker, int slot, uint64_t now_ms)
{
    struct worker_inbound *inbound = &worker->inbound;
    REQUIRE(!worker_inbound_waits(worker));
    inbound->message = 0;
    inbound->offset = 0;
    const int received = uplink_receive(&worker->uplink, slot, &inbound->received);
    if (received <= 0)
        return false;
    if (inbound->received.count > 0) {
        inbound->slot = slot;
        inbound->flow = worker->flows.slots[slot];
        flow_touch(&worker->flows, slot, now_ms);
        counter_set(&worker->counters->consumer_heard_ms, now_ms);
        count_flow(worker, slot, now_ms);
        worker_push(worker, now_ms);
    }
    return received == UPLINK_MESSAGES && !worker_inbound_waits(worker);
}

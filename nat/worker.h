/* What the NAT thread of one VM works on, and the two ways of a frame through it.
 *
 * Out: frame_io_receive (a batch) -> packet_parse -> verdict_decide -> flow -> uplink_send (runs of one flow).
 * Back: uplink_receive (a batch) -> compose_udp -> frame_io_send. A payload is never copied: it leaves from the buffer that
 * its frame came in, and comes back into the place behind its headers. When the VM does not take its frames, nothing
 * more is read from the uplink: the kernel's socket buffer is the bounded queue. */
#ifndef NAT_WORKER_H
#define NAT_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/bucket.h"
#include "nat/counters.h"
#include "nat/flow.h"
#include "nat/frame_io.h"
#include "nat/nat.h"
#include "nat/reporter.h"
#include "nat/uplink.h"
#include "nat/verdict.h"
#include "nat/violation.h"
#include "nat/wireguard.h"

enum worker_limits {
    WORKER_UNANSWERED_BURST = 20, /* a handshake and its repetitions for 90 s (WireGuard's REKEY_ATTEMPT_TIME), then */
    WORKER_HANDSHAKE_GAP_MS =
        1000, /* keys are renewed every two minutes; who does it more often is not told of each time */
    WORKER_UNANSWERED_PER_S = 1, /* so few that nobody is flooded in our name */
};

/** struct worker_run - Payloads of one flow that go out together; they lie in the batch of frames. */
struct worker_run {
    int slot;
    enum nat_reason reason; /* why they are forwarded */
    size_t count;
    struct datagram payloads[DATAGRAMS_MAX];
};

/** struct worker_inbound - Frames composed for the VM; those from @next on wait for room in its queue. */
struct worker_inbound {
    size_t next;
    size_t count;
    struct datagram frames[DATAGRAMS_MAX];
    uint8_t bytes[DATAGRAMS_MAX][DATAGRAM_BYTES];
};

/** struct worker_rates - What may still pass. Owner: the worker. */
struct worker_rates {
    struct bucket egress_bits;
    struct bucket egress_packets;
    struct bucket ingress_bits;
    struct bucket ingress_packets;
    struct bucket unanswered;
};

/** struct worker - Owner: the NAT thread of one VM. */
struct worker {
    struct nat_link link;
    struct nat_policy policy; /* generation 0: the gate is shut */
    bool ended;               /* a violation shut the gate, and no policy opens it again */
    bool answered;            /* the consumer of this policy has answered with WireGuard */
    struct verdict_memory memory;
    struct worker_rates rates;
    struct frame_io frame_io;
    struct uplink uplink;
    struct flow_pool flows;
    struct wireguard_observer tunnel;
    struct reporter reporter;
    struct counters *counters;
    struct worker_run run;
    struct violation_table violations;
    struct nat_violation condemning; /* the one that shut the gate for good; constant once @condemned is set */
    atomic_bool condemned;
    struct frame_batch outbound;
    struct worker_inbound inbound;
};

/**
 * worker_outbound() - Take one batch of frames from the VM, judge each, send on what is allowed
 * @now_ms: monotonic time of the batch
 * Return:  0, or negative when the attachment is lost
 * Thread:  the owner
 */
int worker_outbound(struct worker *worker, uint64_t now_ms);

/** worker_inbound() - Take one batch from a flow's socket and send it to the VM. Thread: the owner */
void worker_inbound(struct worker *worker, int slot, uint64_t now_ms);

/** worker_inbound_waits() - Whether composed frames wait for room in the VM's queue. Thread: the owner */
bool worker_inbound_waits(const struct worker *worker);

/** worker_push() - Send the frames that wait. Thread: the owner */
void worker_push(struct worker *worker);

/** worker_apply() - Enforce a policy from the next frame on; flows that it does not allow are closed. Thread: the owner */
void worker_apply(struct worker *worker, const struct nat_policy *policy, uint64_t now_ms);

/** worker_shut() - Forward nothing from the next frame on; all flows are closed. Thread: the owner */
void worker_shut(struct worker *worker);

/** worker_condemned() - As nat_condemned(). Thread: any */
bool worker_condemned(const struct worker *worker, struct nat_violation *ret_violation);

/** worker_listens() - Whether a slot's socket is one to receive from. Thread: the owner */
bool worker_listens(const struct worker *worker, int slot);

/** worker_expire() - Close flows that were idle too long, note a tunnel that was lost. Thread: the owner */
void worker_expire(struct worker *worker, uint64_t now_ms);

/** worker_next_expiry() - When worker_expire() has something to do; UINT64_MAX never. Thread: the owner */
uint64_t worker_next_expiry(const struct worker *worker);

#endif

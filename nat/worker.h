/* What the NAT thread of one VM works on, and the two ways of a frame through it.
 *
 * Out: frame_io_receive (a batch) -> packet_parse -> verdict_decide -> flow -> uplink_send (runs of one flow).
 * Back: uplink_receive (a batch) -> compose_udp -> frame_io_send.
 *
 * Why it is fast: a frame costs its share of a few system calls, one pass over its bytes for the checksum, and some dozens of
 * instructions; the rest of this folder is arranged so that nothing is added to that.
 * - A payload is never copied. It leaves from the buffer that its frame came in; on the way back it stays where the kernel
 *   has put it, and its headers are written beside it.
 * - The expensive step is a walk through the kernel's stack, so one walk serves many packets: runs of one flow leave as
 *   one message (of 128 where the kernel cuts as many: a small payload's largest cost is its share of that walk), datagrams
 *   of the consumer come joined (uplink.h), frames come by 64 or by the bufferful (frame_io.h).
 * - No allocation, no lock and no clock for a frame: all memory is in this struct, nobody else writes it, and time is
 *   read once a round. Counters are plain stores, because each has one writer.
 * - What there may be many of (flows, destinations, kinds of violations) is found by looking at the last hit first, or in a
 *   table that fits a few cache lines.
 *
 * Nothing waits inside: when the VM does not take its frames, nothing more is read from the uplink, and when the uplink is
 * busy, nothing more from the VM. The kernel's socket buffers are the bounded queues, each way for itself. */
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
#include "nat/kernel_gate.h"
#include "nat/nat.h"
#include "nat/random.h"
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
    WORKER_HOLD_MS = 1000,       /* a link that is busy for longer has lost its packets' worth; then they are dropped */
    WORKER_HEADER_BYTES = 48,    /* a frame's headers, the room before them, and two bytes so that IPv4 is aligned */
};

/** struct worker_run - Payloads of one flow that go out together; they lie in the batch of frames. */
struct worker_run {
    int slot;
    struct marks unchecked; /* those that were not drawn in sampled mode; the others were judged */
    struct uplink_run payloads;
    size_t from;  /* those before it have gone */
    bool held;    /* the link was busy: the rest waits since @held_ms */
    bool stalled; /* and still was when it said that it had room */
    uint64_t held_ms;
};

/** struct worker_inbound - What came for one flow: messages, from the cursor on not yet composed, and composed frames, those
 * from @next on not yet taken by the VM. */
struct worker_inbound {
    int slot;
    struct flow flow; /* as it was: the slot may be another's by now */
    size_t message;   /* the cursor: which message, */
    size_t offset;    /* and where in it */
    size_t next;
    size_t count;
    struct datagram_parts frames[DATAGRAMS_MAX];
    uint8_t headers[DATAGRAMS_MAX][WORKER_HEADER_BYTES];
    struct uplink_batch received;
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
    struct nat_ports resume;  /* of the tunnel under the NAT before, until the first policy */
    struct verdict_memory memory;
    struct random_source random; /* for its sampler */
    struct worker_rates rates;
    struct frame_io frame_io;
    struct uplink uplink;
    struct flow_pool flows;
    struct wireguard_observer tunnel;
    struct reporter reporter;
    struct kernel_gate gate;
    uint32_t dropped; /* frames of the batch at hand */
    struct counters *counters;
    struct worker_run run;
    struct violation_table violations;
    struct nat_violation condemning; /* the one that shut the gate for good; constant once @condemned is set */
    atomic_bool condemned;
    size_t judged;      /* frames of @outbound that are done with, but for @run */
    uint64_t expiry_ms; /* nothing expires before; what was used since may make it later */
    struct frame_batch outbound;
    struct worker_inbound inbound;
};

/** worker_init() - A worker whose gate is shut. @worker: all zeros. Thread: any, before the NAT thread starts */
void worker_init(struct worker *worker, const struct nat_config *config, struct counters *counters);

/**
 * worker_outbound() - Go on with the frames at hand, or take the next batch; judge each, send on what is allowed
 * @now_us: monotonic time of the batch
 * Return:  0, or negative when the attachment is lost
 * Thread:  the owner
 */
int worker_outbound(struct worker *worker, uint64_t now_us);

/** enum worker_wait - What has to be before worker_outbound() has something to do. */
enum worker_wait {
    WORKER_WAIT_FRAMES, /* frames on the attachment */
    WORKER_WAIT_UPLINK, /* room at the socket of the run's slot */
    WORKER_WAIT_MOMENT, /* a millisecond: the link says that it has room and takes nothing */
    WORKER_WAIT_NOT,    /* it has something to do now */
};

/** worker_outbound_wait() - Which of them. Thread: the owner */
enum worker_wait worker_outbound_wait(const struct worker *worker);

/**
 * worker_inbound() - Take what is there from a flow's socket and send it to the VM
 * Return: whether there may be more and the VM has room
 * Thread: the owner
 */
bool worker_inbound(struct worker *worker, int slot, uint64_t now_ms);

/** worker_inbound_waits() - Whether what came waits for room in the VM's queue. Thread: the owner */
bool worker_inbound_waits(const struct worker *worker);

/** worker_push() - Send what waits. Thread: the owner */
void worker_push(struct worker *worker, uint64_t now_ms);

/** worker_inbound_drop() - Forget what waits for the VM from flows that were closed. @slots: one bit a slot. Thread: the owner */
void worker_inbound_drop(struct worker *worker, uint64_t slots);

/** worker_observe() - Note what a payload of a slot's flow says of the tunnel. Thread: the owner */
void worker_observe(struct worker *worker, int slot, enum wireguard_side from, const uint8_t *payload, size_t length,
                    uint64_t now_ms);

/** worker_apply() - Enforce a policy from the next frame on; flows that it does not allow are closed. Thread: the owner */
void worker_apply(struct worker *worker, const struct nat_policy *policy, uint64_t now_ms);

/** worker_replace_own() - Replace the policy's own addresses, at most NAT_OWN_MAX. Thread: the owner */
void worker_replace_own(struct worker *worker, const uint32_t *own, size_t count);

/** worker_shut() - Forward nothing from the next frame on; all flows are closed. Thread: the owner */
void worker_shut(struct worker *worker);

/** worker_condemned() - As nat_condemned(). Thread: any */
bool worker_condemned(const struct worker *worker, struct nat_violation *ret_violation);

/** worker_listens() - Whether a slot's socket is one to receive from. Thread: the owner */
bool worker_listens(const struct worker *worker, int slot);

/** worker_expire() - Close flows that were idle too long, note a tunnel that was lost. Thread: the owner */
void worker_expire(struct worker *worker, uint64_t now_ms);

/** worker_next_expiry() - When worker_expire() may have something to do; UINT64_MAX never. Thread: the owner */
uint64_t worker_next_expiry(const struct worker *worker);

/* ---- between the worker's own files; thread: the owner ---- */

/** worker_drop_run() - What is left of the run will not go */
void worker_drop_run(struct worker *worker);

/** worker_publish_flow() - Show a slot's flow to readers of the counters, or that there is none. @anew: it begins at zero */
void worker_publish_flow(struct worker *worker, int slot, bool anew);

/** worker_opened_flow() - Count and show a flow that was opened */
void worker_opened_flow(struct worker *worker, int slot, uint64_t now_ms);

/** worker_tell_tunnel() - Count and report the tunnel's state. @slot: its flow; FLOW_NONE when it is not known or there is none */
void worker_tell_tunnel(struct worker *worker, int slot, uint64_t now_ms);

#endif

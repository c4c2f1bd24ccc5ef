/* The one decision about a frame. Default drop: NAT_REASON_ALLOWED stands in one place, behind the one condition.
 *
 * `filtered` judges every frame. `conntrack` judges in full what goes to a destination for the first time, and from then
 * on looks only whether the same policy has allowed it. `sampled` judges the frames that its sampler draws; of the others
 * it forwards UDP unchecked, but never to the constant never-list, and drops the rest without a word. */
#ifndef NAT_VERDICT_H
#define NAT_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "nat/allowlist.h"
#include "nat/conntrack.h"
#include "nat/nat.h"
#include "nat/packet.h"
#include "nat/sampler.h"
#include "nat/wireguard.h"

/**
 * struct verdict - What happens to a frame, and why; nat_reason_is_violation() says whether it has to be told
 *
 * Each field is a register of its own when a verdict is returned. Packed into one, they would be put together in memory by
 * two small writes and read back by a large one, which waits for both: half of the time that judging a frame takes.
 */
struct verdict {
    __attribute__((aligned(8))) enum nat_verdict what;
    __attribute__((aligned(8))) enum nat_reason reason;
};

/** struct verdict_memory - What the modes remember from frame to frame. Owner: the NAT thread. All zeros to begin with. */
struct verdict_memory {
    struct conntrack conntrack;
    struct sampler sampler;
};

/* The promise. `filtered` and `conntrack` forward what passes() holds for, all of it and nothing else. */
/*@ predicate mac_same(struct nat_mac a, struct nat_mac b) =
      a.b[0] == b.b[0] && a.b[1] == b.b[1] && a.b[2] == b.b[2] && a.b[3] == b.b[3] && a.b[4] == b.b[4] && a.b[5] == b.b[5];

    predicate own_udp(struct packet *packet, struct nat_link *link) =
      packet->kind == PACKET_UDP && mac_same(packet->source_mac, link->guest_mac) && packet->source.ip == link->guest_ip;

    predicate passes(struct nat_policy *policy, struct nat_link *link, struct packet *packet) =
      own_udp(packet, link) && allowed(policy, packet->destination.ip, packet->destination.port) &&
      (policy->require_wireguard != 0 ==> wireguard_shape(packet->payload, packet->payload_bytes));

    predicate may_go_unchecked(struct nat_policy *policy, struct nat_link *link, struct packet *packet) =
      own_udp(packet, link) && !never(packet->destination.ip) &&
      \forall integer i; 0 <= i < policy->own_count ==> policy->own[i] != packet->destination.ip;

    predicate tracks(struct conntrack *table, struct nat_policy *policy) =
      table->generation == policy->generation ==>
      \forall integer i; 0 <= i < CONNTRACK_ENTRIES && table->entries[i].destination.port != 0 ==>
        allowed(policy, table->entries[i].destination.ip, table->entries[i].destination.port);

    predicate judge_inputs(struct nat_policy *policy, struct nat_link *link, struct packet *packet) =
      \valid_read(policy) && policy_sane(policy) && \valid_read(link) && link->prefix <= 31 && \valid_read(packet) &&
      PACKET_MALFORMED <= packet->kind <= PACKET_UDP &&
      \valid_read(packet->payload + (0 .. packet->payload_bytes - 1)); */

/**
 * verdict_decide() - Judge one frame from the VM
 * @policy: in force now; generation 0 is a shut gate
 * @link:   the leased addresses
 * @memory: used by conntrack and sampled
 * @packet: from packet_parse()
 * @now_ms: monotonic time
 * Return:  in `filtered` NAT_FORWARD if and only if the gate is open and @packet is whole UDP over IPv4 from the leased
 *          addresses to an endpoint in the allowlist (and has the shape of WireGuard, where the policy requires it). In
 *          `conntrack` the same; a hit in the table means that this check of the same generation has allowed it. In
 *          `sampled` the same for each frame drawn
 * Thread:  the memory's owner
 */
/*@ requires inputs: judge_inputs(policy, link, packet) && \valid(memory) && memory->sampler.left <= SAMPLER_WORDS;
    requires apart: \separated(memory, policy) && \separated(memory, link) && \separated(memory, packet) &&
                    \separated(memory, packet->payload + (0 .. packet->payload_bytes - 1));
    requires table: tracks(&memory->conntrack, policy) && conntrack_past(&memory->conntrack, now_ms);
    assigns memory->conntrack, memory->sampler.left;
    ensures shut: policy->generation == 0 ==> \result.what != NAT_FORWARD;
    ensures filtered: policy->mode == NAT_MODE_FILTERED ==>
            (\result.what == NAT_FORWARD <==> policy->generation != 0 && \old(passes(policy, link, packet)));
    ensures conntrack: policy->mode == NAT_MODE_CONNTRACK ==>
            (\result.what == NAT_FORWARD <==> policy->generation != 0 && \old(passes(policy, link, packet)));
    ensures sampled: policy->mode == NAT_MODE_SAMPLED && \result.what == NAT_FORWARD ==>
            policy->generation != 0 && \old(passes(policy, link, packet) || may_go_unchecked(policy, link, packet));
    ensures table: tracks(&memory->conntrack, policy) && conntrack_past(&memory->conntrack, now_ms);
    ensures left: memory->sampler.left <= SAMPLER_WORDS; */
struct verdict verdict_decide(const struct nat_policy *policy, const struct nat_link *link,
                              struct verdict_memory *memory, const struct packet *packet, uint64_t now_ms);

#endif

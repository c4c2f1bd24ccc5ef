/* How a parsed packet comes to its verdict: what the guest calls its consumer is put in the consumer's place, then the one
 * decision falls. The data path and the evaluation of a described packet both come through here. Pure. */
#ifndef NAT_JUDGE_H
#define NAT_JUDGE_H

#include "nat/verdict.h"

/**
 * judge_packet() - Translate and judge
 * @packet: its destination becomes where it would go: see allowlist_translate()
 * Return:  as verdict_decide() about the translated packet: nothing is forwarded that the allowlist does not hold
 * Thread:  the memory's owner
 */
/*@ requires inputs: judge_inputs(policy, link, packet) && \valid(memory) && memory->sampler.left <= SAMPLER_WORDS;
    requires apart: \separated(memory, policy) && \separated(memory, link) && \separated(memory, packet) &&
                    \separated(packet, policy) && \separated(packet, link) && \valid(packet) &&
                    \separated(memory, packet->payload + (0 .. packet->payload_bytes - 1)) &&
                    \separated(packet, packet->payload + (0 .. packet->payload_bytes - 1));
    requires table: tracks(&memory->conntrack, policy) && conntrack_past(&memory->conntrack, now_ms);
    assigns memory->conntrack, memory->sampler.left, packet->destination.ip, packet->destination.port;
    ensures shut: policy->generation == 0 ==> \result.what != NAT_FORWARD;
    ensures table: tracks(&memory->conntrack, policy) && conntrack_past(&memory->conntrack, now_ms); */
struct verdict judge_packet(const struct nat_policy *policy, const struct nat_link *link, struct verdict_memory *memory,
                            struct packet *packet, uint64_t now_ms);

#endif

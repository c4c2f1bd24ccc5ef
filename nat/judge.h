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
struct verdict judge_packet(const struct nat_policy *policy, const struct nat_link *link, struct verdict_memory *memory,
                            struct packet *packet, uint64_t now_ms);

#endif

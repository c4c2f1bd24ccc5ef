/* The one decision about a frame. Default drop: NAT_REASON_ALLOWED stands in one place, behind the one condition.
 *
 * `filtered` judges every frame. `conntrack` judges in full what goes to a destination for the first time, and from then
 * on looks only whether the same policy has allowed it. `sampled` judges the frames that its sampler draws; of the others
 * it forwards UDP unchecked, but never to the constant never-list, and drops the rest without a word. */
#ifndef NAT_VERDICT_H
#define NAT_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "nat/conntrack.h"
#include "nat/nat.h"
#include "nat/packet.h"
#include "nat/sampler.h"

/**
 * struct verdict - What happens to a frame, and why
 * @violation: it has to be told; NAT_TERMINATE always is one
 */
struct verdict {
    enum nat_verdict what;
    enum nat_reason reason;
    bool violation;
};

/** struct verdict_memory - What the modes remember from frame to frame. Owner: the NAT thread. All zeros to begin with. */
struct verdict_memory {
    struct conntrack conntrack;
    struct sampler sampler;
};

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
struct verdict verdict_decide(const struct nat_policy *policy, const struct nat_link *link,
                              struct verdict_memory *memory, const struct packet *packet, uint64_t now_ms);

#endif

/* The one decision about a frame. Default drop: NAT_REASON_ALLOWED stands in one place, behind the one condition. */
#ifndef NAT_VERDICT_H
#define NAT_VERDICT_H

#include "nat/nat.h"
#include "nat/packet.h"

/**
 * verdict_decide() - Judge one frame from the VM
 * @policy: in force now; generation 0 is a shut gate
 * @link:   the leased addresses
 * @packet: from packet_parse()
 * Return:  why; nat_verdict_of() tells what. NAT_REASON_ALLOWED if and only if the gate is open and @packet is whole UDP over
 *          IPv4 from the leased addresses to an endpoint in the allowlist
 * Thread:  any
 */
enum nat_reason verdict_decide(const struct nat_policy *policy, const struct nat_link *link,
                               const struct packet *packet);

#endif

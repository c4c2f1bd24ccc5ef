/* Local ARP answers: the gateway is the only neighbour a VM has. */
#ifndef NAT_ARP_H
#define NAT_ARP_H

#include <stddef.h>
#include <stdint.h>

#include "nat/nat.h"
#include "nat/packet.h"

enum arp_limits {
    ARP_FRAME_BYTES = 42,
};

/**
 * arp_answer() - Compose the answer to an ARP request for the gateway
 * @packet:    judged NAT_REASON_ARP
 * @ret_frame: the answer; it depends on the link alone, never on what the guest claims
 * Return:     ARP_FRAME_BYTES, or 0 when there is nothing to say (a probe, an announcement, a request for somebody else)
 * Thread:     any
 * Source:     RFC 826
 */
size_t arp_answer(const struct packet *packet, const struct nat_link *link, uint8_t ret_frame[static ARP_FRAME_BYTES]);

#endif

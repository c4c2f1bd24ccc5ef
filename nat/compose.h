/* Frames towards the VM: headers are written before a payload that stands in the buffer already, so that a datagram is
 * received straight into its place in the frame. */
#ifndef NAT_COMPOSE_H
#define NAT_COMPOSE_H

#include <stddef.h>
#include <stdint.h>

#include "nat/nat.h"

/**
 * compose_udp() - Write Ethernet, IPv4 and UDP headers before a payload
 * @frame:         WIRE_PAYLOAD bytes of room, then the payload
 * @payload_bytes: at most the link's MTU less 28
 * @from, @to:     ends as the VM shall see them
 * Return:         length of the frame, or 0 when the payload would not fit the MTU
 * Thread:         any
 * Source:         RFC 791, RFC 768
 */
size_t compose_udp(uint8_t *frame, size_t payload_bytes, const struct nat_link *link, struct nat_endpoint from,
                   struct nat_endpoint to);

#endif

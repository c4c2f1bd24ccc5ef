/* Frames towards the VM: headers are written apart from the payload, which stays where the system has put it. */
#ifndef NAT_COMPOSE_H
#define NAT_COMPOSE_H

#include <stddef.h>
#include <stdint.h>

#include "nat/nat.h"

/**
 * compose_udp() - Write the Ethernet, IPv4 and UDP headers of a payload
 * @ret_headers:   WIRE_PAYLOAD bytes; the payload follows them on the wire, wherever it is in memory
 * @payload_bytes: at most the link's MTU less 28
 * @from, @to:     ends as the VM shall see them
 * Return:         length of the frame, headers and payload, or 0 when the payload would not fit the MTU
 * Thread:         any
 * Source:         RFC 791, RFC 768
 */
size_t compose_udp(uint8_t *ret_headers, const uint8_t *payload, size_t payload_bytes, const struct nat_link *link,
                   struct nat_endpoint from, struct nat_endpoint to);

/** compose_protocol() - Change the protocol of an IPv4 header, and its checksum. @ret_header: 20 bytes. Thread: any */
void compose_protocol(uint8_t *ret_header, uint8_t protocol);

#endif

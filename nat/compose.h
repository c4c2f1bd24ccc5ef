/* Frames towards the VM: headers are written apart from the payload, which stays where the system has put it. */
#ifndef NAT_COMPOSE_H
#define NAT_COMPOSE_H

#include <stddef.h>
#include <stdint.h>

#include "nat/allowlist.h"
#include "nat/flow.h"
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
/*@ requires \valid(ret_headers + (0 .. 41)) && \valid_read(link);
    requires \valid_read(payload + (0 .. payload_bytes - 1));
    assigns ret_headers[0 .. 41];
    ensures size: \result == 0 || (\result == 42 + payload_bytes && \result <= 14 + \old(link->mtu)); */
size_t compose_udp(uint8_t *ret_headers, const uint8_t *payload, size_t payload_bytes, const struct nat_link *link,
                   struct nat_endpoint from, struct nat_endpoint to);

/**
 * compose_inbound() - Write the headers of a datagram that came in through a flow
 * @policy: in force now
 * @flow:   the one whose socket it came from
 * Return:  as compose_udp(); 0 as well when the policy does not allow the flow's consumer, or nothing may come back from it
 * Thread:  any
 */
/*@ requires \valid(ret_headers + (0 .. 41)) && \valid_read(link) && \valid_read(flow);
    requires \valid_read(policy) && policy_sane(policy) && \valid_read(payload + (0 .. payload_bytes - 1));
    requires \separated(ret_headers + (0 .. 41), policy) && \separated(ret_headers + (0 .. 41), flow) &&
             \separated(ret_headers + (0 .. 41), link);
    assigns ret_headers[0 .. 41];
    ensures source: \result != 0 ==>
            \old(flow->listens != 0 && allowed(policy, flow->consumer.ip, flow->consumer.port));
    ensures size: \result == 0 || (\result == 42 + payload_bytes && \result <= 14 + \old(link->mtu)); */
size_t compose_inbound(uint8_t *ret_headers, const uint8_t *payload, size_t payload_bytes,
                       const struct nat_policy *policy, const struct nat_link *link, const struct flow *flow);

/** compose_protocol() - Change the protocol of an IPv4 header, and its checksum. @ret_header: 20 bytes. Thread: any */
void compose_protocol(uint8_t *ret_header, uint8_t protocol);

#endif

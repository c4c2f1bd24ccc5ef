/* The only reader of raw frame bytes. What it yields are values and one slice that lies inside the frame; nobody behind it
 * looks at the frame again. */
#ifndef NAT_PACKET_H
#define NAT_PACKET_H

#include <stddef.h>
#include <stdint.h>

#include "nat/nat.h"

/** enum packet_kind - What a frame is, as far as its own bytes say. MALFORMED is zero. */
enum packet_kind {
    PACKET_MALFORMED, /* too short, too long, or lengths, checksums or reserved bits that contradict each other */
    PACKET_VLAN,
    PACKET_IPV6,
    PACKET_OTHER, /* Ethernet, but none of the types known here */
    PACKET_ARP,
    PACKET_FRAGMENT, /* IPv4, first or later fragment */
    PACKET_IP_OPTIONS,
    PACKET_NOT_UDP, /* IPv4, whole, another protocol */
    PACKET_UDP,     /* IPv4, whole, ports and payload are there */
};

/**
 * struct packet - A parsed frame; what its kind does not have is zero
 * @payload: UDP payload, inside the frame's bytes
 *
 * Owner: the caller; valid while the frame's bytes are.
 */
struct packet {
    enum packet_kind kind;
    uint16_t ethertype;
    struct nat_mac destination_mac;
    struct nat_mac source_mac;
    uint8_t ip_protocol;
    struct nat_endpoint source;
    struct nat_endpoint destination;
    const uint8_t *payload;
    size_t payload_bytes;
    /* ARP only */
    uint16_t arp_operation;
    struct nat_mac arp_sender_mac;
    uint32_t arp_sender_ip;
    uint32_t arp_target_ip;
};

/**
 * packet_parse() - Read one frame
 * @frame:      bytes from the VM
 * @length:     number of them, any
 * @mtu:        largest IPv4 packet in bytes
 * @ret_packet: always filled
 * Thread:      any
 * Source:      IEEE 802.3, RFC 791, RFC 768, RFC 826
 */
void packet_parse(const uint8_t *frame, size_t length, uint16_t mtu, struct packet *ret_packet);

#endif

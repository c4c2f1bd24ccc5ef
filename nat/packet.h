/* The only reader of raw frame bytes. What it yields are values and one slice that lies inside the frame; nobody behind it
 * looks at the frame again. */
#ifndef NAT_PACKET_H
#define NAT_PACKET_H

#include <stddef.h>
#include <stdint.h>

#include "nat/checksum.h"
#include "nat/nat.h"

/** enum packet_kind - What a frame is, as far as its own bytes say. MALFORMED is zero; IPv4 is FRAGMENT and after. */
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

/* A frame's bytes as `make prove` reads them: all that a forwarded one has to be (tests/proof/README.md). */
/*@ logic integer word16(uint8_t *at) = at[0] * 256 + at[1];
    logic integer word32(uint8_t *at) = at[0] * 16777216 + at[1] * 65536 + at[2] * 256 + at[3];

    predicate inside(uint8_t *frame, integer length) = \valid_read(frame + (0 .. length - 1));

    predicate ip_header_sound(uint8_t *frame, integer length, integer mtu) =
      34 <= length <= 14 + mtu && word16(frame + 12) == 0x0800 && frame[14] == 0x45 &&
      20 <= word16(frame + 16) <= length - 14 && word16(frame + 16) <= mtu &&
      ones_sum(0, frame + 14, 20) == 0xffff;

    predicate unfragmented(uint8_t *frame) = word16(frame + 20) == 0 || word16(frame + 20) == 0x4000;

    predicate udp_sum_good(uint8_t *frame) =
      \let pseudo = pseudo_sum(word32(frame + 26), word32(frame + 30), word16(frame + 38));
      word16(frame + 40) == 0 || word16(frame + 40) == pseudo ||
      ones_sum(pseudo, frame + 34, word16(frame + 38)) == 0xffff;

    predicate udp_frame(uint8_t *frame, integer length, integer mtu) =
      ip_header_sound(frame, length, mtu) && unfragmented(frame) && frame[23] == 17 &&
      word16(frame + 16) >= 28 && word16(frame + 38) == word16(frame + 16) - 20 &&
      word16(frame + 34) != 0 && word16(frame + 36) != 0 && udp_sum_good(frame);

    predicate mac_at(struct nat_mac mac, uint8_t *at) =
      mac.b[0] == at[0] && mac.b[1] == at[1] && mac.b[2] == at[2] && mac.b[3] == at[3] && mac.b[4] == at[4] &&
      mac.b[5] == at[5];

    predicate packet_is_of_frame(struct packet *packet, uint8_t *frame) =
      packet->source.ip == word32(frame + 26) && packet->source.port == word16(frame + 34) &&
      packet->destination.ip == word32(frame + 30) && packet->destination.port == word16(frame + 36); */

/**
 * packet_parse() - Read one frame
 * @frame:      bytes from the VM
 * @length:     number of them, any
 * @mtu:        largest IPv4 packet in bytes
 * @ret_packet: always filled
 * Thread:      any
 * Source:      IEEE 802.3, RFC 791, RFC 768, RFC 826
 */
/*@ requires inside(frame, length) && \valid(ret_packet);
    requires \separated(ret_packet, frame + (0 .. length - 1));
    assigns *ret_packet;
    ensures kind: PACKET_MALFORMED <= ret_packet->kind <= PACKET_UDP;
    ensures udp: ret_packet->kind == PACKET_UDP <==> \old(udp_frame(frame, length, mtu));
    ensures slice: ret_packet->kind == PACKET_UDP ==>
                   ret_packet->payload == frame + 42 && 42 + ret_packet->payload_bytes <= length &&
                   ret_packet->payload_bytes == \old(word16(frame + 38)) - 8;
    ensures none: ret_packet->kind != PACKET_UDP ==> ret_packet->payload_bytes == 0;
    ensures values: ret_packet->kind == PACKET_UDP ==> packet_is_of_frame(ret_packet, frame);
    ensures mac: ret_packet->kind != PACKET_MALFORMED ==> mac_at(ret_packet->source_mac, frame + 6); */
void packet_parse(const uint8_t *frame, size_t length, uint16_t mtu, struct packet *ret_packet);

#endif

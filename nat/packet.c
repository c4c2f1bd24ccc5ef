#include "nat/packet.h"

#include <stdbool.h>
#include <string.h>

#include "nat/checksum.h"
#include "nat/wire.h"

/* Sums of shifted bytes, as in base/bytes.h: compilers make one load of them, and provers follow them. */
/*@ requires \valid_read(at + (0 .. 1));
    assigns \nothing;
    ensures \result == word16(at); */
static uint16_t load16(const uint8_t *at)
{
    return (uint16_t)(((unsigned)at[0] << 8) + at[1]);
}

/*@ requires \valid_read(at + (0 .. 3));
    assigns \nothing;
    ensures \result == word32(at); */
static uint32_t load32(const uint8_t *at)
{
    return ((uint32_t)at[0] << 24) + ((uint32_t)at[1] << 16) + ((uint32_t)at[2] << 8) + at[3];
}

/*@ requires \valid_read(at + (0 .. 5));
    assigns \nothing;
    ensures mac_at(\result, at); */
static struct nat_mac load_mac(const uint8_t *at)
{
    return (struct nat_mac){{at[0], at[1], at[2], at[3], at[4], at[5]}};
}

/* The checksum may be right, absent (zero), or left to the network card: then the field holds the pseudo header's sum
 * alone and the guest relies on whoever sends the packet on to complete it. */
/*@ requires 8 <= udp_length <= 65535 && inside(frame, 34 + udp_length) && udp_length == word16(frame + 38);
    assigns \nothing;
    ensures \result != 0 <==> udp_sum_good(frame); */
static bool udp_checksum_good(const uint8_t *frame, size_t udp_length)
{
    const uint8_t *ip = frame + WIRE_IPV4;
    const uint8_t *udp = frame + WIRE_UDP;
    uint16_t field = load16(WIRE_AT(udp, udp, checksum));
    if (field == 0)
        return true;
    uint16_t pseudo = checksum_udp_pseudo(load32(WIRE_AT(ipv4, ip, source)), load32(WIRE_AT(ipv4, ip, destination)),
                                          (uint16_t)udp_length);
    return field == pseudo || checksum_add(pseudo, udp, udp_length) == 0xffff;
}

/*@ requires ip_payload_length <= 65535 && inside(frame, 34 + ip_payload_length);
    assigns \nothing;
    ensures \result != 0 <==>
            (ip_payload_length >= 8 && word16(frame + 38) == ip_payload_length && word16(frame + 34) != 0 &&
             word16(frame + 36) != 0 && udp_sum_good(frame)); */
static bool udp_is_whole(const uint8_t *frame, size_t ip_payload_length)
{
    if (ip_payload_length < sizeof(struct wire_udp))
        return false;
    const uint8_t *udp = frame + WIRE_UDP;
    if (load16(WIRE_AT(udp, udp, length)) != ip_payload_length)
        return false;
    if (load16(WIRE_AT(udp, udp, source)) == 0 || load16(WIRE_AT(udp, udp, destination)) == 0)
        return false;
    return udp_checksum_good(frame, ip_payload_length);
}

/*@ requires inside(frame, length) && 14 <= length <= 14 + mtu && word16(frame + 12) == 0x0800;
    assigns \nothing;
    ensures \result != 0 ==> 34 <= length && 20 <= word16(frame + 16) <= length - 14 && word16(frame + 16) <= mtu;
    ensures frame[14] == 0x45 ==> (\result != 0 <==> ip_header_sound(frame, length, mtu)); */
static bool ip_header_is_sound(const uint8_t *frame, size_t length, uint16_t mtu)
{
    if (length - WIRE_IPV4 < sizeof(struct wire_ipv4))
        return false;
    const uint8_t *ip = frame + WIRE_IPV4;
    size_t header_length = (size_t)(ip[0] % 16) * 4;
    size_t total_length = load16(WIRE_AT(ipv4, ip, total_length));
    if (ip[0] / 16 != 4 || header_length < sizeof(struct wire_ipv4) || total_length < header_length ||
        total_length > length - WIRE_IPV4 || total_length > mtu)
        return false;
    return checksum_add(0, ip, header_length) == 0xffff;
}

/*@ requires inside(frame, length) && 14 <= length <= 14 + mtu && word16(frame + 12) == 0x0800;
    assigns \nothing;
    ensures \result == PACKET_MALFORMED || \result == PACKET_FRAGMENT || \result == PACKET_IP_OPTIONS ||
            \result == PACKET_NOT_UDP || \result == PACKET_UDP;
    ensures \result != PACKET_MALFORMED ==> 34 <= length && 20 <= word16(frame + 16) <= length - 14;
    ensures \result == PACKET_UDP <==> udp_frame(frame, length, mtu); */
static enum packet_kind ipv4_kind(const uint8_t *frame, size_t length, uint16_t mtu)
{
    if (!ip_header_is_sound(frame, length, mtu))
        return PACKET_MALFORMED;
    const uint8_t *ip = frame + WIRE_IPV4;
    uint16_t fragment = load16(WIRE_AT(ipv4, ip, fragment));
    if (fragment >= WIRE_IPV4_RESERVED_BIT)
        return PACKET_MALFORMED;
    if (fragment % (WIRE_IPV4_FRAGMENT_MASK + 1) != 0)
        return PACKET_FRAGMENT;
    if (ip[0] != WIRE_IPV4_NO_OPTIONS)
        return PACKET_IP_OPTIONS;
    if (*WIRE_AT(ipv4, ip, protocol) != WIRE_PROTOCOL_UDP)
        return PACKET_NOT_UDP;
    size_t payload_length = load16(WIRE_AT(ipv4, ip, total_length)) - sizeof(struct wire_ipv4);
    return udp_is_whole(frame, payload_length) ? PACKET_UDP : PACKET_MALFORMED;
}

/*@ requires inside(frame, length) && 14 <= length;
    assigns \nothing;
    ensures \result == PACKET_MALFORMED || \result == PACKET_ARP;
    ensures \result == PACKET_ARP ==> 42 <= length; */
static enum packet_kind arp_kind(const uint8_t *frame, size_t length)
{
    if (length - WIRE_ARP < sizeof(struct wire_arp))
        return PACKET_MALFORMED;
    const uint8_t *arp = frame + WIRE_ARP;
    uint16_t operation = load16(WIRE_AT(arp, arp, operation));
    bool sound = load16(WIRE_AT(arp, arp, hardware_type)) == 1 &&
                 load16(WIRE_AT(arp, arp, protocol_type)) == WIRE_TYPE_IPV4 &&
                 *WIRE_AT(arp, arp, hardware_length) == 6 && *WIRE_AT(arp, arp, protocol_length) == 4 &&
                 (operation == WIRE_ARP_REQUEST || operation == WIRE_ARP_REPLY);
    return sound ? PACKET_ARP : PACKET_MALFORMED;
}

/* What the bytes are, before anything is copied out of them. */
/*@ requires inside(frame, length);
    assigns \nothing;
    ensures kind: PACKET_MALFORMED <= \result <= PACKET_UDP;
    ensures udp: \result == PACKET_UDP <==> udp_frame(frame, length, mtu);
    ensures \result != PACKET_MALFORMED ==> 14 <= length;
    ensures \result == PACKET_ARP ==> 42 <= length;
    ensures \result >= PACKET_FRAGMENT ==> 34 <= length && 20 <= word16(frame + 16) <= length - 14; */
static enum packet_kind frame_kind(const uint8_t *frame, size_t length, uint16_t mtu)
{
    if (length < sizeof(struct wire_ethernet) || length - sizeof(struct wire_ethernet) > mtu)
        return PACKET_MALFORMED;
    switch (load16(WIRE_AT(ethernet, frame, type))) {
    case WIRE_TYPE_IPV4:
        return ipv4_kind(frame, length, mtu);
    case WIRE_TYPE_ARP:
        return arp_kind(frame, length);
    case WIRE_TYPE_IPV6:
        return PACKET_IPV6;
    case WIRE_TYPE_VLAN:
    case WIRE_TYPE_VLAN_PROVIDER:
    case WIRE_TYPE_VLAN_OLD:
        return PACKET_VLAN;
    default: /* not an enum: any 16 bits may stand here */
        return PACKET_OTHER;
    }
}

/*@ requires inside(frame, 42) && \valid(packet) && \separated(packet, frame + (0 .. 41));
    requires mac_at(packet->source_mac, frame + 6);
    assigns packet->arp_operation, packet->arp_sender_mac.b[0 .. 5], packet->arp_sender_ip, packet->arp_target_ip;
    ensures mac_at(packet->source_mac, frame + 6); */
static void copy_arp(const uint8_t *frame, struct packet *packet)
{
    const uint8_t *arp = frame + WIRE_ARP;
    packet->arp_operation = load16(WIRE_AT(arp, arp, operation));
    packet->arp_sender_mac = load_mac(WIRE_AT(arp, arp, sender_mac));
    packet->arp_sender_ip = load32(WIRE_AT(arp, arp, sender_ip));
    packet->arp_target_ip = load32(WIRE_AT(arp, arp, target_ip));
}

/*@ requires inside(frame, length) && \valid(packet) && \separated(packet, frame + (0 .. length - 1));
    requires 34 <= length && (kind == PACKET_UDP ==> 42 <= length);
    requires mac_at(packet->source_mac, frame + 6);
    assigns packet->ip_protocol, packet->source.ip, packet->source.port, packet->destination.ip,
            packet->destination.port;
    ensures kind == PACKET_UDP ==> packet_is_of_frame(packet, frame);
    ensures mac_at(packet->source_mac, frame + 6); */
static void copy_ipv4(const uint8_t *frame, size_t length, enum packet_kind kind, struct packet *packet)
{
    const uint8_t *ip = frame + WIRE_IPV4;
    packet->ip_protocol = *WIRE_AT(ipv4, ip, protocol);
    packet->source.ip = load32(WIRE_AT(ipv4, ip, source));
    packet->destination.ip = load32(WIRE_AT(ipv4, ip, destination));
    /* TCP's ports stand where UDP's do: a report can say what was tried. Nothing is forwarded because of them. */
    bool tcp = kind == PACKET_NOT_UDP && packet->ip_protocol == WIRE_PROTOCOL_TCP && length - WIRE_UDP >= 4;
    if (tcp || kind == PACKET_UDP) {
        packet->source.port = load16(frame + WIRE_UDP);
        packet->destination.port = load16(frame + WIRE_UDP + 2);
    }
}

/* Copies out what a frame of this kind has. */
/*@ requires inside(frame, length) && \valid(packet) && \separated(packet, frame + (0 .. length - 1));
    requires PACKET_MALFORMED <= kind <= PACKET_UDP && (kind != PACKET_MALFORMED ==> 14 <= length);
    requires (kind == PACKET_ARP || kind == PACKET_UDP ==> 42 <= length) && (kind >= PACKET_FRAGMENT ==> 34 <= length);
    requires kind == PACKET_UDP ? 42 + payload_bytes <= length : payload_bytes == 0;
    assigns *packet;
    ensures kind: packet->kind == kind;
    ensures size: packet->payload_bytes == payload_bytes;
    ensures slice: kind == PACKET_UDP ==> packet->payload == frame + 42;
    ensures values: kind == PACKET_UDP ==> packet_is_of_frame(packet, frame);
    ensures mac: kind != PACKET_MALFORMED ==> mac_at(packet->source_mac, frame + 6); */
static void copy_values(const uint8_t *frame, size_t length, enum packet_kind kind, size_t payload_bytes,
                        struct packet *packet)
{
    packet->kind = kind;
    packet->payload_bytes = payload_bytes;
    if (length < sizeof(struct wire_ethernet))
        return;
    if (kind == PACKET_UDP)
        packet->payload = frame + WIRE_PAYLOAD;
    packet->ethertype = load16(WIRE_AT(ethernet, frame, type));
    packet->destination_mac = load_mac(WIRE_AT(ethernet, frame, destination));
    packet->source_mac = load_mac(WIRE_AT(ethernet, frame, source));
    if (kind == PACKET_ARP)
        copy_arp(frame, packet);
    else if (kind >= PACKET_FRAGMENT)
        copy_ipv4(frame, length, kind, packet);
}

void packet_parse(const uint8_t *frame, size_t length, uint16_t mtu, struct packet *ret_packet)
{
    enum packet_kind kind = frame_kind(frame, length, mtu);
    size_t payload_bytes = 0;
    if (kind == PACKET_UDP)
        payload_bytes = load16(WIRE_AT(udp, frame + WIRE_UDP, length)) - sizeof(struct wire_udp);
    *ret_packet = (struct packet){.kind = PACKET_MALFORMED};
    copy_values(frame, length, kind, payload_bytes, ret_packet);
}

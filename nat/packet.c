#include "nat/packet.h"

#include <stdbool.h>
#include <string.h>

#include "nat/checksum.h"
#include "nat/wire.h"

/* Readers are arithmetic on bytes: provers follow that where they do not follow shifts or casts. */
static uint16_t load16(const uint8_t *at)
{
    return (uint16_t)(at[0] * 256u + at[1]);
}

static uint32_t load32(const uint8_t *at)
{
    return at[0] * 16777216u + at[1] * 65536u + at[2] * 256u + at[3];
}

static struct nat_mac load_mac(const uint8_t *at)
{
    return (struct nat_mac){{at[0], at[1], at[2], at[3], at[4], at[5]}};
}

#define FIELD(header, at, member) ((at) + offsetof(struct wire_##header, member))

static enum packet_kind parse_arp(const uint8_t *frame, size_t length, struct packet *packet)
{
    if (length - WIRE_ARP < sizeof(struct wire_arp))
        return PACKET_MALFORMED;
    const uint8_t *arp = frame + WIRE_ARP;
    if (load16(FIELD(arp, arp, hardware_type)) != 1 || load16(FIELD(arp, arp, protocol_type)) != WIRE_TYPE_IPV4 ||
        *FIELD(arp, arp, hardware_length) != 6 || *FIELD(arp, arp, protocol_length) != 4)
        return PACKET_MALFORMED;
    packet->arp_operation = load16(FIELD(arp, arp, operation));
    if (packet->arp_operation != WIRE_ARP_REQUEST && packet->arp_operation != WIRE_ARP_REPLY)
        return PACKET_MALFORMED;
    packet->arp_sender_mac = load_mac(FIELD(arp, arp, sender_mac));
    packet->arp_sender_ip = load32(FIELD(arp, arp, sender_ip));
    packet->arp_target_ip = load32(FIELD(arp, arp, target_ip));
    return PACKET_ARP;
}

/* The checksum may be right, absent (zero), or left to the network card: then the field holds the pseudo header's sum
 * alone and the guest relies on whoever sends the packet on to complete it. */
static bool udp_checksum_good(const uint8_t *udp, size_t udp_length, const struct packet *packet)
{
    uint16_t field = load16(FIELD(udp, udp, checksum));
    if (field == 0)
        return true;
    uint16_t pseudo = checksum_udp_pseudo(packet->source.ip, packet->destination.ip, (uint16_t)udp_length);
    return field == pseudo || checksum_add(pseudo, udp, udp_length) == 0xffff;
}

static enum packet_kind parse_udp(const uint8_t *frame, size_t ip_payload_length, struct packet *packet)
{
    if (ip_payload_length < sizeof(struct wire_udp))
        return PACKET_MALFORMED;
    const uint8_t *udp = frame + WIRE_UDP;
    if (load16(FIELD(udp, udp, length)) != ip_payload_length)
        return PACKET_MALFORMED;
    uint16_t source_port = load16(FIELD(udp, udp, source));
    uint16_t destination_port = load16(FIELD(udp, udp, destination));
    if (source_port == 0 || destination_port == 0)
        return PACKET_MALFORMED;
    if (!udp_checksum_good(udp, ip_payload_length, packet))
        return PACKET_MALFORMED;
    packet->source.port = source_port;
    packet->destination.port = destination_port;
    packet->payload = frame + WIRE_PAYLOAD;
    packet->payload_bytes = ip_payload_length - sizeof(struct wire_udp);
    return PACKET_UDP;
}

/* Ports of a TCP segment, so that a report can say what was tried. Nothing is forwarded because of them. */
static void note_tcp_ports(const uint8_t *frame, size_t ip_payload_length, struct packet *packet)
{
    if (packet->ip_protocol != WIRE_PROTOCOL_TCP || ip_payload_length < 4)
        return;
    packet->source.port = load16(frame + WIRE_UDP);
    packet->destination.port = load16(frame + WIRE_UDP + 2);
}

static enum packet_kind parse_ipv4(const uint8_t *frame, size_t length, uint16_t mtu, struct packet *packet)
{
    if (length - WIRE_IPV4 < sizeof(struct wire_ipv4))
        return PACKET_MALFORMED;
    const uint8_t *ip = frame + WIRE_IPV4;
    size_t header_length = (size_t)(ip[0] % 16) * 4;
    size_t total_length = load16(FIELD(ipv4, ip, total_length));
    if (ip[0] / 16 != 4 || header_length < sizeof(struct wire_ipv4) || total_length < header_length ||
        total_length > length - WIRE_IPV4 || total_length > mtu)
        return PACKET_MALFORMED;
    if (checksum_add(0, ip, header_length) != 0xffff)
        return PACKET_MALFORMED;

    packet->ip_protocol = *FIELD(ipv4, ip, protocol);
    packet->source.ip = load32(FIELD(ipv4, ip, source));
    packet->destination.ip = load32(FIELD(ipv4, ip, destination));
    uint16_t fragment = load16(FIELD(ipv4, ip, fragment));
    if (fragment >= WIRE_IPV4_RESERVED_BIT)
        return PACKET_MALFORMED;
    if (fragment % (WIRE_IPV4_FRAGMENT_MASK + 1) != 0)
        return PACKET_FRAGMENT;
    if (ip[0] != WIRE_IPV4_NO_OPTIONS)
        return PACKET_IP_OPTIONS;
    size_t payload_length = total_length - sizeof(struct wire_ipv4);
    if (packet->ip_protocol == WIRE_PROTOCOL_UDP)
        return parse_udp(frame, payload_length, packet);
    note_tcp_ports(frame, payload_length, packet);
    return PACKET_NOT_UDP;
}

static enum packet_kind parse_frame(const uint8_t *frame, size_t length, uint16_t mtu, struct packet *packet)
{
    if (length < sizeof(struct wire_ethernet))
        return PACKET_MALFORMED;
    packet->destination_mac = load_mac(FIELD(ethernet, frame, destination));
    packet->source_mac = load_mac(FIELD(ethernet, frame, source));
    packet->ethertype = load16(FIELD(ethernet, frame, type));
    if (length - sizeof(struct wire_ethernet) > mtu)
        return PACKET_MALFORMED;
    switch (packet->ethertype) {
    case WIRE_TYPE_IPV4:
        return parse_ipv4(frame, length, mtu, packet);
    case WIRE_TYPE_ARP:
        return parse_arp(frame, length, packet);
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

void packet_parse(const uint8_t *frame, size_t length, uint16_t mtu, struct packet *ret_packet)
{
    *ret_packet = (struct packet){.kind = PACKET_MALFORMED};
    ret_packet->kind = parse_frame(frame, length, mtu, ret_packet);
}

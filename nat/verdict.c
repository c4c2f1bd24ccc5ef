#include "nat/verdict.h"

#include <stdbool.h>

#include "nat/allowlist.h"
#include "nat/wire.h"

static bool mac_equal(struct nat_mac a, struct nat_mac b)
{
    return a.b[0] == b.b[0] && a.b[1] == b.b[1] && a.b[2] == b.b[2] && a.b[3] == b.b[3] && a.b[4] == b.b[4] &&
           a.b[5] == b.b[5];
}

static bool mac_is_group(struct nat_mac mac)
{
    return mac.b[0] % 2 == 1; /* IEEE 802.3 section 3.2.3: the first bit on the wire */
}

/* Multicast (RFC 5771), the limited broadcast and the link's own: what a guest kernel says without being told to. */
static bool ip_is_group(const struct nat_link *link, uint32_t ip)
{
    uint32_t link_broadcast = link->guest_ip | UINT32_MAX >> link->prefix;
    return ip / 0x10000000 == 0xe || ip == UINT32_MAX || ip == link_broadcast;
}

static enum nat_reason judge_arp(const struct nat_link *link, const struct packet *packet)
{
    bool own = mac_equal(packet->arp_sender_mac, link->guest_mac) &&
               (packet->arp_sender_ip == link->guest_ip || packet->arp_sender_ip == 0); /* 0: RFC 5227 probe */
    return own ? NAT_REASON_ARP : NAT_REASON_ARP_SPOOFED;
}

static bool is_dhcp(const struct nat_link *link, const struct packet *packet)
{
    return packet->kind == PACKET_UDP && packet->source.port == WIRE_DHCP_CLIENT_PORT &&
           packet->destination.port == WIRE_DHCP_SERVER_PORT &&
           (packet->source.ip == 0 || packet->source.ip == link->guest_ip) &&
           (packet->destination.ip == UINT32_MAX || packet->destination.ip == link->gateway_ip);
}

/* Why a packet that may not pass may not pass. Nothing that this answers is ever forwarded. */
static enum nat_reason explain_ipv4(const struct nat_policy *policy, const struct nat_link *link,
                                    const struct packet *packet)
{
    if (is_dhcp(link, packet))
        return NAT_REASON_DHCP;
    if (ip_is_group(link, packet->destination.ip))
        return NAT_REASON_IGNORED; /* before options and source: IGMP has router alert and may come from 0.0.0.0 */
    if (packet->kind == PACKET_FRAGMENT)
        return NAT_REASON_FRAGMENT;
    if (packet->kind == PACKET_IP_OPTIONS)
        return NAT_REASON_IP_OPTIONS;
    if (packet->source.ip != link->guest_ip)
        return NAT_REASON_SOURCE_IP_SPOOFED;
    if (!allowlist_holds_ip(policy, packet->destination.ip))
        return NAT_REASON_DESTINATION_NOT_ALLOWED;
    if (packet->kind != PACKET_UDP)
        return NAT_REASON_PROTOCOL_NOT_ALLOWED;
    return NAT_REASON_PORT_NOT_ALLOWED;
}

static enum nat_reason judge_ipv4(const struct nat_policy *policy, const struct nat_link *link,
                                  const struct packet *packet)
{
    if (packet->kind == PACKET_UDP && packet->source.ip == link->guest_ip &&
        allowlist_holds(policy, packet->destination))
        return NAT_REASON_ALLOWED;
    return explain_ipv4(policy, link, packet);
}

enum nat_reason verdict_decide(const struct nat_policy *policy, const struct nat_link *link,
                               const struct packet *packet)
{
    if (policy->generation == 0)
        return NAT_REASON_GATE_SHUT;
    if (packet->kind == PACKET_MALFORMED)
        return NAT_REASON_MALFORMED;
    if (packet->kind == PACKET_VLAN)
        return NAT_REASON_VLAN;
    if (!mac_equal(packet->source_mac, link->guest_mac))
        return NAT_REASON_SOURCE_MAC_SPOOFED;

    switch (packet->kind) {
    case PACKET_ARP:
        return judge_arp(link, packet);
    case PACKET_IPV6:
        return mac_is_group(packet->destination_mac) ? NAT_REASON_IGNORED : NAT_REASON_IPV6;
    case PACKET_OTHER:
        return mac_is_group(packet->destination_mac) ? NAT_REASON_IGNORED : NAT_REASON_PROTOCOL_NOT_ALLOWED;
    case PACKET_FRAGMENT:
    case PACKET_IP_OPTIONS:
    case PACKET_NOT_UDP:
    case PACKET_UDP:
        return judge_ipv4(policy, link, packet);
    case PACKET_MALFORMED:
    case PACKET_VLAN:
        break; /* judged above */
    }
    return NAT_REASON_MALFORMED;
}

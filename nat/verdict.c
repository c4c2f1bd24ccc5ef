#include "nat/verdict.h"

#include <stdbool.h>

#include "nat/wire.h"

/*@ assigns \nothing;
    ensures \result != 0 <==> mac_same(a, b); */
static bool mac_equal(struct nat_mac a, struct nat_mac b)
{
    return a.b[0] == b.b[0] && a.b[1] == b.b[1] && a.b[2] == b.b[2] && a.b[3] == b.b[3] && a.b[4] == b.b[4] &&
           a.b[5] == b.b[5];
}

/*@ assigns \nothing; */
static bool mac_is_group(struct nat_mac mac)
{
    return mac.b[0] % 2 == 1; /* IEEE 802.3 section 3.2.3: the first bit on the wire */
}

/* Multicast (RFC 5771), the limited broadcast and the link's own: what a guest kernel says without being told to. */
/*@ requires \valid_read(link) && link->prefix <= 31;
    assigns \nothing; */
static bool ip_is_group(const struct nat_link *link, uint32_t ip)
{
    uint32_t link_broadcast = link->guest_ip | UINT32_MAX >> link->prefix;
    return ip / 0x10000000 == 0xe || ip == UINT32_MAX || ip == link_broadcast;
}

/*@ requires \valid_read(link) && \valid_read(packet);
    assigns \nothing;
    ensures NAT_REASON_ALLOWED <= \result < NAT_REASON_COUNT && !forwards(\result); */
static enum nat_reason judge_arp(const struct nat_link *link, const struct packet *packet)
{
    bool own = mac_equal(packet->arp_sender_mac, link->guest_mac) &&
               (packet->arp_sender_ip == link->guest_ip || packet->arp_sender_ip == 0); /* 0: RFC 5227 probe */
    return own ? NAT_REASON_ARP : NAT_REASON_ARP_SPOOFED;
}

/*@ requires \valid_read(link) && \valid_read(packet);
    assigns \nothing; */
static bool is_dhcp(const struct nat_link *link, const struct packet *packet)
{
    return packet->kind == PACKET_UDP && packet->source.port == WIRE_DHCP_CLIENT_PORT &&
           packet->destination.port == WIRE_DHCP_SERVER_PORT &&
           (packet->source.ip == 0 || packet->source.ip == link->guest_ip) &&
           (packet->destination.ip == UINT32_MAX || packet->destination.ip == link->gateway_ip);
}

/* Why a packet that may not pass may not pass. Nothing that this answers is ever forwarded. */
/*@ requires judge_inputs(policy, link, packet);
    assigns \nothing;
    ensures NAT_REASON_ALLOWED <= \result < NAT_REASON_COUNT && !forwards(\result); */
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

/* Whole UDP from the leased addresses: the only kind of frame that any mode ever forwards. */
/*@ requires \valid_read(link) && \valid_read(packet);
    assigns \nothing;
    ensures \result != 0 <==> own_udp(packet, link); */
static bool is_own_udp(const struct nat_link *link, const struct packet *packet)
{
    return packet->kind == PACKET_UDP && mac_equal(packet->source_mac, link->guest_mac) &&
           packet->source.ip == link->guest_ip;
}

/*@ requires \valid_read(policy) && \valid_read(packet) &&
             \valid_read(packet->payload + (0 .. packet->payload_bytes - 1));
    assigns \nothing;
    ensures \result == NAT_REASON_ALLOWED || \result == NAT_REASON_NOT_WIREGUARD;
    ensures \result == NAT_REASON_ALLOWED <==>
            (policy->require_wireguard != 0 ==> wireguard_shape(packet->payload, packet->payload_bytes)); */
static enum nat_reason require_shape(const struct nat_policy *policy, const struct packet *packet)
{
    if (policy->require_wireguard && wireguard_classify(packet->payload, packet->payload_bytes) == WIREGUARD_NONE)
        return NAT_REASON_NOT_WIREGUARD;
    return NAT_REASON_ALLOWED;
}

/* Why a frame that carries no own UDP to the allowlist is dropped or answered. Nothing that this answers is forwarded. */
/*@ requires judge_inputs(policy, link, packet);
    assigns \nothing;
    ensures NAT_REASON_ALLOWED <= \result < NAT_REASON_COUNT && !forwards(\result); */
static enum nat_reason explain(const struct nat_policy *policy, const struct nat_link *link,
                               const struct packet *packet)
{
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
        return explain_ipv4(policy, link, packet);
    case PACKET_MALFORMED:
    case PACKET_VLAN:
        break; /* explained above */
    }
    return NAT_REASON_MALFORMED;
}

/* The full check. */
/*@ requires judge_inputs(policy, link, packet);
    assigns \nothing;
    ensures NAT_REASON_ALLOWED <= \result < NAT_REASON_COUNT && \result != NAT_REASON_UNCHECKED;
    ensures \result == NAT_REASON_ALLOWED <==> passes(policy, link, packet); */
static enum nat_reason judge(const struct nat_policy *policy, const struct nat_link *link, const struct packet *packet)
{
    if (is_own_udp(link, packet) && allowlist_holds(policy, packet->destination))
        return require_shape(policy, packet);
    return explain(policy, link, packet);
}

/* What the table's two functions mean beside the policy that its entries come from. */
/*@ requires \valid_read(policy) && policy_sane(policy) && \valid(table) && \separated(table, policy);
    requires tracks(table, policy) && conntrack_past(table, now_ms);
    assigns *table;
    ensures hit: \result != 0 ==> \old(allowed(policy, destination.ip, destination.port));
    ensures policy: allowed(policy, destination.ip, destination.port) <==>
                    \old(allowed(policy, destination.ip, destination.port));
    ensures table: tracks(table, policy) && conntrack_past(table, now_ms); */
static bool was_allowed(const struct nat_policy *policy, struct conntrack *table, struct nat_endpoint destination,
                        uint64_t now_ms)
{
    return conntrack_hit(table, policy->generation, destination, now_ms);
}

/*@ requires \valid_read(policy) && policy_sane(policy) && \valid(table) && \separated(table, policy);
    requires tracks(table, policy) && conntrack_past(table, now_ms);
    requires allowed(policy, destination.ip, destination.port);
    assigns *table;
    ensures table: tracks(table, policy) && conntrack_past(table, now_ms); */
static void note_allowed(const struct nat_policy *policy, struct conntrack *table, struct nat_endpoint destination,
                         uint64_t now_ms)
{
    conntrack_add(table, policy->generation, destination, now_ms);
}

/* What allowlist_holds() says, from the table when it knows. */
/*@ requires \valid_read(policy) && policy_sane(policy) && \valid(table) && \separated(table, policy);
    requires tracks(table, policy) && conntrack_past(table, now_ms);
    assigns *table;
    ensures hit: \result != 0 <==> \old(allowed(policy, destination.ip, destination.port));
    ensures table: tracks(table, policy) && conntrack_past(table, now_ms); */
static bool is_tracked(const struct nat_policy *policy, struct conntrack *table, struct nat_endpoint destination,
                       uint64_t now_ms)
{
    if (was_allowed(policy, table, destination, now_ms))
        return true;
    if (!allowlist_holds(policy, destination))
        return false;
    note_allowed(policy, table, destination, now_ms);
    return true;
}

/* The full check with a table in the place of the allowlist. */
/*@ requires judge_inputs(policy, link, packet) && \valid(table);
    requires \separated(table, policy) && \separated(table, link) && \separated(table, packet) &&
             \separated(table, packet->payload + (0 .. packet->payload_bytes - 1));
    requires tracks(table, policy) && conntrack_past(table, now_ms);
    assigns *table;
    ensures NAT_REASON_ALLOWED <= \result < NAT_REASON_COUNT && \result != NAT_REASON_UNCHECKED;
    ensures hit: \result == NAT_REASON_ALLOWED <==> \old(passes(policy, link, packet));
    ensures table: tracks(table, policy) && conntrack_past(table, now_ms); */
static enum nat_reason judge_tracked(const struct nat_policy *policy, const struct nat_link *link,
                                     struct conntrack *table, const struct packet *packet, uint64_t now_ms)
{
    if (!is_own_udp(link, packet))
        return explain(policy, link, packet);
    enum nat_reason shape = require_shape(policy, packet);
    return is_tracked(policy, table, packet->destination, now_ms) ? shape : explain(policy, link, packet);
}

/* Where no packet may go, drawn or not: constant ranges, the provider itself, the VM's own link. */
/*@ requires \valid_read(policy) && policy_sane(policy) && \valid_read(link) && link->prefix <= 31;
    assigns \nothing;
    ensures \result == 0 ==> !never(ip) && \forall integer i; 0 <= i < policy->own_count ==> policy->own[i] != ip; */
static bool is_never(const struct nat_policy *policy, const struct nat_link *link, uint32_t ip)
{
    /*@ loop invariant 0 <= i <= policy->own_count;
        loop invariant \forall integer k; 0 <= k < i ==> policy->own[k] != ip;
        loop assigns i;
        loop variant policy->own_count - i; */
    for (size_t i = 0; i < policy->own_count; i++) {
        if (policy->own[i] == ip)
            return true;
    }
    return nat_ip_is_never(ip) != NULL || (ip ^ link->guest_ip) <= UINT32_MAX >> link->prefix;
}

/* A frame that the sampler did not draw. What is local stays local; nothing else is looked up. */
/*@ requires judge_inputs(policy, link, packet);
    assigns \nothing;
    ensures NAT_REASON_ALLOWED <= \result < NAT_REASON_COUNT && \result != NAT_REASON_ALLOWED;
    ensures \result == NAT_REASON_UNCHECKED ==> may_go_unchecked(policy, link, packet); */
static enum nat_reason pass_over(const struct nat_policy *policy, const struct nat_link *link,
                                 const struct packet *packet)
{
    if (is_own_udp(link, packet) && !is_dhcp(link, packet) && !ip_is_group(link, packet->destination.ip))
        return is_never(policy, link, packet->destination.ip) ? NAT_REASON_NEVER : NAT_REASON_UNCHECKED;
    enum nat_reason reason = explain(policy, link, packet);
    return nat_reason_is_violation(reason) ? NAT_REASON_UNSAMPLED : reason;
}

/*@ requires \valid_read(policy) && NAT_REASON_ALLOWED <= reason < NAT_REASON_COUNT;
    assigns \nothing;
    ensures \result.what == NAT_FORWARD <==> forwards(reason); */
static struct verdict weigh(const struct nat_policy *policy, enum nat_reason reason)
{
    struct verdict verdict = {nat_verdict_of(reason), reason};
    if (policy->terminate && nat_reason_is_attack(reason))
        verdict.what = NAT_TERMINATE;
    return verdict;
}

struct verdict verdict_decide(const struct nat_policy *policy, const struct nat_link *link,
                              struct verdict_memory *memory, const struct packet *packet, uint64_t now_ms)
{
    if (policy->generation == 0)
        return weigh(policy, NAT_REASON_GATE_SHUT);
    switch (policy->mode) {
    case NAT_MODE_FILTERED:
        return weigh(policy, judge(policy, link, packet));
    case NAT_MODE_CONNTRACK:
        return weigh(policy, judge_tracked(policy, link, &memory->conntrack, packet, now_ms));
    case NAT_MODE_SAMPLED:
        return weigh(policy, sampler_draw(&memory->sampler, policy->sampling_ppm) ? judge(policy, link, packet)
                                                                                  : pass_over(policy, link, packet));
    case NAT_MODE_COUNT:
        break;
    }
    return weigh(policy, NAT_REASON_GATE_SHUT);
}

"""What is proven, of which functions, and the faults that have to make a proof fail.

A property is a promise of SECURITY.md: the sources that Frama-C reads together and the functions whose contracts stand for
the promise. A fault is one edit of a shipped source; what stands there must be found exactly once.
"""

from typing import NamedTuple


class Property(NamedTuple):
    """One promise. Of its functions, @shifts are those with shifts in them that have to be taken for products."""

    name: str
    promise: str
    sources: tuple
    functions: tuple
    shifts: tuple = ()


class Fault(NamedTuple):
    """One edit that breaks a promise, and the functions whose contracts have to notice."""

    name: str
    breaks: str
    source: str
    old: str
    new: str
    functions: tuple


PROPERTIES = (
    Property("parse", "packet_parse reads nothing outside the frame, and what it yields lies inside",
             ("nat/packet.c", "nat/checksum.c"),
             ("load16", "load32", "load_mac", "udp_checksum_good", "udp_is_whole", "ip_header_is_sound", "ipv4_kind",
              "arp_kind", "frame_kind", "copy_arp", "copy_ipv4", "copy_values", "packet_parse",
              "fold", "sum_wide", "sum_bulk", "checksum_add", "checksum_add_words", "checksum_udp_pseudo"),
             shifts=("load16", "load32")),
    Property("filtered", "FORWARD if and only if whole UDP from the leased addresses to the allowlist",
             ("nat/verdict.c", "nat/allowlist.c", "nat/wireguard.c", "nat/sampler.c", "nat/names.c"),
             ("verdict_decide", "weigh", "judge", "explain", "explain_ipv4", "judge_arp", "is_own_udp", "is_dhcp",
              "mac_equal", "mac_is_group", "ip_is_group", "require_shape", "pass_over", "is_never", "allowlist_holds",
              "allowlist_holds_ip", "wireguard_classify", "sampler_draw", "nat_ip_is_never", "nat_verdict_of",
              "nat_reason_is_attack", "nat_reason_is_violation")),
    Property("conntrack", "a hit in the table implies that the full check of the same generation would forward",
             ("nat/conntrack.c", "nat/verdict.c", "nat/allowlist.c", "nat/judge.c"),
             ("adopt_generation", "set_of", "find", "place_in", "conntrack_hit", "conntrack_add", "was_allowed",
              "note_allowed", "is_tracked", "judge_tracked", "judge_packet")),
    Property("inbound", "what is composed for the VM came from an allowlisted endpoint and fits the buffer",
             ("nat/compose.c", "nat/allowlist.c"),
             ("compose_inbound", "compose_udp", "put_ipv4", "put_udp", "put_mac", "put16", "put32", "allowlist_holds",
              "allowlist_name", "allowlist_translate", "has_moved", "is_same")),
    Property("dhcp", "the walk through DHCP options terminates inside the packet", ("nat/dhcp.c",),
             ("dhcp_message_type",)),
    Property("lease", "no transition of a lease leaves a final state", ("store/lease.c",),
             ("lease_may_follow", "lease_is_final", "is_state")),
)

# What takes longest to refute stands first.
FAULTS = (
    Fault("metadata address left out of the never-list", "filtered", "nat/names.c",
          "ip >= 0xa9fe0000 && ip <= 0xa9feffff", "ip >= 0xa9fe0000 && ip <= 0xa9fea9fd", ("nat_ip_is_never",)),
    Fault("gate open before a policy", "filtered", "nat/verdict.c",
          "if (policy->generation == 0)\n        return weigh(policy, NAT_REASON_GATE_SHUT);",
          "if (policy->generation == 0)\n        return weigh(policy, NAT_REASON_ALLOWED);", ("verdict_decide",)),
    Fault("port ignored", "filtered", "nat/allowlist.c",
          "policy->allow[i].ip == endpoint.ip && policy->allow[i].port == endpoint.port",
          "policy->allow[i].ip == endpoint.ip", ("allowlist_holds",)),
    Fault("allowlist read one entry too far", "filtered", "nat/allowlist.c",
          "i < policy->allow_count; i++) {\n        if (policy->allow[i].ip == endpoint.ip",
          "i <= policy->allow_count; i++) {\n        if (policy->allow[i].ip == endpoint.ip", ("allowlist_holds",)),
    Fault("source address not checked", "filtered", "nat/verdict.c",
          "link->guest_mac) &&\n           packet->source.ip == link->guest_ip;", "link->guest_mac);", ("is_own_udp",)),
    Fault("unsampled frames of other protocols forwarded", "filtered", "nat/verdict.c",
          "nat_reason_is_violation(reason) ? NAT_REASON_UNSAMPLED : reason",
          "nat_reason_is_violation(reason) ? NAT_REASON_UNCHECKED : reason", ("pass_over",)),
    Fault("a drop whose row says forward", "filtered", "nat/names.c",
          '{"port_not_allowed", NAT_DROP, ATTACK}', '{"port_not_allowed", NAT_FORWARD, ATTACK}', ("nat_verdict_of",)),
    Fault("own address reached between two samples", "filtered", "nat/verdict.c",
          "for (size_t i = 0; i < policy->own_count; i++)", "for (size_t i = 1; i < policy->own_count; i++)", ("is_never",)),
    Fault("never-list not asked between two samples", "filtered", "nat/verdict.c",
          "is_never(policy, link, packet->destination.ip) ? NAT_REASON_NEVER : NAT_REASON_UNCHECKED",
          "NAT_REASON_UNCHECKED", ("pass_over",)),
    Fault("shape of WireGuard not asked for", "filtered", "nat/verdict.c",
          "if (policy->require_wireguard && wireguard_classify", "if (!policy->require_wireguard && wireguard_classify",
          ("require_shape",)),
    Fault("fragment ignored", "parse", "nat/packet.c",
          "if (fragment % (WIRE_IPV4_FRAGMENT_MASK + 1) != 0)", "if (fragment == UINT16_MAX)", ("ipv4_kind",)),
    Fault("more-fragments bit ignored", "parse", "nat/packet.c",
          "if (fragment % (WIRE_IPV4_FRAGMENT_MASK + 1) != 0)", "if (fragment % 0x2000 != 0)", ("ipv4_kind",)),
    Fault("IP options ignored", "parse", "nat/packet.c",
          "if (ip[0] != WIRE_IPV4_NO_OPTIONS)", "if (ip[0] == 0)", ("ipv4_kind",)),
    Fault("IP length not checked against the frame", "parse", "nat/packet.c",
          "total_length > length - WIRE_IPV4 || total_length > mtu)", "total_length > mtu)", ("ip_header_is_sound",)),
    Fault("ARP read one byte too far", "parse", "nat/packet.c",
          "if (length - WIRE_ARP < sizeof(struct wire_arp))", "if (length - WIRE_ARP < sizeof(struct wire_arp) - 1)",
          ("arp_kind",)),
    Fault("checksum reads one byte too far", "parse", "nat/checksum.c",
          "(at + 1 < length ? bytes[at + 1] : 0u)", "bytes[at + 1]", ("checksum_add",)),
    Fault("byte order of 16 bits turned round", "parse", "nat/packet.c",
          "(uint16_t)(((unsigned)at[0] << 8) + at[1])", "(uint16_t)(((unsigned)at[1] << 8) + at[0])", ("load16",)),
    Fault("conntrack keeps what an older policy allowed", "conntrack", "nat/conntrack.c",
          "if (table->generation == generation)", "if (table->generation != 0)", ("adopt_generation",)),
    Fault("conntrack key without the port", "conntrack", "nat/conntrack.c",
          "table->entries[i].destination.port == destination.port &&",
          "table->entries[i].destination.port != 0 &&", ("find",)),
    Fault("conntrack notes what was not allowed", "conntrack", "nat/verdict.c",
          "if (!allowlist_holds(policy, destination))\n        return false;\n    note_allowed(",
          "note_allowed(", ("is_tracked",)),
    Fault("answers of an unchecked destination accepted", "inbound", "nat/compose.c",
          "!flow->listens || !allowlist_holds(policy, flow->consumer)", "!flow->listens", ("compose_inbound",)),
    Fault("answers that nobody listens for accepted", "inbound", "nat/compose.c",
          "!flow->listens || !allowlist_holds(policy, flow->consumer)", "!allowlist_holds(policy, flow->consumer)",
          ("compose_inbound",)),
    Fault("a frame one byte larger than the link takes", "inbound", "nat/compose.c",
          "payload_bytes > link->mtu - headers)", "payload_bytes > link->mtu - headers + 1u)", ("compose_udp",)),
    Fault("a header written past its end", "inbound", "nat/compose.c",
          "put32(WIRE_AT(ipv4, at, destination), destination)", "put32(WIRE_AT(ipv4, at, destination) + 1, destination)",
          ("put_ipv4",)),
    Fault("DHCP option walk ends one byte late", "dhcp", "nat/dhcp.c",
          "if (length - at - 2 < value_length)", "if (length - at - 1 < value_length)", ("dhcp_message_type",)),
    Fault("DHCP option without a length read on", "dhcp", "nat/dhcp.c",
          "if (length - at < 2)", "if (length - at < 1)", ("dhcp_message_type",)),
    Fault("DHCP message type of no bytes read", "dhcp", "nat/dhcp.c",
          "value_length == 1 ? options[at + 2]", "value_length <= 1 ? options[at + 2]", ("dhcp_message_type",)),
    Fault("DHCP padding walks nowhere", "dhcp", "nat/dhcp.c", "            at++;\n", "", ("dhcp_message_type",)),
    Fault("a lease that comes back to life", "lease", "store/lease.c",
          "[LEASE_TERMINATED] = {false}", "[LEASE_TERMINATED] = {[LEASE_RECOVERING] = true}", ("lease_may_follow",)),
    Fault("a lease that begins again", "lease", "store/lease.c",
          "[LEASE_RECOVERING] =\n        {\n", "[LEASE_RECOVERING] =\n        {\n            [LEASE_PENDING] = true,\n",
          ("lease_may_follow",)),
    Fault("a lease that cannot end", "lease", "store/lease.c",
          "[LEASE_STOPPING] =\n        {\n            [LEASE_TERMINATED] = true,\n", "[LEASE_STOPPING] =\n        {\n",
          ("lease_may_follow",)),
    Fault("a state that is none looked up", "lease", "store/lease.c",
          "is_state(from) && is_state(to) && follows", "is_state(from) && follows", ("lease_may_follow",)),
)

"""The faults that are planted in nat/, each a promise broken on purpose.

A fault is a name and its edits: (file, what stands there, what shall stand there). What stands there must be found
exactly once, so a fault that no longer fits the code is an error and not a silent pass.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """One broken build."""

    name: str
    edits: tuple


def fault(name, *edits):
    """A fault of one or more edits."""
    return Fault(name, edits)


# In the place of the kernel's check of a connected socket: an open one that remembers where to send.
OPEN_UPLINK = """static struct sockaddr_in loose_peer;
static int loose_send(int fd, const struct datagram *messages, size_t count)
{
    (void)count;
    const struct sockaddr *to = (const struct sockaddr *)&loose_peer;
    return sendto(fd, messages->bytes, messages->length, 0, to, sizeof loose_peer) < 0 ? -errno : 1;
}
#define datagrams_send loose_send

static void tune(int fd, bool listens)
{"""

FAULTS = (
    fault("port ignored",
          ("nat/allowlist.c", "policy->allow[i].ip == endpoint.ip && policy->allow[i].port == endpoint.port",
           "policy->allow[i].ip == endpoint.ip")),
    fault("address ignored",
          ("nat/allowlist.c", "policy->allow[i].ip == endpoint.ip && policy->allow[i].port == endpoint.port",
           "policy->allow[i].port == endpoint.port")),
    fault("allowlist read one entry too far",
          ("nat/allowlist.c", "i < policy->allow_count; i++) {\n        if (policy->allow[i].ip == endpoint.ip",
           "i <= policy->allow_count; i++) {\n        if (policy->allow[i].ip == endpoint.ip")),
    fault("fragment ignored",
          ("nat/packet.c", "if (fragment % (WIRE_IPV4_FRAGMENT_MASK + 1) != 0)", "if (fragment == UINT16_MAX)")),
    fault("more-fragments bit ignored",
          ("nat/packet.c", "if (fragment % (WIRE_IPV4_FRAGMENT_MASK + 1) != 0)", "if (fragment % 0x2000 != 0)")),
    fault("IP options ignored",
          ("nat/packet.c", "if (ip[0] != WIRE_IPV4_NO_OPTIONS)", "if (ip[0] == 0)")),
    fault("VLAN stripped",
          ("nat/packet.c", "    case WIRE_TYPE_VLAN:\n",
           "    case WIRE_TYPE_VLAN:\n        return length < 64 ? PACKET_MALFORMED : "
           "parse_ipv4(frame + 4, length - 4, mtu, packet);\n")),
    fault("UDP length not checked",
          ("nat/packet.c", "if (load16(FIELD(udp, udp, length)) != ip_payload_length)",
           "if (load16(FIELD(udp, udp, length)) == 0)")),
    fault("IP length not checked",
          ("nat/packet.c", "total_length > length - WIRE_IPV4 || total_length > mtu)", "total_length > mtu)")),
    fault("IP header checksum not checked",
          ("nat/packet.c", "if (checksum_add(0, ip, header_length) != 0xffff)", "if (header_length == 0)")),
    fault("UDP checksum not checked",
          ("nat/packet.c", "if (!udp_checksum_good(udp, ip_payload_length, packet))",
           "if (!udp_checksum_good(udp, ip_payload_length, packet) && ip_payload_length == 0)")),
    fault("port 0 forwarded",
          ("nat/packet.c", "if (source_port == 0 || destination_port == 0)", "if (source_port == 0)")),
    fault("byte order of 16 bits turned round",
          ("nat/packet.c", "(uint16_t)(at[0] * 256u + at[1])", "(uint16_t)(at[1] * 256u + at[0])")),
    fault("source MAC not checked",
          ("nat/verdict.c", "return packet->kind == PACKET_UDP && mac_equal(packet->source_mac, link->guest_mac) &&",
           "return packet->kind == PACKET_UDP &&")),
    fault("source IP not checked",
          ("nat/verdict.c", "link->guest_mac) &&\n           packet->source.ip == link->guest_ip;",
           "link->guest_mac);")),
    fault("ARP answers for everybody",
          ("nat/arp.c", "packet->arp_operation != WIRE_ARP_REQUEST || packet->arp_target_ip != link->gateway_ip",
           "packet->arp_operation != WIRE_ARP_REQUEST")),
    fault("DHCP option walk ends one byte late",
          ("nat/dhcp.c", "if (length - at - 2 < value_length)", "if (length - at - 1 < value_length)")),
    fault("stranger accepted on the uplink",
          ("nat/uplink.c", "static void tune(int fd, bool listens)\n{", OPEN_UPLINK),
          ("nat/uplink.c", "if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)",
           "loose_peer = address;\n    if (fd < 0)")),
    fault("stranger accepted on the attachment",
          ("nat/frame_io.c", "return a_length == b_length && memcmp(a, b, a_length) == 0;",
           "return a_length == b_length || memcmp(a, b, a_length) != 0;")),
    fault("answers of an unchecked destination accepted",
          ("nat/worker.c", "worker->flows.slots[slot].listens = allowlist_holds(&worker->policy, consumer);",
           "worker->flows.slots[slot].listens = true;")),
    fault("conntrack key without the port",
          ("nat/conntrack.c", "set[way].destination.port == destination.port && ",
           "set[way].destination.port != 0 && "),
          ("nat/conntrack.c", "destination.ip ^ destination.port * UINT32_C(40503)", "destination.ip")),
    fault("conntrack key a byte too short",
          ("nat/conntrack.c", "set[way].destination.ip == destination.ip",
           "set[way].destination.ip % 0x1000000 == destination.ip % 0x1000000"),
          ("nat/conntrack.c", "destination.ip ^ destination.port * UINT32_C(40503)",
           "destination.ip % 0x1000000 ^ destination.port * UINT32_C(40503)")),
    fault("conntrack keeps what an older policy allowed",
          ("nat/conntrack.c", "if (table->generation == generation)", "if (table->generation != 0)")),
    fault("conntrack entries never expire",
          ("nat/conntrack.c", "if (now_ms - entry->used_ms >= CONNTRACK_IDLE_MS)", "if (entry->used_ms > now_ms)")),
    fault("violation without termination",
          ("nat/verdict.c", "verdict.what = NAT_TERMINATE;", "verdict.violation = true;")),
    fault("termination with the gate open",
          ("nat/worker.c", "    worker_shut(worker);\n    worker->ended = true;", "    worker->ended = true;")),
    fault("an ended VM's gate opened again",
          ("nat/worker.c", "if (worker->ended)\n        return;", "if (policy == NULL)\n        return;")),
    fault("predictable sampling",
          ("nat/worker.c", "randombytes_buf(sampler->words, sizeof sampler->words);",
           "for (size_t i = 0; i < SAMPLER_WORDS; i++)\n"
           "        sampler->words[i] = (uint32_t)(i + 1) * UINT32_C(2654435769);")),
    fault("sampling below its share",
          ("nat/sampler.c", "< share_ppm;", "< share_ppm / 2;")),
    fault("never-list ignored",
          ("nat/verdict.c", "return is_never(policy, link, packet->destination.ip) ?",
           "return is_never(policy, link, packet->destination.ip) && packet->destination.port == 0 ?")),
    fault("the provider's own addresses left out of the never-list",
          ("nat/verdict.c", "if (policy->own[i] == ip)", "if (policy->own[i] == ip && ip == 0)")),
    fault("unsampled frames of other protocols forwarded",
          ("nat/verdict.c", "nat_reason_is_violation(reason) ? NAT_REASON_UNSAMPLED : reason",
           "nat_reason_is_violation(reason) ? NAT_REASON_UNCHECKED : reason")),
    fault("gate open before a policy",
          ("nat/verdict.c", "if (policy->generation == 0)", "if (policy->generation == UINT64_MAX)")),
    fault("shape of WireGuard not required",
          ("nat/verdict.c", "if (policy->require_wireguard && ", "if (!policy->require_wireguard && ")),
    fault("no budget before the consumer answers",
          ("nat/worker.c", "if (worker->policy.budget_unanswered && !worker->answered)",
           "if (worker->policy.budget_unanswered && worker->answered)")),
    fault("limits without effect",
          ("nat/worker.c", "return passes ? NAT_REASON_ALLOWED : NAT_REASON_RATE_LIMITED;",
           "return passes ? NAT_REASON_ALLOWED : NAT_REASON_ALLOWED;")),
    fault("violations grow without bound",
          ("nat/violation.c", "if (table->keys[i] == key)", "if (table->keys[i] == key && i == 0)")),
)

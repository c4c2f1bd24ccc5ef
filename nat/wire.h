/* Wire formats as they stand in a frame: structs of bytes, be16 and be32 alone, so that they have no padding, no alignment
 * and no byte order of ours. They name the offsets for the reader (packet.c) and are filled by the writers. */
#ifndef NAT_WIRE_H
#define NAT_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "nat/nat.h"

/* IEEE 802.3 clause 3, Ethernet II */
struct wire_ethernet {
    struct nat_mac destination;
    struct nat_mac source;
    be16 type;
};

/* RFC 826, for IPv4 over Ethernet */
struct wire_arp {
    be16 hardware_type;
    be16 protocol_type;
    uint8_t hardware_length;
    uint8_t protocol_length;
    be16 operation;
    struct nat_mac sender_mac;
    be32 sender_ip;
    struct nat_mac target_mac;
    be32 target_ip;
};

/* RFC 791, without options */
struct wire_ipv4 {
    uint8_t version_and_length;
    uint8_t service;
    be16 total_length;
    be16 identification;
    be16 fragment;
    uint8_t ttl;
    uint8_t protocol;
    be16 checksum;
    be32 source;
    be32 destination;
};

/* RFC 768 */
struct wire_udp {
    be16 source;
    be16 destination;
    be16 length;
    be16 checksum;
};

/* RFC 2131 section 2, up to and with the magic cookie */
struct wire_dhcp {
    uint8_t operation;
    uint8_t hardware_type;
    uint8_t hardware_length;
    uint8_t hops;
    be32 transaction;
    be16 seconds;
    be16 flags;
    be32 client_ip;
    be32 your_ip;
    be32 server_ip;
    be32 relay_ip;
    struct nat_mac client_mac;
    uint8_t client_mac_padding[10];
    uint8_t server_name[64];
    uint8_t boot_file[128];
    be32 cookie;
};

_Static_assert(sizeof(struct wire_ethernet) == 14 && _Alignof(struct wire_ethernet) == 1, "Ethernet II header");
_Static_assert(sizeof(struct wire_arp) == 28 && _Alignof(struct wire_arp) == 1, "ARP for IPv4");
_Static_assert(sizeof(struct wire_ipv4) == 20 && _Alignof(struct wire_ipv4) == 1, "IPv4 header");
_Static_assert(sizeof(struct wire_udp) == 8 && _Alignof(struct wire_udp) == 1, "UDP header");
_Static_assert(sizeof(struct wire_dhcp) == 240 && _Alignof(struct wire_dhcp) == 1, "DHCP header and cookie");

/* Where a member of a header stands that begins at @at. */
#define WIRE_AT(header, at, member) ((at) + offsetof(struct wire_##header, member))

/* Where each header starts in a frame that carries UDP over IPv4 without options. */
enum wire_offset {
    WIRE_IPV4 = sizeof(struct wire_ethernet),
    WIRE_ARP = sizeof(struct wire_ethernet),
    WIRE_UDP = WIRE_IPV4 + sizeof(struct wire_ipv4),
    WIRE_PAYLOAD = WIRE_UDP + sizeof(struct wire_udp),
};

enum wire_number {
    WIRE_TYPE_IPV4 = 0x0800,
    WIRE_TYPE_ARP = 0x0806,
    WIRE_TYPE_VLAN = 0x8100,          /* IEEE 802.1Q */
    WIRE_TYPE_VLAN_PROVIDER = 0x88a8, /* IEEE 802.1ad */
    WIRE_TYPE_VLAN_OLD = 0x9100,      /* QinQ before 802.1ad */
    WIRE_TYPE_IPV6 = 0x86dd,
    WIRE_PROTOCOL_ICMP = 1,
    WIRE_PROTOCOL_TCP = 6,
    WIRE_PROTOCOL_UDP = 17,
    WIRE_IPV4_NO_OPTIONS = 0x45,      /* version 4, five words */
    WIRE_IPV4_FRAGMENT_MASK = 0x3fff, /* more fragments, and the offset; the reserved bit is checked apart */
    WIRE_IPV4_RESERVED_BIT = 0x8000,
    WIRE_ARP_REQUEST = 1,
    WIRE_ARP_REPLY = 2,
    WIRE_DHCP_SERVER_PORT = 67,
    WIRE_DHCP_CLIENT_PORT = 68,
};

/* The gateway's address on every VM's link: locally administered, the same everywhere. */
static const struct nat_mac wire_gateway_mac = {{0x02, 0x6f, 0x6d, 0x72, 0x74, 0x01}};

#endif

/* Words and texts of the public types. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "nat/nat.h"

/* What a reason means. An attack is a violation that no broken driver sends. */
enum reason_kind { HARMLESS, VIOLATION, ATTACK };

struct reason_row {
    const char *name;
    enum nat_verdict verdict;
    enum reason_kind kind;
};

static const struct reason_row reason_rows[NAT_REASON_COUNT] = {
    [NAT_REASON_ALLOWED] = {"allowed", NAT_FORWARD, HARMLESS},
    [NAT_REASON_ARP] = {"arp", NAT_ANSWER, HARMLESS},
    [NAT_REASON_DHCP] = {"dhcp", NAT_ANSWER, HARMLESS},
    [NAT_REASON_IGNORED] = {"ignored", NAT_DROP, HARMLESS},
    [NAT_REASON_GATE_SHUT] = {"gate_shut", NAT_DROP, HARMLESS},
    [NAT_REASON_UPLINK] = {"uplink", NAT_DROP, HARMLESS},
    [NAT_REASON_UNCHECKED] = {"unchecked", NAT_FORWARD, HARMLESS},
    [NAT_REASON_UNSAMPLED] = {"unsampled", NAT_DROP, HARMLESS},
    [NAT_REASON_NEVER] = {"never", NAT_DROP, HARMLESS},
    [NAT_REASON_RATE_LIMITED] = {"rate_limited", NAT_DROP, HARMLESS},
    [NAT_REASON_UNANSWERED] = {"unanswered", NAT_DROP, HARMLESS},
    [NAT_REASON_MALFORMED] = {"malformed", NAT_DROP, VIOLATION},
    [NAT_REASON_VLAN] = {"vlan", NAT_DROP, VIOLATION},
    [NAT_REASON_IPV6] = {"ipv6", NAT_DROP, ATTACK},
    [NAT_REASON_FRAGMENT] = {"fragment", NAT_DROP, VIOLATION},
    [NAT_REASON_IP_OPTIONS] = {"ip_options", NAT_DROP, ATTACK},
    [NAT_REASON_SOURCE_MAC_SPOOFED] = {"source_mac_spoofed", NAT_DROP, ATTACK},
    [NAT_REASON_SOURCE_IP_SPOOFED] = {"source_ip_spoofed", NAT_DROP, ATTACK},
    [NAT_REASON_ARP_SPOOFED] = {"arp_spoofed", NAT_DROP, ATTACK},
    [NAT_REASON_PROTOCOL_NOT_ALLOWED] = {"protocol_not_allowed", NAT_DROP, ATTACK},
    [NAT_REASON_DESTINATION_NOT_ALLOWED] = {"destination_not_allowed", NAT_DROP, ATTACK},
    [NAT_REASON_PORT_NOT_ALLOWED] = {"port_not_allowed", NAT_DROP, ATTACK},
    [NAT_REASON_NOT_WIREGUARD] = {"not_wireguard", NAT_DROP, ATTACK},
};

const char *nat_reason_name(enum nat_reason reason)
{
    return reason_rows[reason].name;
}

bool nat_reason_is_violation(enum nat_reason reason)
{
    return reason_rows[reason].kind != HARMLESS;
}

bool nat_reason_is_attack(enum nat_reason reason)
{
    return reason_rows[reason].kind == ATTACK;
}

enum nat_verdict nat_verdict_of(enum nat_reason reason)
{
    return reason_rows[reason].verdict;
}

const char *nat_verdict_name(enum nat_verdict verdict)
{
    static const char *const names[NAT_VERDICT_COUNT] = {"drop", "answer", "forward", "terminate"};
    return names[verdict];
}

const char *nat_inbound_name(enum nat_inbound inbound)
{
    static const char *const names[NAT_INBOUND_COUNT] = {"delivered", "rate_limited", "too_big", "vm_gone"};
    return names[inbound];
}

const char *nat_kernel_filter_name(enum nat_kernel_filter filter)
{
    static const char *const names[NAT_KERNEL_FILTER_COUNT] = {"unsupported", "inactive", "active"};
    return names[filter];
}

const char *nat_tunnel_name(enum nat_tunnel tunnel)
{
    static const char *const names[] = {"waiting", "handshaking", "established", "lost"};
    return names[tunnel];
}

static const char *const mode_names[NAT_MODE_COUNT] = {"filtered", "conntrack", "sampled"};

const char *nat_mode_name(enum nat_mode mode)
{
    return mode_names[mode];
}

bool nat_mode_parse(const char *name, enum nat_mode *ret_mode)
{
    for (size_t i = 0; i < NAT_MODE_COUNT; i++) {
        if (strcmp(name, mode_names[i]) == 0) {
            *ret_mode = (enum nat_mode)i;
            return true;
        }
    }
    return false;
}

/* Reads a decimal number of at most @digits digits, without sign, blank or leading zero. Return: what follows, or NULL. */
static const char *take_number(const char *text, size_t digits, uint32_t largest, uint32_t *ret_number)
{
    size_t used = 0;
    uint32_t number = 0;
    while (used < digits && text[used] >= '0' && text[used] <= '9') {
        number = number * 10 + (uint32_t)(text[used] - '0');
        used++;
    }
    if (used == 0 || number > largest || (text[0] == '0' && used > 1))
        return NULL;
    *ret_number = number;
    return text + used;
}

/* Return: what follows the address, or NULL. */
static const char *take_ip(const char *text, uint32_t *ret_ip)
{
    uint32_t ip = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t part = 0;
        if (i > 0 && *text++ != '.')
            return NULL;
        text = take_number(text, 3, 255, &part);
        if (text == NULL)
            return NULL;
        ip = ip * 256 + part;
    }
    *ret_ip = ip;
    return text;
}

bool nat_ip_parse(const char *text, uint32_t *ret_ip)
{
    uint32_t ip = 0;
    const char *end = take_ip(text, &ip);
    if (end == NULL || *end != '\0')
        return false;
    *ret_ip = ip;
    return true;
}

bool nat_endpoint_parse(const char *text, struct nat_endpoint *ret_endpoint)
{
    uint32_t ip = 0;
    uint32_t port = 0;
    const char *end = take_ip(text, &ip);
    if (end == NULL || *end != ':')
        return false;
    end = take_number(end + 1, 5, UINT16_MAX, &port);
    if (end == NULL || *end != '\0' || port == 0)
        return false;
    *ret_endpoint = (struct nat_endpoint){ip, (uint16_t)port};
    return true;
}

bool nat_mac_parse(const char *text, struct nat_mac *ret_mac)
{
    if (strnlen(text, NAT_MAC_TEXT_BYTES) != NAT_MAC_TEXT_BYTES - 1)
        return false;
    struct nat_mac mac;
    bool zero = true;
    for (size_t i = 0; i < 6; i++) {
        int byte = hex_byte(text + 3 * i);
        if (byte < 0 || (i < 5 && text[3 * i + 2] != ':'))
            return false;
        mac.b[i] = (uint8_t)byte;
        zero = zero && mac.b[i] == 0;
    }
    if (zero || mac.b[0] % 2 == 1)
        return false;
    *ret_mac = mac;
    return true;
}

const char *nat_ip_format(uint32_t ip, char ret_text[static NAT_IP_TEXT_BYTES])
{
    snprintf(ret_text, NAT_IP_TEXT_BYTES, "%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
    return ret_text;
}

const char *nat_endpoint_format(struct nat_endpoint endpoint, char ret_text[static NAT_ENDPOINT_TEXT_BYTES])
{
    char ip[NAT_IP_TEXT_BYTES];
    snprintf(ret_text, NAT_ENDPOINT_TEXT_BYTES, "%s:%u", nat_ip_format(endpoint.ip, ip), endpoint.port);
    return ret_text;
}

const char *nat_mac_format(struct nat_mac mac, char ret_text[static NAT_MAC_TEXT_BYTES])
{
    snprintf(ret_text, NAT_MAC_TEXT_BYTES, "%02x:%02x:%02x:%02x:%02x:%02x", mac.b[0], mac.b[1], mac.b[2], mac.b[3],
             mac.b[4], mac.b[5]);
    return ret_text;
}

const char *nat_ip_is_never(uint32_t ip)
{
    if (ip <= 0x00ffffff)
        return "\"this network\" (0.0.0.0/8)";
    if (ip >= 0x7f000000 && ip <= 0x7fffffff)
        return "loopback (127.0.0.0/8)";
    if (ip >= 0xa9fe0000 && ip <= 0xa9feffff)
        return "link-local and metadata (169.254.0.0/16)";
    if (ip >= 0xe0000000 && ip <= 0xefffffff)
        return "multicast (224.0.0.0/4)";
    if (ip >= 0xf0000000)
        return "reserved and broadcast (240.0.0.0/4)";
    return NULL;
}

#include "nat/compose.h"

#include "nat/allowlist.h"
#include "nat/checksum.h"
#include "nat/packet.h"
#include "nat/wire.h"

enum compose_numbers {
    COMPOSE_TTL = 64, /* RFC 1700's recommended default */
    COMPOSE_DONT_FRAGMENT = 0x4000,
};

/* Written byte by byte, as packet.c reads them. */
/*@ requires \valid(at + (0 .. 1));
    assigns at[0 .. 1];
    ensures word16(at) == value; */
static void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value / 256u);
    at[1] = (uint8_t)(value % 256u);
}

/*@ requires \valid(at + (0 .. 3));
    assigns at[0 .. 3];
    ensures word32(at) == value; */
static void put32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value / 16777216u);
    at[1] = (uint8_t)(value / 65536u % 256u);
    at[2] = (uint8_t)(value / 256u % 256u);
    at[3] = (uint8_t)(value % 256u);
}

/*@ requires \valid(at + (0 .. 5));
    assigns at[0 .. 5]; */
static void put_mac(uint8_t *at, struct nat_mac mac)
{
    at[0] = mac.b[0];
    at[1] = mac.b[1];
    at[2] = mac.b[2];
    at[3] = mac.b[3];
    at[4] = mac.b[4];
    at[5] = mac.b[5];
}

/*@ requires \valid(at + (0 .. 19));
    assigns at[0 .. 19]; */
static void put_ipv4(uint8_t *at, size_t total_length, uint32_t source, uint32_t destination)
{
    *WIRE_AT(ipv4, at, version_and_length) = WIRE_IPV4_NO_OPTIONS;
    *WIRE_AT(ipv4, at, service) = 0;
    put16(WIRE_AT(ipv4, at, total_length), (uint16_t)total_length);
    put16(WIRE_AT(ipv4, at, identification), 0);
    put16(WIRE_AT(ipv4, at, fragment), COMPOSE_DONT_FRAGMENT); /* identification may be zero then: RFC 6864 section 4 */
    *WIRE_AT(ipv4, at, ttl) = COMPOSE_TTL;
    *WIRE_AT(ipv4, at, protocol) = WIRE_PROTOCOL_UDP;
    put16(WIRE_AT(ipv4, at, checksum), 0);
    put32(WIRE_AT(ipv4, at, source), source);
    put32(WIRE_AT(ipv4, at, destination), destination);
    put16(WIRE_AT(ipv4, at, checksum), (uint16_t)(UINT16_MAX - checksum_add(0, at, sizeof(struct wire_ipv4))));
}

void compose_protocol(uint8_t *ret_header, uint8_t protocol)
{
    *WIRE_AT(ipv4, ret_header, protocol) = protocol;
    put16(WIRE_AT(ipv4, ret_header, checksum), 0);
    put16(WIRE_AT(ipv4, ret_header, checksum),
          (uint16_t)(UINT16_MAX - checksum_add(0, ret_header, sizeof(struct wire_ipv4))));
}

/*@ requires \valid(at + (0 .. 7)) && payload_bytes <= 65507 && \valid_read(payload + (0 .. payload_bytes - 1));
    assigns at[0 .. 7]; */
static void put_udp(uint8_t *at, const uint8_t *payload, size_t payload_bytes, struct nat_endpoint from,
                    struct nat_endpoint to)
{
    const uint16_t udp_length = (uint16_t)(sizeof(struct wire_udp) + payload_bytes);
    put16(WIRE_AT(udp, at, source), from.port);
    put16(WIRE_AT(udp, at, destination), to.port);
    put16(WIRE_AT(udp, at, length), udp_length);
    put16(WIRE_AT(udp, at, checksum), 0);
    uint16_t sum = checksum_udp_pseudo(from.ip, to.ip, udp_length);
    sum = checksum_add(sum, at, sizeof(struct wire_udp));
    sum = checksum_add(sum, payload, payload_bytes);
    put16(WIRE_AT(udp, at, checksum),
          sum == UINT16_MAX ? sum : (uint16_t)(UINT16_MAX - sum)); /* RFC 768: 0 is "none" */
}

size_t compose_udp(uint8_t *ret_headers, const uint8_t *payload, size_t payload_bytes, const struct nat_link *link,
                   struct nat_endpoint from, struct nat_endpoint to)
{
    const size_t headers = sizeof(struct wire_ipv4) + sizeof(struct wire_udp);
    if (link->mtu < headers || payload_bytes > link->mtu - headers)
        return 0;
    put_mac(WIRE_AT(ethernet, ret_headers, destination), link->guest_mac);
    put_mac(WIRE_AT(ethernet, ret_headers, source), wire_gateway_mac);
    put16(WIRE_AT(ethernet, ret_headers, type), WIRE_TYPE_IPV4);
    put_udp(ret_headers + WIRE_UDP, payload, payload_bytes, from, to);
    put_ipv4(ret_headers + WIRE_IPV4, headers + payload_bytes, from.ip, to.ip);
    return WIRE_PAYLOAD + payload_bytes;
}

size_t compose_inbound(uint8_t *ret_headers, const uint8_t *payload, size_t payload_bytes,
                       const struct nat_policy *policy, const struct nat_link *link, const struct flow *flow)
{
    if (!flow->listens || !allowlist_holds(policy, flow->consumer))
        return 0;
    struct nat_endpoint guest = {link->guest_ip, flow->guest_port};
    return compose_udp(ret_headers, payload, payload_bytes, link, allowlist_name(policy, flow->consumer), guest);
}

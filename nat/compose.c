#include "nat/compose.h"

#include <string.h>

#include "nat/checksum.h"
#include "nat/wire.h"

enum compose_numbers {
    COMPOSE_TTL = 64, /* RFC 1700's recommended default */
    COMPOSE_DONT_FRAGMENT = 0x4000,
};

static void put_ipv4(uint8_t *at, size_t total_length, uint32_t source, uint32_t destination)
{
    struct wire_ipv4 header = {
        .version_and_length = WIRE_IPV4_NO_OPTIONS,
        .total_length = be16_make((uint16_t)total_length),
        .fragment = be16_make(COMPOSE_DONT_FRAGMENT), /* so that identification may be zero: RFC 6864 section 4 */
        .ttl = COMPOSE_TTL,
        .protocol = WIRE_PROTOCOL_UDP,
        .source = be32_make(source),
        .destination = be32_make(destination),
    };
    memcpy(at, &header, sizeof header);
    header.checksum = be16_make((uint16_t)~checksum_add(0, at, sizeof header));
    memcpy(at, &header, sizeof header);
}

void compose_protocol(uint8_t *ret_header, uint8_t protocol)
{
    struct wire_ipv4 header;
    memcpy(&header, ret_header, sizeof header);
    header.protocol = protocol;
    header.checksum = be16_make(0);
    memcpy(ret_header, &header, sizeof header);
    header.checksum = be16_make((uint16_t)~checksum_add(0, ret_header, sizeof header));
    memcpy(ret_header, &header, sizeof header);
}

static void put_udp(uint8_t *at, const uint8_t *payload, size_t payload_bytes, struct nat_endpoint from,
                    struct nat_endpoint to)
{
    const size_t udp_length = sizeof(struct wire_udp) + payload_bytes;
    struct wire_udp header = {
        .source = be16_make(from.port),
        .destination = be16_make(to.port),
        .length = be16_make((uint16_t)udp_length),
    };
    memcpy(at, &header, sizeof header);
    uint16_t sum = checksum_udp_pseudo(from.ip, to.ip, (uint16_t)udp_length);
    sum = checksum_add(sum, at, sizeof header);
    uint16_t checksum = (uint16_t)~checksum_add(sum, payload, payload_bytes);
    header.checksum = be16_make(checksum == 0 ? 0xffff : checksum); /* RFC 768: zero would mean "none" */
    memcpy(at, &header, sizeof header);
}

size_t compose_udp(uint8_t *ret_headers, const uint8_t *payload, size_t payload_bytes, const struct nat_link *link,
                   struct nat_endpoint from, struct nat_endpoint to)
{
    const size_t headers = sizeof(struct wire_ipv4) + sizeof(struct wire_udp);
    if (link->mtu < headers || payload_bytes > link->mtu - headers)
        return 0;
    struct wire_ethernet ethernet = {
        .destination = link->guest_mac,
        .source = wire_gateway_mac,
        .type = be16_make(WIRE_TYPE_IPV4),
    };
    memcpy(ret_headers, &ethernet, sizeof ethernet);
    put_udp(ret_headers + WIRE_UDP, payload, payload_bytes, from, to);
    put_ipv4(ret_headers + WIRE_IPV4, headers + payload_bytes, from.ip, to.ip);
    return WIRE_PAYLOAD + payload_bytes;
}

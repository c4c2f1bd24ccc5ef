#include "nat/checksum.h"

#include <string.h>

#include "nat/wire.h"

static uint16_t fold(uint64_t sum)
{
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* One's complement sums do not care in which byte order words are added (RFC 1071 section 2 (B)): the bulk is added in
 * the machine's order, eight bytes at a time, and the result is read back as two bytes. */
static uint16_t sum_bulk(const uint8_t *bytes, size_t length)
{
    uint64_t low = 0;
    uint64_t high = 0;
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word;
        memcpy(&word, bytes + at, sizeof word);
        low += word & 0xffffffff;
        high += word >> 32;
    }
    uint16_t folded = fold((uint64_t)fold(low) + fold(high));
    be16 wire;
    memcpy(&wire, &folded, sizeof wire);
    return be16_load(wire);
}

uint16_t checksum_add(uint16_t sum, const uint8_t *bytes, size_t length)
{
    size_t bulk = length - length % 8;
    uint64_t total = (uint64_t)sum + sum_bulk(bytes, bulk);
    for (size_t at = bulk; at < length; at += 2)
        total += bytes[at] * 256u + (at + 1 < length ? bytes[at + 1] : 0u);
    return fold(total);
}

uint16_t checksum_add_words(uint16_t sum, uint32_t value)
{
    return fold((uint64_t)sum + value / 65536u + value % 65536u);
}

uint16_t checksum_udp_pseudo(uint32_t source_ip, uint32_t destination_ip, uint16_t udp_length)
{
    uint16_t sum = checksum_add_words(0, source_ip);
    sum = checksum_add_words(sum, destination_ip);
    sum = checksum_add_words(sum, WIRE_PROTOCOL_UDP);
    return checksum_add_words(sum, udp_length);
}

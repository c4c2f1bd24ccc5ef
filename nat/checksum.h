/* The Internet checksum (RFC 1071). */
#ifndef NAT_CHECKSUM_H
#define NAT_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* What `make prove` knows about sums: they depend on nothing but the bytes and the sum before. That they are RFC 1071's is
 * tested and not proven. */
/*@ axiomatic Checksum {
      logic integer ones_sum{L}(integer sum, uint8_t *bytes, integer length) reads bytes[0 .. length - 1];
      logic integer pseudo_sum(integer source_ip, integer destination_ip, integer udp_length);
    } */

/**
 * checksum_add() - Continue a one's complement sum over more bytes
 * @sum:   0 to begin, else what an earlier call returned over an even number of bytes
 * Return: sum of the 16-bit big-endian words, folded to 16 bits; an odd last byte counts as a high byte
 * Thread: any
 * Source: RFC 1071 section 1
 */
/*@ requires length <= 65535 && \valid_read(bytes + (0 .. length - 1));
    assigns \nothing;
    ensures assumed_sum: \result == ones_sum(sum, bytes, length); */
uint16_t checksum_add(uint16_t sum, const uint8_t *bytes, size_t length);

/**
 * checksum_add_words() - Add two 16-bit halves of a value
 * Return: the new sum, folded to 16 bits
 * Thread: any
 */
/*@ assigns \nothing; */
uint16_t checksum_add_words(uint16_t sum, uint32_t value);

/**
 * checksum_udp_pseudo() - Sum of the pseudo header of UDP over IPv4
 * Return: sum to which the UDP header and the payload are added
 * Thread: any
 * Source: RFC 768
 */
/*@ assigns \nothing;
    ensures assumed_sum: \result == pseudo_sum(source_ip, destination_ip, udp_length); */
uint16_t checksum_udp_pseudo(uint32_t source_ip, uint32_t destination_ip, uint16_t udp_length);

#endif

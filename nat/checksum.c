#include "nat/checksum.h"

#include <string.h>

#include "nat/wire.h"

/*@ assigns \nothing; */
static uint16_t fold(uint64_t sum)
{
    /*@ loop assigns sum;
        loop variant sum; */
    while (sum > 0xffff)
        sum = sum % 65536 + sum / 65536;
    return (uint16_t)sum;
}

/* The wide loop is compiled twice where the compiler can: with 256-bit registers for the machines that have them, and as
 * the system's baseline. The loader chooses, once. Not under sanitizers, which are not up yet when it does. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__) && !defined(__FRAMAC__) &&   \
    !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define CHECKSUM_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define CHECKSUM_WIDE
#endif

enum checksum_sizes {
    WIDE_BYTES = 64, /* one turn of the wide loop: a cache line */
    WIDE_LANES = 8,
};

/* Both halves of the 64-bit word at @at, in the machine's order. This and the next function take bytes for a number by
 * memcpy(), where the prover cannot follow: it knows their contracts alone. */
/*@ requires \valid_read(at + (0 .. 7));
    assigns \nothing;
    ensures \result <= 2 * 0xffffffff; */
static uint64_t halves_at(const uint8_t *at);

/* Two bytes in the machine's order as the number that they are on the wire. */
/*@ assigns \nothing; */
static uint16_t wire_number(uint16_t machine);

#ifndef __FRAMAC__
static uint64_t halves_at(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return (word & 0xffffffff) + (word >> 32);
}

static uint16_t wire_number(uint16_t machine)
{
    be16 wire;
    memcpy(&wire, &machine, sizeof wire);
    return be16_load(wire);
}
#endif

/* @length is a multiple of WIDE_BYTES. The sums do not depend on each other and their number is fixed, so that the compiler
 * puts them into vector registers: a full packet takes a third of the time of one word after the other. */
/*@ requires length <= 65535 && length % WIDE_BYTES == 0 && \valid_read(bytes + (0 .. length - 1));
    assigns \nothing;
    ensures \result <= 70368744161280; */
CHECKSUM_WIDE static uint64_t sum_wide(const uint8_t *bytes, size_t length)
{
    uint64_t lanes[WIDE_LANES] = {0};
    /*@ loop invariant at <= length && at % WIDE_BYTES == 0;
        loop invariant \forall integer k; 0 <= k < WIDE_LANES ==> lanes[k] <= at * 134217728;
        loop assigns at, lanes[0 .. WIDE_LANES - 1];
        loop variant length - at; */
    for (size_t at = 0; at < length; at += WIDE_BYTES) {
        /*@ loop invariant lane <= WIDE_LANES;
            loop invariant \forall integer k; 0 <= k < lane ==> lanes[k] <= (at + WIDE_BYTES) * 134217728;
            loop invariant \forall integer k; lane <= k < WIDE_LANES ==> lanes[k] <= at * 134217728;
            loop assigns lane, lanes[0 .. WIDE_LANES - 1];
            loop variant WIDE_LANES - lane; */
        for (size_t lane = 0; lane < WIDE_LANES; lane++)
            lanes[lane] += halves_at(bytes + at + 8 * lane);
    }
    uint64_t sum = 0;
    /*@ loop invariant lane <= WIDE_LANES && sum <= lane * 8796093020160;
        loop assigns lane, sum;
        loop variant WIDE_LANES - lane; */
    for (size_t lane = 0; lane < WIDE_LANES; lane++)
        sum += lanes[lane];
    return sum;
}

/* One's complement sums do not care in which byte order words are added (RFC 1071 section 2 (B)): the bulk, a multiple of
 * eight bytes, is added in the machine's order, and the result is read back as two bytes. */
/*@ requires length <= 65535 && length % 8 == 0 && \valid_read(bytes + (0 .. length - 1));
    assigns \nothing; */
static uint16_t sum_bulk(const uint8_t *bytes, size_t length)
{
    size_t wide = length - length % WIDE_BYTES;
    uint64_t sum = wide > 0 ? sum_wide(bytes, wide) : 0;
    /*@ loop invariant wide <= at <= length && at % 8 == 0 && sum <= 70368744161280 + (at - wide) * 8589934590;
        loop assigns at, sum;
        loop variant length - at; */
    for (size_t at = wide; at < length; at += 8)
        sum += halves_at(bytes + at);
    return wire_number(fold(sum));
}

uint16_t checksum_add(uint16_t sum, const uint8_t *bytes, size_t length)
{
    size_t bulk = length - length % 8;
    uint64_t total = (uint64_t)sum + sum_bulk(bytes, bulk);
    /*@ loop invariant bulk <= at <= length + 1 && total <= 131070 + (at - bulk) * 65535;
        loop assigns at, total;
        loop variant length + 1 - at; */
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
    const uint64_t source = (uint64_t)(source_ip / 65536u) + source_ip % 65536u;
    const uint64_t destination = (uint64_t)(destination_ip / 65536u) + destination_ip % 65536u;
    return fold(source + destination + WIRE_PROTOCOL_UDP + udp_length);
}

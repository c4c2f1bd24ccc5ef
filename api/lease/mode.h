/* Network modes by their names, and what follows from a mode alone. Pure. */
#ifndef API_LEASE_MODE_H
#define API_LEASE_MODE_H

#include <stdbool.h>
#include <stdint.h>

#include "nat/nat.h"

/** enum mode - What a lease's network promises. The first ones are the NAT's; `direct` has no NAT. */
enum mode {
    MODE_FILTERED,
    MODE_CONNTRACK,
    MODE_SAMPLED,
    MODE_DIRECT,
    MODE_COUNT,
};

/** mode_name() - "filtered", "conntrack", "sampled", "direct". Thread: any */
const char *mode_name(enum mode mode);

/** mode_parse() - From its name. Return: true when there is such a mode. Thread: any */
bool mode_parse(const char *name, enum mode *ret_mode);

/** mode_to_nat() - The NAT's mode; @mode is not MODE_DIRECT. Thread: any */
enum nat_mode mode_to_nat(enum mode mode);

/** mode_terminates() - Whether a violation ends the VM when the lease does not say. Thread: any */
bool mode_terminates(enum mode mode);

/** sampling_ppm() - A rate as millionths, rounded. @rate: 0.001 to 1. Thread: any */
uint32_t sampling_ppm(double rate);

/**
 * sampling_packets() - How many violating packets until one was seen with a probability of @percent
 *
 * The least n with 1 - (1 - rate)^n >= percent / 100.
 *
 * @ppm:     1,000 to 1,000,000
 * @percent: 1 to 99
 * Thread:   any
 */
uint64_t sampling_packets(uint32_t ppm, unsigned percent);

#endif

#include "api/lease/mode.h"

#include <string.h>

#include "base/error.h"

_Static_assert((int)MODE_FILTERED == (int)NAT_MODE_FILTERED && (int)MODE_CONNTRACK == (int)NAT_MODE_CONNTRACK &&
                   (int)MODE_SAMPLED == (int)NAT_MODE_SAMPLED && (int)MODE_DIRECT == (int)NAT_MODE_COUNT,
               "the NAT's modes come first, in its order");

static const char *const names[MODE_COUNT] = {
    [MODE_FILTERED] = "filtered",
    [MODE_CONNTRACK] = "conntrack",
    [MODE_SAMPLED] = "sampled",
    [MODE_DIRECT] = "direct",
};

const char *mode_name(enum mode mode)
{
    return names[mode];
}

bool mode_parse(const char *name, enum mode *ret_mode)
{
    for (int i = 0; i < MODE_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret_mode = (enum mode)i;
            return true;
        }
    }
    return false;
}

enum nat_mode mode_to_nat(enum mode mode)
{
    REQUIRE(mode != MODE_DIRECT);
    return (enum nat_mode)mode;
}

bool mode_terminates(enum mode mode)
{
    return mode == MODE_CONNTRACK || mode == MODE_SAMPLED;
}

uint32_t sampling_ppm(double rate)
{
    return (uint32_t)(rate * 1000000 + 0.5);
}

uint64_t sampling_packets(uint32_t ppm, unsigned percent)
{
    /* Multiplied out rather than with logarithms: 4,603 steps at most. The slack takes up what binary fractions lose where
     * the two sides are equal, as with a rate of 0.9 and 99 percent. */
    const double miss = (double)(NAT_SAMPLING_PPM_MAX - ppm) / NAT_SAMPLING_PPM_MAX;
    const double allowed = (double)(100 - percent) / 100 * (1 + 1e-9);
    uint64_t packets = 1;
    double missed = miss;
    while (missed > allowed) {
        missed *= miss;
        packets++;
    }
    return packets;
}

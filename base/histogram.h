/* How long something took, counted in fixed steps: cheap enough for every request and every commit. */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum histogram_limits {
    HISTOGRAM_STEPS = 14, /* upper bounds; what is longer than the last has a place of its own */
};

/**
 * struct histogram - Durations seen so far; begins as {0}
 *
 * Any thread adds and reads without a lock. A reader may see a duration in one counter and not yet in the other.
 */
struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_STEPS + 1];
    _Atomic uint64_t sum_us;
};

/** struct histogram_view - A histogram at one moment: @counts are not cumulative. */
struct histogram_view {
    uint64_t counts[HISTOGRAM_STEPS + 1];
    uint64_t total; /* of @counts */
    uint64_t sum_us;
};

/** histogram_bound_us() - Upper bound of a step, which belongs to it. @step: below HISTOGRAM_STEPS. Thread: any */
uint64_t histogram_bound_us(unsigned step);

/** histogram_add() - Count one duration. Thread: any */
void histogram_add(struct histogram *histogram, uint64_t duration_us);

/** histogram_read() - What was counted so far; never less than an earlier reading. Thread: any */
void histogram_read(const struct histogram *histogram, struct histogram_view *ret_view);

#endif

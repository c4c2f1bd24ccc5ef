#include "base/histogram.h"

#include "base/error.h"

/* From a cached read to a disk that struggles; the widest step is 2.5 times its neighbour. */
static const uint64_t bounds_us[HISTOGRAM_STEPS] = {
    100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000,
};

uint64_t histogram_bound_us(unsigned step)
{
    REQUIRE(step < HISTOGRAM_STEPS);
    return bounds_us[step];
}

void histogram_add(struct histogram *histogram, uint64_t duration_us)
{
    unsigned step = 0;
    while (step < HISTOGRAM_STEPS && duration_us > bounds_us[step])
        step++;
    atomic_fetch_add_explicit(&histogram->counts[step], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_us, duration_us, memory_order_relaxed);
}

void histogram_read(const struct histogram *histogram, struct histogram_view *ret_view)
{
    ret_view->total = 0;
    for (unsigned i = 0; i <= HISTOGRAM_STEPS; i++) {
        ret_view->counts[i] = atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        ret_view->total += ret_view->counts[i];
    }
    ret_view->sum_us = atomic_load_explicit(&histogram->sum_us, memory_order_relaxed);
}

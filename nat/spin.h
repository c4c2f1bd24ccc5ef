/* How long to look for work before sleeping. Waking a thread costs more than forwarding a packet, so while packets come close
 * to each other it pays to look again for a moment; while they do not, it only burns the processor. Pure. */
#ifndef NAT_SPIN_H
#define NAT_SPIN_H

#include <stdint.h>

enum spin_limits {
    SPIN_MIN_US = 2, /* a shorter one is over before it has seen anything */
};

/** struct spin - Owner: the NAT thread. @limit_us: 0: never look. @budget_us: how long the next look may take. */
struct spin {
    uint32_t limit_us;
    uint32_t budget_us;
};

/** spin_hit() - Work came. Thread: the owner */
static inline void spin_hit(struct spin *spin)
{
    spin->budget_us = spin->limit_us;
}

/** spin_miss() - A look was for nothing: half as long the next time, until it is not worth it. Thread: the owner */
static inline void spin_miss(struct spin *spin)
{
    spin->budget_us = spin->budget_us / 2 < SPIN_MIN_US ? 0 : spin->budget_us / 2;
}

#endif

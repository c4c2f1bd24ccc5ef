/* Tells the NATs of sampled machines when the provider's own addresses change: what they let pass unchecked must not go
 * there. The kernel says when to look; should its word be lost, a look is taken now and then all the same. */
#ifndef VMM_OWN_KEEPER_H
#define VMM_OWN_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/nat.h"

struct vmm;

enum own_keeper_limits {
    OWN_KEEPER_LOOK_MS = 10000,
};

/**
 * struct own_keeper - What was seen last
 * @fd:     readable when addresses may have changed; -1 where the system does not tell
 * @due_ms: monotonic; the next look without being told
 *
 * Owner: the supervisor's thread.
 */
struct own_keeper {
    int fd;
    uint64_t due_ms;
    size_t count;
    uint32_t own[NAT_OWN_MAX];
};

/** own_keeper_open() - Begin to listen; a system that does not tell is no failure. Thread: the vmm's owner */
void own_keeper_open(struct own_keeper *keeper);

/** own_keeper_close() - Thread: the vmm's owner */
void own_keeper_close(struct own_keeper *keeper);

/** own_keeper_next_ms() - When own_keeper_look() is due at the latest; UINT64_MAX: never, as no sampled machine is
 *  there. Thread: the supervisor's */
uint64_t own_keeper_next_ms(const struct vmm *vmm);

/**
 * own_keeper_look() - Give every sampled machine the addresses of this moment, when it is due or @told
 * @told: @fd was readable
 *
 * A machine whose set cannot be kept is ended with VMM_END_FILTER_FAILED.
 *
 * Thread: the supervisor's
 */
void own_keeper_look(struct vmm *vmm, bool told, uint64_t now_ms);

#endif

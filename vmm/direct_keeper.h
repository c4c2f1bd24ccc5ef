/* Keeps the host's own addresses closed to direct machines while they change: one thread that listens to the kernel and
 * replaces the set in every machine's namespace. A machine whose set cannot be replaced is killed. */
#ifndef VMM_DIRECT_KEEPER_H
#define VMM_DIRECT_KEEPER_H

#include "base/error.h"
#include "base/id.h"
#include "vmm/direct.h"

enum direct_keeper_limits {
    DIRECT_KEEPER_MACHINES_MAX = 256, /* as many as there can be */
    DIRECT_KEEPER_RUN_MS = 2000,      /* for one nft, which takes 20 */
    DIRECT_KEEPER_LOOK_MS = 10000,    /* looks by itself, should the kernel's word have been lost */
};

struct direct_keeper;

/**
 * direct_keeper_open() - Start the thread
 * @ret_keeper: owned by the caller until direct_keeper_close()
 * Return:      0; -ENOENT when nsenter or nft is missing; or what the system said
 * Thread:      any
 */
int direct_keeper_open(struct direct_keeper **ret_keeper, struct error *err);

/** direct_keeper_close() - End the thread. @keeper: NULL is allowed. Thread: the owner; no other uses it any more */
void direct_keeper_close(struct direct_keeper *keeper);

/**
 * direct_keeper_add() - Keep one machine's set; it is replaced at once, for what has changed since it was started
 * @direct: after direct_receive() returned 1
 * Return:  0 or negative: the machine has to end
 * Thread:  any
 */
int direct_keeper_add(struct direct_keeper *keeper, const struct id *id, const struct direct *direct,
                      struct error *err);

/**
 * direct_keeper_remove() - Forget a machine
 * Return: 0, also for one that is not there; negative when the keeper has killed it, err being the reason
 * Thread: any
 */
int direct_keeper_remove(struct direct_keeper *keeper, const struct id *id, struct error *err);

#endif

/* Leases that are on their way from a row to a machine, so that nobody takes one of them for a lease that lost its
 * machine. Many are under way at once: each waits for its own commit. */
#ifndef API_LEASE_STARTING_H
#define API_LEASE_STARTING_H

#include <pthread.h>

#include "base/id.h"

/** struct start - One lease on its way. Owner: who starts it, on its stack between starting_add() and starting_remove(). */
struct start {
    const struct id *id;
    struct start *next;
};

/** struct starting - All of them. Owner: struct lease_service. */
struct starting {
    pthread_mutex_t lock;
    pthread_cond_t removed;
    struct start *first;
};

/** starting_init() - Begin with none. Thread: the owner */
void starting_init(struct starting *starting);

/** starting_done() - End it, empty. Thread: the owner */
void starting_done(struct starting *starting);

/** starting_add() - Before the row is written. @start: of its id alone. Thread: any */
void starting_add(struct starting *starting, struct start *start);

/** starting_remove() - The machine has been asked for, or never will be. Thread: any */
void starting_remove(struct starting *starting, struct start *start);

/** starting_await() - Return once the lease is not on its way. Thread: any that starts none itself */
void starting_await(struct starting *starting, const struct id *id);

#endif

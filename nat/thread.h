/* What a NAT's owner and its thread share. */
#ifndef NAT_THREAD_H
#define NAT_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/counters.h"
#include "nat/nat.h"
#include "nat/spin.h"
#include "nat/worker.h"

/** struct spent - The begin of an order: those that the thread is done with, on their way back to be freed. */
struct spent {
    struct spent *next;
};

/** struct posted - A policy on its way to the thread. */
struct posted {
    struct spent spent;
    struct nat_policy policy;
};

/** struct own_set - The provider's own addresses on their way to the thread. */
struct own_set {
    struct spent spent;
    size_t count;
    uint32_t own[NAT_OWN_MAX];
};

/** struct nat - Owner: whoever called nat_start(). */
struct nat {
    pthread_t thread;
    int wake_thread;       /* a pair of sockets: this end is the thread's, */
    int wake_owner;        /* that one the owner's, who is told by it whether the thread has begun */
    bool wake_thread_left; /* its number means nothing to the owner any more; the owner's, as the next */
    uint64_t posted_generation;
    _Atomic(struct posted *) next_policy;
    _Atomic(struct own_set *) next_own;
    _Atomic(struct spent *) spent;
    atomic_bool shut;
    atomic_bool stop;
    struct counters counters;
    struct spin spin;
    bool detached;
    struct worker worker; /* the thread's once it runs */
};

/** thread_serve() - Serve until the owner says stop or the attachment is lost. Thread: the NAT's own, confined */
void thread_serve(struct nat *nat);

#endif

/* Whether this machine can do direct mode: found out by a thread of its own, so that nobody who asks makes it work. */
#ifndef API_HOST_DIRECT_CHECK_H
#define API_HOST_DIRECT_CHECK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum direct_check_limits {
    DIRECT_CHECK_AGAIN_MS = 10000, /* a refusal is looked at again: what was missing may have been mended */
    DIRECT_CHECK_WAIT_MS = 2000,   /* for a finding that is not there yet; the probe takes 0.1 s */
};

/**
 * struct direct_check - The finding
 * @probe: vmm_direct_check(), or a test's
 * @lock:  guards what follows it
 *
 * Owner: main(); outlives the HTTP server.
 */
struct direct_check {
    int (*probe)(struct error *err);
    uint64_t again_ms;
    bool begun;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closing;
    bool known;
    int result;
    struct error reason;
};

/** direct_check_init() - Begin without a finding. @again_ms: after a refusal. Thread: the owner */
void direct_check_init(struct direct_check *check, int (*probe)(struct error *err), uint64_t again_ms);

/** direct_check_begin() - Start the thread: it probes until direct mode works. Return: 0 or negative. Thread: the owner */
int direct_check_begin(struct direct_check *check, struct error *err);

/** direct_check_done() - End the thread, begun or not. Thread: the owner, once nobody asks any more */
void direct_check_done(struct direct_check *check);

/**
 * direct_check_result() - The finding
 * @wait_ms: for the first one; 0 looks only
 * Return:   0; negative with slug "direct-unavailable" and what mends it in @err; -EAGAIN with that slug: not known yet
 * Thread:   any; never probes
 */
int direct_check_result(struct direct_check *check, uint64_t wait_ms, struct error *err);

#endif

/* Whether this machine can do direct mode, found out when somebody asks, and remembered. */
#ifndef API_DIRECT_CHECK_H
#define API_DIRECT_CHECK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum direct_check_limits {
    DIRECT_CHECK_AGAIN_MS = 10000, /* a refusal holds so long: what was missing may have been mended */
};

/**
 * struct direct_check - The finding
 * @probe: vmm_direct_check(), or a test's
 *
 * Owner: main(); outlives the HTTP server.
 */
struct direct_check {
    int (*probe)(struct error *err);
    pthread_mutex_t lock;
    bool known;
    uint64_t found_ms; /* monotonic */
    int result;
    struct error reason;
};

/** direct_check_init() - Begin without a finding. Thread: the owner */
void direct_check_init(struct direct_check *check, int (*probe)(struct error *err));

/** direct_check_done() - Thread: the owner, once nobody asks any more */
void direct_check_done(struct direct_check *check);

/**
 * direct_check_result() - The finding; the first call takes the 0.1 s that the probe takes
 * @now_ms: monotonic. That direct mode works is remembered for good, that it does not for DIRECT_CHECK_AGAIN_MS
 * Return:  0; negative with slug "direct-unavailable" and what mends it in @err
 * Thread:  any; others wait for a probe that runs
 */
int direct_check_result(struct direct_check *check, uint64_t now_ms, struct error *err);

#endif

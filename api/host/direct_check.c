#include "api/host/direct_check.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

void direct_check_init(struct direct_check *check, int (*probe)(struct error *err), uint64_t again_ms)
{
    pthread_condattr_t monotonic;
    *check = (struct direct_check){.probe = probe, .again_ms = again_ms};
    REQUIRE(pthread_condattr_init(&monotonic) == 0);
    REQUIRE(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    REQUIRE(pthread_cond_init(&check->changed, &monotonic) == 0);
    pthread_condattr_destroy(&monotonic);
    REQUIRE(pthread_mutex_init(&check->lock, NULL) == 0);
}

/* The lock is held. */
static void wait_until(struct direct_check *check, uint64_t due_ms)
{
    const struct timespec until = {.tv_sec = (time_t)(due_ms / 1000), .tv_nsec = (long)(due_ms % 1000) * 1000000};
    (void)pthread_cond_timedwait(&check->changed, &check->lock, &until);
}

static void *run(void *context)
{
    struct direct_check *check = context;
    int result = -EAGAIN;
    pthread_mutex_lock(&check->lock);
    while (!check->closing && result < 0) {
        struct error reason = {0};
        pthread_mutex_unlock(&check->lock);
        result = check->probe(&reason);
        pthread_mutex_lock(&check->lock);
        check->result = result;
        check->reason = reason;
        check->known = true;
        pthread_cond_broadcast(&check->changed);
        uint64_t again_ms = clock_monotonic_ms() + check->again_ms;
        while (result < 0 && !check->closing && clock_monotonic_ms() < again_ms)
            wait_until(check, again_ms);
    }
    pthread_mutex_unlock(&check->lock);
    return NULL;
}

int direct_check_begin(struct direct_check *check, struct error *err)
{
    int failed = pthread_create(&check->thread, NULL, run, check);
    if (failed != 0)
        return error_set(err, -failed, "No thread could be started to look at direct mode: %s.", strerror(failed));
    check->begun = true;
    return 0;
}

void direct_check_done(struct direct_check *check)
{
    pthread_mutex_lock(&check->lock);
    check->closing = true;
    pthread_cond_broadcast(&check->changed);
    pthread_mutex_unlock(&check->lock);
    if (check->begun)
        pthread_join(check->thread, NULL);
    pthread_cond_destroy(&check->changed);
    pthread_mutex_destroy(&check->lock);
}

int direct_check_result(struct direct_check *check, uint64_t wait_ms, struct error *err)
{
    uint64_t until_ms = clock_monotonic_ms() + wait_ms;
    pthread_mutex_lock(&check->lock);
    while (!check->known && clock_monotonic_ms() < until_ms)
        wait_until(check, until_ms);
    int result = check->known ? check->result : -EAGAIN;
    if (result < 0) {
        error_set(err, result, "%s",
                  check->known ? check->reason.message : "It is still being found out whether direct mode works here.");
        error_tag(err, "direct-unavailable", "/network/mode");
    }
    pthread_mutex_unlock(&check->lock);
    return result;
}

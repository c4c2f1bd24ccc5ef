#include "api/lease/lease_watch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

struct lease_watch {
    lease_watch_tell tell;
    void *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t sooner;   /* something comes before what the thread waits for */
    pthread_cond_t released; /* a renewal is over */
    bool ending;
    uint64_t awake_ms; /* monotonic; when the thread looks again by itself */
    struct lease_timers timers;
};

struct lease_now lease_watch_now(void)
{
    return (struct lease_now){.boot_ms = clock_boot_ms(), .mono_ms = clock_monotonic_ms()};
}

/* The lock is held, and given up meanwhile. */
static void sleep_until_due(struct lease_watch *watch)
{
    struct lease_now now = lease_watch_now();
    uint64_t wait_ms = lease_timers_wait_ms(&watch->timers, now);
    if (wait_ms == UINT64_MAX) {
        watch->awake_ms = UINT64_MAX;
        pthread_cond_wait(&watch->sooner, &watch->lock);
        return;
    }
    watch->awake_ms = now.mono_ms + (wait_ms < LEASE_WATCH_LOOK_MS ? wait_ms : LEASE_WATCH_LOOK_MS);
    struct timespec until = {.tv_sec = (time_t)(watch->awake_ms / 1000),
                             .tv_nsec = (long)(watch->awake_ms % 1000) * 1000000};
    pthread_cond_timedwait(&watch->sooner, &watch->lock, &until);
}

static void *run(void *context)
{
    struct lease_watch *watch = context;
    pthread_mutex_lock(&watch->lock);
    while (!watch->ending) {
        struct id id;
        enum lease_due due;
        if (!lease_timers_take(&watch->timers, lease_watch_now(), &id, &due)) {
            sleep_until_due(watch);
            continue;
        }
        pthread_mutex_unlock(&watch->lock);
        watch->tell(watch->context, &id, due);
        pthread_mutex_lock(&watch->lock);
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

static void free_watch(struct lease_watch *watch)
{
    pthread_cond_destroy(&watch->sooner);
    pthread_cond_destroy(&watch->released);
    pthread_mutex_destroy(&watch->lock);
    lease_timers_done(&watch->timers);
    free(watch);
}

static int start_thread(struct lease_watch *watch)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for main() */
    int failed = pthread_create(&watch->thread, NULL, run, watch);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

int lease_watch_open(lease_watch_tell tell, void *context, struct lease_watch **ret_watch, struct error *err)
{
    struct lease_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return error_set(err, -ENOMEM, "There is no memory for the leases' time limits.");
    watch->tell = tell;
    watch->context = context;
    pthread_condattr_t monotonic;
    REQUIRE(pthread_condattr_init(&monotonic) == 0);
    REQUIRE(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    REQUIRE(pthread_cond_init(&watch->sooner, &monotonic) == 0);
    pthread_condattr_destroy(&monotonic);
    REQUIRE(pthread_cond_init(&watch->released, NULL) == 0);
    REQUIRE(pthread_mutex_init(&watch->lock, NULL) == 0);
    int failed = start_thread(watch);
    if (failed != 0) {
        free_watch(watch);
        return error_set(err, -failed, "No thread can be started for the leases' time limits: %s.", strerror(failed));
    }
    *ret_watch = watch;
    return 0;
}

void lease_watch_close(struct lease_watch *watch)
{
    if (watch == NULL)
        return;
    pthread_mutex_lock(&watch->lock);
    watch->ending = true;
    pthread_cond_signal(&watch->sooner);
    pthread_mutex_unlock(&watch->lock);
    pthread_join(watch->thread, NULL);
    free_watch(watch);
}

/* Wake the thread if it would sleep too long. The lock is held. */
static void look_sooner(struct lease_watch *watch, struct lease_now now)
{
    uint64_t wait_ms = lease_timers_wait_ms(&watch->timers, now);
    if (wait_ms != UINT64_MAX && now.mono_ms + wait_ms < watch->awake_ms)
        pthread_cond_signal(&watch->sooner);
}

int lease_watch_add(struct lease_watch *watch, const struct id *id, const struct lease_span *span)
{
    struct lease_now now = lease_watch_now();
    pthread_mutex_lock(&watch->lock);
    int result = lease_timers_add(&watch->timers, id, span, now);
    look_sooner(watch, now);
    pthread_mutex_unlock(&watch->lock);
    return result;
}

void lease_watch_remove(struct lease_watch *watch, const struct id *id)
{
    pthread_mutex_lock(&watch->lock);
    lease_timers_remove(&watch->timers, id);
    pthread_cond_broadcast(&watch->released);
    pthread_mutex_unlock(&watch->lock);
}

int lease_watch_beat(struct lease_watch *watch, const struct id *id)
{
    /* What it moves comes later than before, so the thread need not know. */
    struct lease_now now = lease_watch_now();
    pthread_mutex_lock(&watch->lock);
    int result = lease_timers_beat(&watch->timers, id, now);
    pthread_mutex_unlock(&watch->lock);
    return result;
}

int lease_watch_hold(struct lease_watch *watch, const struct id *id)
{
    pthread_mutex_lock(&watch->lock);
    int result;
    while ((result = lease_timers_hold(&watch->timers, id)) == -EBUSY)
        pthread_cond_wait(&watch->released, &watch->lock);
    pthread_mutex_unlock(&watch->lock);
    return result;
}

void lease_watch_release(struct lease_watch *watch, const struct id *id, const struct lease_span *span)
{
    struct lease_now now = lease_watch_now();
    pthread_mutex_lock(&watch->lock);
    lease_timers_release(&watch->timers, id, span);
    pthread_cond_broadcast(&watch->released);
    look_sooner(watch, now);
    pthread_mutex_unlock(&watch->lock);
}

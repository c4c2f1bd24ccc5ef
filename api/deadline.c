#include "api/deadline.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"

struct slot {
    int fd; /* not owned; -1 when free */
    uint64_t at_ms;
};

struct deadlines {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool ending;
    struct slot slots[DEADLINE_SLOTS];
};

/* Shut what is late. The lock is held, so no slot's descriptor can be closed meanwhile. */
static void shut_late(struct deadlines *deadlines)
{
    uint64_t now_ms = clock_monotonic_ms();
    for (size_t i = 0; i < DEADLINE_SLOTS; i++) {
        struct slot *slot = &deadlines->slots[i];
        if (slot->fd >= 0 && slot->at_ms <= now_ms)
            shutdown(slot->fd, SHUT_RDWR);
    }
}

static void *watch(void *context)
{
    struct deadlines *deadlines = context;
    pthread_mutex_lock(&deadlines->lock);
    while (!deadlines->ending) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        pthread_cond_timedwait(&deadlines->wake, &deadlines->lock, &until);
        shut_late(deadlines);
    }
    pthread_mutex_unlock(&deadlines->lock);
    return NULL;
}

int deadlines_open(struct deadlines **ret_deadlines, struct error *err)
{
    struct deadlines *deadlines = calloc(1, sizeof *deadlines);
    if (deadlines == NULL)
        return error_set(err, -ENOMEM, "There is no memory for the HTTP server.");
    for (size_t i = 0; i < DEADLINE_SLOTS; i++)
        deadlines->slots[i].fd = -1;

    pthread_condattr_t monotonic;
    REQUIRE(pthread_condattr_init(&monotonic) == 0);
    REQUIRE(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    REQUIRE(pthread_cond_init(&deadlines->wake, &monotonic) == 0);
    pthread_condattr_destroy(&monotonic);
    REQUIRE(pthread_mutex_init(&deadlines->lock, NULL) == 0);

    int failed = pthread_create(&deadlines->thread, NULL, watch, deadlines);
    if (failed != 0) {
        pthread_cond_destroy(&deadlines->wake);
        pthread_mutex_destroy(&deadlines->lock);
        free(deadlines);
        return error_set(err, -failed, "No thread could be started for the HTTP server's time limits.");
    }
    *ret_deadlines = deadlines;
    return 0;
}

void deadlines_close(struct deadlines *deadlines)
{
    if (deadlines == NULL)
        return;
    pthread_mutex_lock(&deadlines->lock);
    deadlines->ending = true;
    pthread_cond_signal(&deadlines->wake);
    pthread_mutex_unlock(&deadlines->lock);
    pthread_join(deadlines->thread, NULL);
    pthread_cond_destroy(&deadlines->wake);
    pthread_mutex_destroy(&deadlines->lock);
    free(deadlines);
}

int deadlines_add(struct deadlines *deadlines, int fd, uint64_t at_ms)
{
    int taken = -1;
    pthread_mutex_lock(&deadlines->lock);
    for (int i = 0; i < DEADLINE_SLOTS && taken < 0; i++) {
        if (deadlines->slots[i].fd < 0) {
            deadlines->slots[i] = (struct slot){.fd = fd, .at_ms = at_ms};
            taken = i;
        }
    }
    pthread_mutex_unlock(&deadlines->lock);
    return taken;
}

void deadlines_extend(struct deadlines *deadlines, int slot, uint64_t at_ms)
{
    if (slot < 0)
        return;
    pthread_mutex_lock(&deadlines->lock);
    deadlines->slots[slot].at_ms = at_ms;
    pthread_mutex_unlock(&deadlines->lock);
}

void deadlines_remove(struct deadlines *deadlines, int slot)
{
    if (slot < 0)
        return;
    pthread_mutex_lock(&deadlines->lock);
    deadlines->slots[slot].fd = -1;
    pthread_mutex_unlock(&deadlines->lock);
}

/* The time limits of the leases that have not ended: when each one is warned of its end, when it ends, and when whoever
 * asked for it has been silent too long. A table without a clock of its own: every time is passed in.
 *
 * A deadline is a time of the boot clock, so that a lease's time runs on while the machine sleeps and no step of the
 * wall clock moves it. Silence is counted by the monotonic clock: nobody could have been heard while the machine slept. */
#ifndef API_LEASE_LEASE_TIMERS_H
#define API_LEASE_LEASE_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "store/store.h"

enum lease_timers_limits {
    LEASE_TIMERS_AGAIN_MS = 1000, /* a lease that shall end and is still there is told of again */
    LEASE_EXPIRING_SHARE = 10,    /* the warning comes this share of the ttl before the end, or less before it */
    LEASE_EXPIRING_LEAD_S = 60,   /* the default of how much less */
    LEASE_EXPIRING_LEAD_MAX_S = 86400,
};

/** struct lease_now - The moment at which something is asked. */
struct lease_now {
    uint64_t boot_ms;
    uint64_t mono_ms;
};

/** struct lease_span - The limits of one lease; 0 is one that it has not. */
struct lease_span {
    uint64_t deadline_ms; /* boot clock */
    uint64_t warn_ms;     /* boot clock */
    uint64_t silence_ms;  /* longest time between two heartbeats */
};

/** enum lease_due - What has come. */
enum lease_due { LEASE_DUE_WARNING, LEASE_DUE_DEADLINE, LEASE_DUE_SILENCE };

struct lease_timer {
    struct id id;
    struct lease_span span;
    uint64_t beat_ms; /* monotonic; the last heartbeat, or the beginning */
    bool held;        /* a renewal is being written: it must not end meanwhile */
    bool over;        /* it was told that it shall end, and by what */
    enum lease_due by;
    uint64_t again_ms; /* monotonic; when it is told so again */
};

/** struct lease_timers - Begins as {0}; ended by lease_timers_done(). Owner: the caller. */
struct lease_timers {
    size_t count;
    size_t room;
    struct lease_timer *items;
};

/**
 * lease_span_of() - The limits of a lease from its row
 * @lead_s:  the warning comes so long before the end, or a tenth of the ttl if that is less
 * @boot_id: of this boot. A deadline of another one is placed by the wall clock, which is all that there is then
 * Thread:   any
 */
struct lease_span lease_span_of(const struct store_lease *lease, uint32_t lead_s, const char *boot_id, uint64_t boot_ms,
                                uint64_t wall_ms);

/** lease_timers_done() - Free it. Thread: the owner */
void lease_timers_done(struct lease_timers *timers);

/** lease_timers_add() - Begin to watch a lease; its silence begins now. Return: 0, -ENOMEM, -EEXIST */
int lease_timers_add(struct lease_timers *timers, const struct id *id, const struct lease_span *span,
                     struct lease_now now);

/** lease_timers_remove() - It has ended. Return: whether it was there */
bool lease_timers_remove(struct lease_timers *timers, const struct id *id);

/**
 * lease_timers_beat() - A heartbeat came
 * Return: 0; -ENOENT not watched; -ENODATA it asked for no watch over heartbeats; -EALREADY it is ending
 */
int lease_timers_beat(struct lease_timers *timers, const struct id *id, struct lease_now now);

/** lease_timers_hold() - Let it not end until lease_timers_release(). Return: 0, -ENOENT, -EALREADY, -EBUSY held */
int lease_timers_hold(struct lease_timers *timers, const struct id *id);

/** lease_timers_release() - Renewed: the deadline of @span holds, and its warning; NULL: the old one does */
void lease_timers_release(struct lease_timers *timers, const struct id *id, const struct lease_span *span);

/**
 * lease_timers_take() - The next thing that has come
 * Return: false when there is none. A warning is told once for each deadline, an end until the lease is removed
 */
bool lease_timers_take(struct lease_timers *timers, struct lease_now now, struct id *ret_id, enum lease_due *ret_due);

/** lease_timers_wait_ms() - Until lease_timers_take() is worth asking again. Return: UINT64_MAX: never by itself */
uint64_t lease_timers_wait_ms(const struct lease_timers *timers, struct lease_now now);

#endif

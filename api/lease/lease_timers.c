#include "api/lease/lease_timers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_ROOM = 64, /* the default of how many leases a provider takes */
};

struct lease_span lease_span_of(const struct store_lease *lease, uint32_t lead_s, const char *boot_id, uint64_t boot_ms,
                                uint64_t wall_ms)
{
    struct lease_span span = {.silence_ms = lease->heartbeat_timeout_s * 1000};
    if (lease->ttl_s == 0)
        return span;
    bool same_boot = boot_id[0] != '\0' && strcmp(boot_id, lease->deadline_boot_id) == 0;
    uint64_t left_ms = lease->expires_ms > wall_ms ? lease->expires_ms - wall_ms : 0;
    /* A wall clock that was set back gives no lease more time than it ever had. */
    left_ms = left_ms < lease->ttl_s * 1000 ? left_ms : lease->ttl_s * 1000;
    span.deadline_ms = same_boot ? lease->deadline_ms : boot_ms + left_ms;
    uint64_t lead_ms = lease->ttl_s * 1000 / LEASE_EXPIRING_SHARE;
    if (lead_ms > lead_s * UINT64_C(1000))
        lead_ms = lead_s * UINT64_C(1000);
    span.warn_ms = span.deadline_ms > lead_ms ? span.deadline_ms - lead_ms : 1;
    return span;
}

void lease_timers_done(struct lease_timers *timers)
{
    free(timers->items);
    *timers = (struct lease_timers){0};
}

static struct lease_timer *find(const struct lease_timers *timers, const struct id *id)
{
    for (size_t i = 0; i < timers->count; i++) {
        if (memcmp(timers->items[i].id.text, id->text, sizeof id->text) == 0)
            return &timers->items[i];
    }
    return NULL;
}

int lease_timers_add(struct lease_timers *timers, const struct id *id, const struct lease_span *span,
                     struct lease_now now)
{
    if (find(timers, id) != NULL)
        return -EEXIST;
    if (timers->count == timers->room) {
        size_t room = timers->room == 0 ? FIRST_ROOM : timers->room * 2;
        struct lease_timer *items = realloc(timers->items, room * sizeof *items);
        if (items == NULL)
            return -ENOMEM;
        timers->items = items;
        timers->room = room;
    }
    timers->items[timers->count++] = (struct lease_timer){.id = *id, .span = *span, .beat_ms = now.mono_ms};
    return 0;
}

bool lease_timers_remove(struct lease_timers *timers, const struct id *id)
{
    struct lease_timer *timer = find(timers, id);
    if (timer == NULL)
        return false;
    *timer = timers->items[--timers->count];
    return true;
}

int lease_timers_beat(struct lease_timers *timers, const struct id *id, struct lease_now now)
{
    struct lease_timer *timer = find(timers, id);
    if (timer == NULL)
        return -ENOENT;
    if (timer->over)
        return -EALREADY;
    if (timer->span.silence_ms == 0)
        return -ENODATA;
    timer->beat_ms = now.mono_ms;
    return 0;
}

int lease_timers_hold(struct lease_timers *timers, const struct id *id)
{
    struct lease_timer *timer = find(timers, id);
    if (timer == NULL)
        return -ENOENT;
    if (timer->over)
        return -EALREADY;
    if (timer->held)
        return -EBUSY;
    timer->held = true;
    return 0;
}

void lease_timers_release(struct lease_timers *timers, const struct id *id, const struct lease_span *span)
{
    struct lease_timer *timer = find(timers, id);
    if (timer == NULL)
        return; /* it has ended meanwhile */
    timer->held = false;
    if (span == NULL)
        return;
    timer->span.deadline_ms = span->deadline_ms;
    timer->span.warn_ms = span->warn_ms;
}

/* How long until @at, or 0; a limit of 0 is none. */
static uint64_t left(uint64_t at_ms, uint64_t now_ms)
{
    if (at_ms == 0)
        return UINT64_MAX;
    return at_ms > now_ms ? at_ms - now_ms : 0;
}

/* What comes next for one lease, and in how long. */
static uint64_t next_of(const struct lease_timer *timer, struct lease_now now, enum lease_due *ret_due)
{
    if (timer->over) {
        *ret_due = timer->by;
        return left(timer->again_ms, now.mono_ms);
    }
    if (timer->held)
        return UINT64_MAX;
    const struct lease_span *span = &timer->span;
    uint64_t deadline = left(span->deadline_ms, now.boot_ms);
    uint64_t silence = span->silence_ms == 0 ? UINT64_MAX : left(timer->beat_ms + span->silence_ms, now.mono_ms);
    uint64_t warning = left(span->warn_ms, now.boot_ms);
    /* A lease that was slept through is past all of them: its end needs no warning. */
    if (deadline <= silence && deadline <= warning) {
        *ret_due = LEASE_DUE_DEADLINE;
        return deadline;
    }
    *ret_due = silence <= warning ? LEASE_DUE_SILENCE : LEASE_DUE_WARNING;
    return silence <= warning ? silence : warning;
}

bool lease_timers_take(struct lease_timers *timers, struct lease_now now, struct id *ret_id, enum lease_due *ret_due)
{
    for (size_t i = 0; i < timers->count; i++) {
        struct lease_timer *timer = &timers->items[i];
        enum lease_due due = LEASE_DUE_WARNING;
        if (next_of(timer, now, &due) != 0)
            continue;
        if (due == LEASE_DUE_WARNING) {
            timer->span.warn_ms = 0;
        } else {
            timer->over = true;
            timer->by = due;
            timer->again_ms = now.mono_ms + LEASE_TIMERS_AGAIN_MS;
        }
        *ret_id = timer->id;
        *ret_due = due;
        return true;
    }
    return false;
}

uint64_t lease_timers_wait_ms(const struct lease_timers *timers, struct lease_now now)
{
    uint64_t wait = UINT64_MAX;
    for (size_t i = 0; i < timers->count; i++) {
        enum lease_due unused;
        uint64_t one = next_of(&timers->items[i], now, &unused);
        wait = one < wait ? one : wait;
    }
    return wait;
}

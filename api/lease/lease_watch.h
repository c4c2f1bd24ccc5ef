/* The thread that waits for the time limits of leases (lease_timers.h) and tells of each as it comes. */
#ifndef API_LEASE_LEASE_WATCH_H
#define API_LEASE_LEASE_WATCH_H

#include "api/lease/lease_timers.h"
#include "base/error.h"

enum lease_watch_limits {
    LEASE_WATCH_LOOK_MS = 30000, /* the longest sleep: what came due while the machine slept is late by that at most */
};

struct lease_watch;

/** Told of what has come, on the watch's thread and without its lock. */
typedef void (*lease_watch_tell)(void *context, const struct id *id, enum lease_due due);

/** lease_watch_now() - The moment, by the clocks of this machine. Thread: any */
struct lease_now lease_watch_now(void);

/** lease_watch_open() - Start the thread. Return: 0 or negative. Thread: any */
int lease_watch_open(lease_watch_tell tell, void *context, struct lease_watch **ret_watch, struct error *err);

/** lease_watch_close() - End the thread, free. @watch: NULL is allowed. Thread: the owner, the last user */
void lease_watch_close(struct lease_watch *watch);

/* As the functions of lease_timers.h, at this moment. Thread: any */
int lease_watch_add(struct lease_watch *watch, const struct id *id, const struct lease_span *span);
void lease_watch_remove(struct lease_watch *watch, const struct id *id);
int lease_watch_beat(struct lease_watch *watch, const struct id *id);
void lease_watch_release(struct lease_watch *watch, const struct id *id, const struct lease_span *span);

/** lease_watch_hold() - As lease_timers_hold(), but waits for the renewal that holds it. Return: 0, -ENOENT, -EALREADY */
int lease_watch_hold(struct lease_watch *watch, const struct id *id);

#endif

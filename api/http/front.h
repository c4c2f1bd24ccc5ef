/* The front door: takes connections in, and lets the HTTP library see one only when the whole head of its first request has
 * arrived. Until then a connection costs a descriptor and a few bytes here, and when there are too many the one that has
 * waited longest is closed. So half-sent requests, however many, hold nobody up.
 *
 * One thread. What has arrived is looked at and left in the socket (MSG_PEEK), so that the library reads it as if it had
 * been first. */
#ifndef API_HTTP_FRONT_H
#define API_HTTP_FRONT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum front_limits {
    FRONT_DOORS_MAX = 2,
    FRONT_WAITING_MAX =
        1024, /* connections without a whole head, per door; an eighth of the descriptors if that is less */
    FRONT_WAITING_MIN = 64,
    FRONT_HEAD_BYTES = 16384, /* request line and headers; more is refused */
    FRONT_HEAD_MS = 15000,    /* to send them */
    FRONT_ACCEPT_BATCH = 128, /* of one door, before the others' turn */
    FRONT_LOOK_MS = 5,        /* first pause before a head that came in part is looked at again */
    FRONT_LOOK_MAX_MS = 80,   /* the pauses double up to this */
    FRONT_TURN_MS = 20,       /* a whole head that found no place tries again after this */
};

enum front_answer {
    FRONT_TAKEN,  /* the descriptor is theirs */
    FRONT_LATER,  /* no place now; ask again */
    FRONT_REFUSED /* close it */
};

/**
 * struct front_door - A listening socket and who is behind it
 * @fd:       listening, non-blocking, not owned
 * @admit:    a connection whose head is whole; or longer than it may be, and then @length is above FRONT_HEAD_BYTES
 * @tick:     called about once a second while there are connections. Return: how many the other side still has
 */
struct front_door {
    int fd;
    enum front_answer (*admit)(void *context, int fd, const char *head, size_t length);
    size_t (*tick)(void *context, uint64_t now_ms);
    void *context;
};

struct front;

/**
 * front_open() - Begin to take connections in
 * @doors:     @count of them, copied
 * @ret_front: owned by the caller until front_close()
 * Return:     0 or negative
 * Thread:     any
 */
int front_open(const struct front_door *doors, size_t count, struct front **ret_front, struct error *err);

/** front_end() - Close what waits, end the thread. front_wake() is still allowed. Thread: the owner */
void front_end(struct front *front);

/** front_close() - As front_end(), then free. @front: NULL is allowed. Thread: the owner */
void front_close(struct front *front);

/** front_wake() - A place may have come free. Thread: any; never waits */
void front_wake(struct front *front);

#endif

/* The connections of one listener that the HTTP library serves: what each is doing, since when, and until when it may.
 *
 * The library's own timeout counts silence alone, so a client that sends a byte a second would stay for ever, and its own
 * limit keeps new connections out instead of ending old ones. Here each class has a limit of its own, and whoever has held
 * a place longest gives it up when somebody else needs it: those that wait between two requests first, then those that keep
 * us waiting, for their request's rest or for room to answer. Whoever waits for us is left alone. A connection is ended by
 * shutdown(2), and the library then sees its end: of one that rests or is to bring a request only what comes in is shut,
 * because between the library's read of a request and its word about it here, the request is in neither's sight. */
#ifndef API_HTTP_ROSTER_H
#define API_HTTP_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/http/stream.h"
#include "base/error.h"

enum roster_class {
    ROSTER_STRANGER, /* showed no good token: one answer, then it is closed */
    ROSTER_SERVED,
    ROSTER_STREAM,
    ROSTER_CLASS_COUNT,
};

enum roster_limits {
    ROSTER_STRANGERS_MAX = 64,
    ROSTER_SERVED_MAX = 256,
    ROSTER_STREAMS_MAX = STREAMS_MAX,
    ROSTER_SLOTS = ROSTER_STRANGERS_MAX + ROSTER_SERVED_MAX + ROSTER_STREAMS_MAX,
    ROSTER_REQUEST_MS = 15000, /* from the request's first byte to the last one of its answer */
    ROSTER_IDLE_MS = 10000,    /* between two requests of a connection */
    ROSTER_ENDING_MAX = 32,    /* of a class, ended to make room and not gone yet */
    ROSTER_PATIENCE_MS = 50,   /* for a client that keeps us waiting while others have no place */
    ROSTER_CUT_MS = 500,       /* from the end of what comes in to the end of all, while others have no place */
};

struct roster;

/** roster_open() - An empty roster. @ret_roster: the caller's until roster_close(). Return: 0, -ENOMEM. Thread: any */
int roster_open(struct roster **ret_roster, struct error *err);

/** roster_close() - Free. @roster: NULL is allowed. Thread: the owner, without connections left */
void roster_close(struct roster *roster);

/**
 * roster_add() - Take in a connection whose first request is there; it is our turn
 * @fd:    must stay open until roster_remove()
 * Return: false when the class is full
 * Thread: any
 */
bool roster_add(struct roster *roster, int fd, enum roster_class class, uint64_t now_ms);

/** roster_find() - The slot of a connection. Return: -1 when it is not there. Thread: any */
int roster_find(struct roster *roster, int fd);

/** roster_class_of() - The class of a slot. Thread: any */
enum roster_class roster_class_of(struct roster *roster, int slot);

/** roster_remove() - Forget a connection before it is closed. @fd: one that is not there is ignored. Thread: any */
void roster_remove(struct roster *roster, int fd);

/** enum roster_phase - What a connection that is no stream is at. */
enum roster_phase {
    ROSTER_RESTING, /* between two requests */
    ROSTER_READING, /* a request is on its way */
    ROSTER_WORKING, /* it is our turn */
    ROSTER_WRITING, /* an answer is on its way */
};

/**
 * roster_phase() - A connection has come to another phase
 * @slot:  -1 is ignored
 * Thread: any
 *
 * ROSTER_RESTING begins the time of a rest.
 */
void roster_phase(struct roster *roster, int slot, enum roster_phase phase, uint64_t now_ms);

/** roster_request() - A request begins. After a rest the client is waited for, and its time begins. @slot, thread: as above */
void roster_request(struct roster *roster, int slot, uint64_t now_ms);

/** roster_stream() - A connection becomes a stream, without a time limit; how many may is the streams' matter. */
void roster_stream(struct roster *roster, int slot);

/**
 * roster_evict() - Make room in a class: end whoever has held a place longest
 * Return: false when nobody may be ended now: all wait for us, or enough were ended that have not gone yet
 * Thread: any
 */
bool roster_evict(struct roster *roster, enum roster_class class, uint64_t now_ms);

/** roster_has_ended() - Whether a connection was ended here, to make room or over its time. @slot: as above. Thread: any */
bool roster_has_ended(struct roster *roster, int slot);

/** roster_expire() - End what is over its time. Return: how many connections there are. Thread: any */
size_t roster_expire(struct roster *roster, uint64_t now_ms);

/** roster_count() - Connections of a class. Thread: any */
size_t roster_count(struct roster *roster, enum roster_class class);

#endif

/* Total time limits for connections. The HTTP library's own timeout counts only silence, so a client that sends one byte
 * a second would stay for ever. One thread looks once a second and shuts down what is over its time; the library then
 * sees the end of the connection and cleans up. */
#ifndef API_DEADLINE_H
#define API_DEADLINE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum deadline_limits {
    DEADLINE_SLOTS = 1024,      /* connections of all listeners together */
    DEADLINE_REQUEST_MS = 15000 /* from connection, or from the answer before, to the end of the answer */
};

struct deadlines;

/** deadlines_open() - Start the thread. Return: 0 or negative. Thread: any */
int deadlines_open(struct deadlines **ret_deadlines, struct error *err);

/** deadlines_close() - End the thread, free. @deadlines: NULL is allowed. Thread: the owner, without connections left */
void deadlines_close(struct deadlines *deadlines);

/**
 * deadlines_add() - Watch a connection
 * @fd:    must stay open until deadlines_remove()
 * @at_ms: monotonic
 * Return: its slot, or -1 when there is none
 * Thread: any
 */
int deadlines_add(struct deadlines *deadlines, int fd, uint64_t at_ms);

/** deadlines_extend() - Give a connection a new limit. @slot: -1 is ignored. Thread: any */
void deadlines_extend(struct deadlines *deadlines, int slot, uint64_t at_ms);

/** deadlines_remove() - Forget a connection before it is closed. @slot: -1 is ignored. Thread: any */
void deadlines_remove(struct deadlines *deadlines, int slot);

#endif

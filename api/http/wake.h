/* Waking a thread that sits in poll(2), from any other one: a pipe with one byte in it at most. */
#ifndef API_HTTP_WAKE_H
#define API_HTTP_WAKE_H

#include <stdatomic.h>

/** struct wake - Owner: whoever called wake_open(). */
struct wake {
    int fds[2];       /* both ends non-blocking; poll fds[0] for POLLIN */
    atomic_flag told; /* the byte is in the pipe */
};

/** wake_open() - Make the pipe. Return: 0, or negative as the system said (wake_close() is allowed then). */
int wake_open(struct wake *wake);

/** wake_close() - Close it. Thread: the owner, once nobody wakes any more */
void wake_close(struct wake *wake);

/** wake_up() - End the poll, or the next one. Thread: any; takes no lock and never waits */
void wake_up(struct wake *wake);

/** wake_take() - Empty the pipe. What was done before a wake_up() is seen after this. Thread: the one that polls */
void wake_take(struct wake *wake);

#endif

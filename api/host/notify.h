/* Tells a service manager (systemd, or anything that speaks its protocol) how the daemon is. Without one, says nothing. */
#ifndef API_HOST_NOTIFY_H
#define API_HOST_NOTIFY_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/error.h"

/** struct notify - Where the manager listens, and how often it wants to hear. Owner: main(). */
struct notify {
    int fd; /* -1: nobody listens */
    struct sockaddr_un address;
    socklen_t address_bytes;
    uint64_t watchdog_ms; /* silence after which the manager ends us; 0: it does not watch */
};

/**
 * notify_open() - Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and take them out of the environment
 * @ret_notify: filled on failure too, with nobody who listens
 * Return:      0, also without a manager; -EINVAL for an address that is neither a path nor abstract; or what the
 *              system said
 * Thread:      main, before there are others: children must not inherit the variables
 * Source:      sd_notify(3), sd_watchdog_enabled(3)
 */
int notify_open(struct notify *ret_notify, struct error *err);

/**
 * notify_send() - Send one message
 * @state:  "READY=1", "WATCHDOG=1", "STOPPING=1"; several are separated by newlines
 * Return:  0, also without a manager; or what the system said
 * Thread:  the owner
 */
int notify_send(const struct notify *notify, const char *state);

/** notify_close() - Close the socket. Thread: the owner */
void notify_close(struct notify *notify);

#endif

/* A daemon that is to take another one's place asks it to leave. */
#ifndef API_HOST_HANDOVER_H
#define API_HOST_HANDOVER_H

#include "base/error.h"
#include "base/log.h"

enum handover_limits {
    HANDOVER_LIMIT_MS = 60000, /* machines that do not run yet are ended by the old daemon, each in its time */
};

/**
 * handover_ask() - Have the daemon behind a socket leave its machines and end; wait for that
 * @socket_path: its unix socket
 * Return:       0, also when no daemon is there; -EPERM when it is another user's; -ETIMEDOUT; or what the system said
 * Thread:       any
 */
int handover_ask(const char *socket_path, const struct log *log, struct error *err);

#endif

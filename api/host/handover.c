/* The old daemon is found by its socket: the kernel tells which process listens there, so there is no file with a number that
 * could be another process's by now. */
#include "api/host/handover.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"

enum { LOOK_MS = 20 };

/* Return: its pid; 0 when nobody listens; or negative. */
static int64_t find_daemon(const char *socket_path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path) >= (int)sizeof address.sun_path)
        return error_set(err, -ENAMETOOLONG, "The path of the socket %.200s is too long.", socket_path);
    int fd SCOPED_FD = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0)
        return error_set(err, -errno, "No socket can be made: %s.", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        return errno == ENOENT || errno == ECONNREFUSED
                   ? 0
                   : error_set(err, -errno, "The daemon at %s cannot be reached: %s.", socket_path, strerror(errno));
#ifdef SO_PEERCRED
    struct ucred listener;
    socklen_t length = sizeof listener;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &listener, &length) != 0)
        return error_set(err, -errno, "The daemon at %s cannot be told: %s.", socket_path, strerror(errno));
    if (listener.uid != geteuid() || listener.pid <= 1)
        return error_set(err, -EPERM, "The daemon at %s is another user's.", socket_path);
    return listener.pid;
#else
    return error_set(err, -ENOTSUP, "This system does not tell which daemon listens at %s; end it with SIGUSR2.",
                     socket_path);
#endif
}

int handover_ask(const char *socket_path, const struct log *log, struct error *err)
{
    int64_t pid = find_daemon(socket_path, err);
    if (pid <= 0)
        return (int)pid;
    log_line(log, LOG_INFO, "handover.asked", "pid=%" PRId64, pid);
    uint64_t limit_ms = clock_monotonic_ms() + HANDOVER_LIMIT_MS;
    const struct timespec look = {.tv_nsec = LOOK_MS * 1000000L};
    if (kill((pid_t)pid, SIGUSR2) != 0 && errno != ESRCH)
        return error_set(err, -errno, "Process %" PRId64 " cannot be asked to leave: %s.", pid, strerror(errno));
    /* It holds its socket until it has left, so a number that came again cannot be taken for it. */
    while (find_daemon(socket_path, NULL) == pid) {
        if (clock_monotonic_ms() > limit_ms)
            return error_set(err, -ETIMEDOUT, "The daemon with process %" PRId64 " does not leave.", pid);
        (void)nanosleep(&look, NULL);
    }
    return 0;
}

/* The protocol is one datagram a message, to an address in the environment: too small to link a library for. */
#include "api/host/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An address is a path, or '@' and a name in Linux's abstract space. */
static int read_address(const char *text, struct notify *notify, struct error *err)
{
    size_t length = strlen(text);
    if ((text[0] != '/' && text[0] != '@') || length < 2 || length >= sizeof notify->address.sun_path)
        return error_set(err, -EINVAL, "NOTIFY_SOCKET is not a socket's address: \"%.100s\".", text);
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, text, length + 1);
    notify->address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (text[0] == '/'));
    if (text[0] == '@')
        notify->address.sun_path[0] = '\0';
    return 0;
}

/* How long the manager waits for a sign of life, if it waits for one of this very process. */
static uint64_t read_watchdog_ms(const char *interval_us, const char *pid)
{
    char *end = NULL;
    if (interval_us == NULL || (pid != NULL && strtoimax(pid, NULL, 10) != getpid()))
        return 0;
    errno = 0;
    uintmax_t us = strtoumax(interval_us, &end, 10);
    return errno == 0 && end != interval_us && *end == '\0' ? (uint64_t)us / 1000 : 0;
}

int notify_open(struct notify *ret_notify, struct error *err)
{
    *ret_notify = (struct notify){.fd = -1};
    const char *address = getenv("NOTIFY_SOCKET");
    int result = 0;
    if (address != NULL && address[0] != '\0')
        result = read_address(address, ret_notify, err);
    if (result == 0 && ret_notify->address_bytes > 0) {
        ret_notify->watchdog_ms = read_watchdog_ms(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"));
        ret_notify->fd = socket(AF_UNIX, SOCK_DGRAM, 0);
        if (ret_notify->fd < 0)
            result = error_set(err, -errno, "The service manager's socket cannot be made: %s.", strerror(errno));
        else
            fcntl(ret_notify->fd, F_SETFD, FD_CLOEXEC);
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return result;
}

int notify_send(const struct notify *notify, const char *state)
{
    if (notify->fd < 0)
        return 0;
    ssize_t sent;
    do {
        /* A manager that does not read must not hold the daemon up. */
        sent = sendto(notify->fd, state, strlen(state), MSG_DONTWAIT, (const struct sockaddr *)&notify->address,
                      notify->address_bytes);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

void notify_close(struct notify *notify)
{
    if (notify->fd >= 0)
        close(notify->fd);
    notify->fd = -1;
}

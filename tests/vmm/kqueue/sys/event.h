/* kqueue(2) for tests on Linux, as far as vmm/exit_watch.c asks for it: a queue that watches for one process' end. Its
 * descriptor becomes the process' own, which is readable from then on, as a queue is whose event nobody fetches. Anything
 * else is refused, and a process that has ended is no more there, as on macOS.
 *
 * Source: kqueue(2) of macOS and FreeBSD */
#ifndef TESTS_VMM_KQUEUE_SYS_EVENT_H
#define TESTS_VMM_KQUEUE_SYS_EVENT_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { EVFILT_PROC = -5, EV_ADD = 0x0001 };
#define NOTE_EXIT 0x80000000u

struct kevent {
    uintptr_t ident;
    int16_t filter;
    uint16_t flags;
    uint32_t fflags;
    intptr_t data;
    void *udata;
};

#define EV_SET(event, a, b, c, d, e, f) (*(event) = (struct kevent){(a), (b), (c), (d), (e), (f)})

/* Nothing is in it, so it is not readable. */
static inline int kqueue(void)
{
    return (int)syscall(SYS_epoll_create1, 0);
}

static inline int kevent(int queue, const struct kevent *changes, int change_count, struct kevent *ret_events,
                         int event_count, const struct timespec *limit)
{
    if (change_count != 1 || changes->filter != EVFILT_PROC || changes->flags != EV_ADD ||
        changes->fflags != NOTE_EXIT || ret_events != NULL || event_count != 0 || limit != NULL) {
        errno = EINVAL;
        return -1;
    }
    int process = (int)syscall(SYS_pidfd_open, (pid_t)changes->ident, 0);
    struct pollfd ended = {.fd = process, .events = POLLIN};
    if (process < 0 || poll(&ended, 1, 0) != 0) {
        if (process >= 0)
            close(process);
        errno = ESRCH;
        return -1;
    }
    int rc = dup3(process, queue, fcntl(queue, F_GETFD) == FD_CLOEXEC ? O_CLOEXEC : 0);
    close(process);
    return rc < 0 ? -1 : 0;
}

#endif

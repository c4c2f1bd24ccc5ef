/* Linux has a descriptor for a process. Where kqueue(2) is, each process gets a queue of its own, whose one event nobody fetches:
 * so the queue is readable from then on, as a pidfd is, and may be looked at as often as one likes. That is needed as well,
 * for a kernel may tell of an end before its process can be waited for. */
#include "vmm/exit_watch.h"

#include <errno.h>
#include <fcntl.h>

#include "base/scope.h"

#ifndef OMERTAD_PORTABLE

#include <sys/syscall.h>
#include <unistd.h>

int exit_watch_open(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

#elif __has_include(<sys/event.h>)

#include <sys/event.h>

int exit_watch_open(pid_t pid)
{
    int queue SCOPED_FD = kqueue();
    if (queue < 0 || fcntl(queue, F_SETFD, FD_CLOEXEC) != 0)
        return -errno;
    struct kevent end;
    EV_SET(&end, (uintptr_t)pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
    return kevent(queue, &end, 1, NULL, 0, NULL) < 0 ? -errno : fd_take(&queue);
}

#else

int exit_watch_open(pid_t pid)
{
    (void)pid;
    return -ENOSYS;
}

#endif

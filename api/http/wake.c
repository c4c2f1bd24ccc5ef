#include "api/http/wake.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/scope.h"

int wake_open(struct wake *wake)
{
    wake->fds[0] = wake->fds[1] = -1;
    atomic_flag_clear(&wake->told);
    if (pipe(wake->fds) != 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        if (fcntl(wake->fds[i], F_SETFD, FD_CLOEXEC) != 0 || fcntl(wake->fds[i], F_SETFL, O_NONBLOCK) != 0)
            return -errno;
    }
    return 0;
}

void wake_close(struct wake *wake)
{
    fd_close(&wake->fds[0]);
    fd_close(&wake->fds[1]);
}

void wake_up(struct wake *wake)
{
    if (!atomic_flag_test_and_set(&wake->told)) {
        ssize_t written = write(wake->fds[1], "", 1); /* cannot fail for want of room: one byte at most is there */
        (void)written;
    }
}

void wake_take(struct wake *wake)
{
    char bytes[16];
    while (read(wake->fds[0], bytes, sizeof bytes) > 0) {
    }
    atomic_flag_clear(&wake->told); /* before the poller looks at what was done: later news is told anew */
}

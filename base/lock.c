#include "base/lock.h"

#include <errno.h>
#include <sys/file.h>
#include <time.h>

#include "base/clock.h"

enum { LOOK_MS = 10 };

int lock_take(int fd)
{
    const struct timespec look = {.tv_nsec = LOOK_MS * 1000000L};
    const uint64_t limit_ms = clock_monotonic_ms() + LOCK_PATIENCE_MS;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        if (clock_monotonic_ms() >= limit_ms)
            return -EWOULDBLOCK;
        (void)nanosleep(&look, NULL);
    }
    return 0;
}

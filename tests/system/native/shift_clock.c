/* A library that is loaded before the C library (LD_PRELOAD) and sets the daemon's wall clock: a file that the tests and it have
 * mapped says by how many seconds it is wrong. The other clocks stay, as they do when somebody sets the machine's. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static atomic_llong right;
static atomic_llong *wrong_s = &right;

__attribute__((constructor)) static void find_clock(void)
{
    const char *path = getenv("SHIFT_CLOCK");
    if (path == NULL || strcmp(program_invocation_short_name, "omertad") != 0)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *wrong_s, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        abort();
    close(fd);
    wrong_s = at;
}

int clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, ret_now);
    if (result == 0 && clock == CLOCK_REALTIME)
        ret_now->tv_sec += (time_t)atomic_load(wrong_s);
    return result;
}

int gettimeofday(struct timeval *restrict ret_now, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    *ret_now = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *ret_now)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    if (ret_now != NULL)
        *ret_now = now.tv_sec;
    return now.tv_sec;
}

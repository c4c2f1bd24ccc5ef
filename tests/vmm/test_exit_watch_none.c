/* A machine's end where nothing tells of it, as on a system with neither pidfd nor kqueue(2): the supervisor looks. */
#define EXIT_WATCH_NONE
#include "tests/vmm/test_exit_watch.c"

int exit_watch_open(pid_t pid)
{
    (void)pid;
    return -ENOSYS;
}

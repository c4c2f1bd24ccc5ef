/* A child process that gets exactly the descriptors it was promised, and nothing else of the daemon. */
#ifndef VMM_CHILD_H
#define VMM_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

enum child_limits {
    CHILD_FD_MAX = 16,         /* a hypervisor takes seven */
    CHILD_FD_TO_MAX = 63,      /* targets stay below the numbers that are used while they are moved into place */
    CHILD_OUTPUT_BYTES = 1024, /* the newest bytes of stdout and stderr that are kept for an error message */
    CHILD_TICK_MS = 20,        /* how often to look for an exit where the system has no pidfd */
};

/** struct child_fd - The parent's descriptor @from becomes the child's descriptor @to, 3 to CHILD_FD_TO_MAX. */
struct child_fd {
    int from;
    int to;
};

/** struct child_exit - How a child ended. @code: -1 for none; @signal: 0 for none. */
struct child_exit {
    int code;
    int signal;
};

/**
 * struct child - One running child
 * @pid:         0 once it has been reaped
 * @pidfd:       readable when the child has ended; -1 where the system has none
 * @output_fd:   what the child prints, non-blocking; -1 once it is at its end
 * @start_ticks: with the pid and the boot id the child's identity, 0 where the system does not tell
 * @output:      ring of the newest bytes of stdout and stderr
 * @output_total: bytes printed so far
 *
 * Owner: whoever called child_spawn(), until child_close().
 */
struct child {
    pid_t pid;
    int pidfd;
    int output_fd;
    uint64_t start_ticks;
    uint64_t output_total;
    char output[CHILD_OUTPUT_BYTES];
};

/** child_init() - A child that is not there; child_close() is allowed on it. Thread: any */
void child_init(struct child *child);

/**
 * child_spawn() - Start a program
 * @path:      the program's file; PATH is not searched
 * @argv:      ends with NULL
 * @fds:       the child has these, /dev/null as 0, a pipe to @output_fd as 1 and 2, and no other
 * @ret_child: filled on success
 * Return:     0; what execve(2) said, when the program cannot be run; or what else failed
 * Thread:     the child is killed when the calling thread ends (PR_SET_PDEATHSIG): one that lives as long as it should
 */
int child_spawn(const char *path, char *const argv[], const struct child_fd *fds, size_t fd_count,
                struct child *ret_child, struct error *err);

/**
 * child_signal() - Signal a child that has not been reaped
 * Return: 0; -ESRCH when it has ended
 * Thread: the child's owner
 */
int child_signal(const struct child *child, int signal);

/**
 * child_reap() - See whether the child has ended, without waiting
 * @ret_exit: filled when it has
 * Return:    true once; the child's pid is 0 afterwards
 * Thread:    the child's owner
 */
bool child_reap(struct child *child, struct child_exit *ret_exit);

/**
 * child_read_output() - Take in what the child has printed since
 * Thread: the child's owner; takes a bounded amount each time
 */
void child_read_output(struct child *child);

/**
 * child_format_output() - The newest of what the child printed, escaped, on one line
 * @ret_text: filled and terminated
 * @capacity: at least 1; when there is more than fits, the newest part is shown
 * Return:    @ret_text
 * Thread:    the child's owner
 */
const char *child_format_output(const struct child *child, char *ret_text, size_t capacity);

/** child_close() - Kill and reap the child if it still runs, close its descriptors. Thread: the child's owner */
void child_close(struct child *child);

/**
 * child_start_ticks() - When a process started, in clock ticks since boot
 * @ret_ended: whether it has ended and only waits to be reaped; may be NULL
 * Return:     0 when there is no such process or the system does not tell
 * Thread:     any
 * Source:     proc(5), /proc/pid/stat field 22
 */
uint64_t child_start_ticks(pid_t pid, bool *ret_ended);

#endif

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
    CHILD_TICK_MS = 20,        /* how often to look for an exit that no descriptor tells of */
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

/** enum child_bond - What becomes of a child when the thread that started it ends, however that comes about. */
enum child_bond {
    CHILD_DIES_WITH_PARENT,
    CHILD_OUTLIVES_PARENT, /* from child_release() on */
};

/**
 * struct child - One running child
 * @pid:         0 once it has been reaped
 * @adopted:     a process that an earlier daemon started: it cannot be waited for, so how it ended stays unknown
 * @exit_fd:     readable when the child has ended (exit_watch.h); negative: there is none, and who waits has to look
 * @start_fd:    the child waits at its other end for child_release(), and says there what came of it; -1 once that is known
 * @released:    child_release() was called
 * @output_fd:   what the child prints, non-blocking; -1 once it is at its end
 * @start_ticks: with the pid and the boot id the child's identity, 0 where the system does not tell
 * @output:      ring of the newest bytes of stdout and stderr
 * @output_total: bytes printed so far
 *
 * Owner: whoever called child_prepare() or child_adopt(), until child_close().
 */
struct child {
    pid_t pid;
    bool adopted;
    int exit_fd;
    int start_fd;
    bool released;
    int output_fd;
    uint64_t start_ticks;
    uint64_t output_total;
    char output[CHILD_OUTPUT_BYTES];
};

/** child_init() - A child that is not there; child_close() is allowed on it. Thread: any */
void child_init(struct child *child);

/**
 * child_prepare() - Start a process that is to become a program, and have it wait
 * @path:      the program's file; PATH is not searched
 * @argv:      ends with NULL
 * @fds:       the child has these, /dev/null as 0, a pipe to @output_fd as 1 and 2, and no other
 * @bond:      until child_release() every child dies with its parent
 * @ret_child: filled on success; its pid and start_ticks are those of the program already, so that they can be written
 *             down before there is anything that could be left behind
 * Return:     0, or what failed
 * Thread:     one that lives as long as the child should (PR_SET_PDEATHSIG)
 */
int child_prepare(const char *path, char *const argv[], const struct child_fd *fds, size_t fd_count,
                  enum child_bond bond, struct child *ret_child, struct error *err);

/**
 * child_release() - Let a prepared child become its program; returns at once, as a busy machine or a slow disk may keep the
 *                   child from it for long
 * Return: 0 or negative errno; child_started() has the rest
 * Thread: the one that prepared it
 */
int child_release(struct child *child);

/**
 * child_started() - What came of a child that was released, when its start_fd is readable
 * @path:  for the error's message
 * Return: 0 when it is its program, or has ended on the way; -EINPROGRESS: not yet; else what execve(2) said, and the child
 *         ends by itself
 * Thread: the child's owner
 */
int child_started(struct child *child, const char *path, struct error *err);

/**
 * child_spawn() - Prepare and release a child that dies with its parent, and wait until it is its program
 * Return: 0, or what failed: then nothing is left of the child
 * Thread: as child_prepare()
 */
int child_spawn(const char *path, char *const argv[], const struct child_fd *fds, size_t fd_count,
                struct child *ret_child, struct error *err);

/**
 * child_adopt() - Take over a process that an earlier daemon started
 * @start_ticks, @boot_id: with the pid its identity; all three have to hold
 * @ret_child: filled on success; nothing of what it prints is heard
 * Return:     0; -ESRCH when there is no such process any more; -ENOTSUP where the system has no descriptor that holds one
 * Thread:     any
 */
int child_adopt(int64_t pid, uint64_t start_ticks, const char *boot_id, struct child *ret_child, struct error *err);

/**
 * child_signal() - Signal a child that has not been reaped
 * Return: 0; -ESRCH when it has ended
 * Thread: the child's owner
 */
int child_signal(const struct child *child, int signal);

/**
 * child_reap() - See whether the child has ended, without waiting
 * @ret_exit: filled when it has; of an adopted one neither code nor signal is known
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

/** child_leave() - Close the descriptors of a child that outlives the daemon, which runs on. Thread: the child's owner */
void child_leave(struct child *child);

/** child_close() - Kill and reap the child if it still runs, close its descriptors. Thread: the child's owner */
void child_close(struct child *child);

#endif

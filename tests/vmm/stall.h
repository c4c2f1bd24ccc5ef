/* A NAT thread that does not come to run, as on a machine that has no time for it. */
#ifndef TESTS_VMM_STALL_H
#define TESTS_VMM_STALL_H

#include <stdbool.h>
#include <sys/types.h>

/** struct stall - Owner: the test, from stall_begin() to stall_end(). */
struct stall {
    pid_t tracer;
    int release_fd;
};

/**
 * stall_begin() - Stop this process's one confined thread, which is the NAT's, and no other
 *
 * A child traces it; the thread goes on when the child has ended.
 *
 * Return: true when it stands still; false where there is no such thread or it may not be traced
 * Thread: the test's
 */
bool stall_begin(struct stall *ret_stall);

/** stall_end() - Let it go on. Thread: the test's */
void stall_end(struct stall *stall);

#endif

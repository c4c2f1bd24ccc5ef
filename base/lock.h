/* Locks that end with their process, however it dies. */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

enum lock_limits {
    LOCK_PATIENCE_MS = 1000, /* far longer than a fork takes to become a program on a busy machine */
};

/**
 * lock_take() - Lock an open file or folder for this process alone
 *
 * Waits a moment for a holder to go: what a process that was just killed has forked shares its lock until the child has
 * closed its copies or has died as well, which takes it some milliseconds.
 *
 * @fd:    keeps the lock until it is closed
 * Return: 0; -EWOULDBLOCK when somebody else keeps it; or what the system said
 * Thread: any
 * Source: flock(2)
 */
int lock_take(int fd);

#endif

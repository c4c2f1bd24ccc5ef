/* A descriptor that tells of a process' end, so that one poll(2) waits for it among everything else. */
#ifndef VMM_EXIT_WATCH_H
#define VMM_EXIT_WATCH_H

#include <sys/types.h>

/* Whether the descriptor holds the process itself and takes signals for it, not the number that others get later. */
#ifndef OMERTAD_PORTABLE
enum { EXIT_WATCH_HOLDS = 1 };
#else
enum { EXIT_WATCH_HOLDS = 0 };
#endif

/**
 * exit_watch_open() - Watch for the end of a process of this user
 * Return: close-on-exec, for poll(2) alone: readable from the process' end on, maybe an instant before waitpid(2) has it.
 *         Negative errno: there is none, also (-ESRCH) where the process has ended already; then somebody has to look
 * Thread: any
 * Source: pidfd_open(2); kqueue(2), EVFILT_PROC
 */
int exit_watch_open(pid_t pid);

#endif

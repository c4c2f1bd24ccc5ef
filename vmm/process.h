/* Who a process is: its pid together with its start and the boot, because pids come again. */
#ifndef VMM_PROCESS_H
#define VMM_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * process_start_ticks() - When a process started, in clock ticks since boot
 * @ret_ended: whether it has ended and only waits to be reaped; may be NULL
 * Return:     0 when there is no such process or the system does not tell
 * Thread:     any
 * Source:     proc(5), /proc/pid/stat field 22
 */
uint64_t process_start_ticks(pid_t pid, bool *ret_ended);

/** process_runs() - Whether the process with this start is still there and has not ended. Thread: any */
bool process_runs(pid_t pid, uint64_t start_ticks);

/**
 * process_await_end() - Wait for the end of a killed process that is nobody's child here
 * @exit_fd: readable then; -1: there is none
 * Return: 0; -ETIMEDOUT after five seconds
 * Thread: any
 */
int process_await_end(int exit_fd, pid_t pid, uint64_t start_ticks);

#endif

/* Direct mode: a machine with a network of its own that leads out and nowhere else.
 *
 * How a direct machine starts and ends
 *
 *     daemon -> child_prepare() -> guard -> pasta -> launcher, which becomes QEMU
 *
 * The start:
 * 1. The machine's QEMU command is built with COMMAND_NET_TAP. There is no attachment and no NAT.
 * 2. direct_spawn() reads the host's own addresses, puts command, rules and descriptors on a line (a socket pair) and
 *    starts the guard as the machine's `struct child`, which waits for child_release(). What came of that is child_started()'s
 *    to tell, as for any child; a busy machine may keep the guard from it, and keeps nobody else. Its output is pasta's,
 *    the launcher's and QEMU's.
 * 3. The caller polls direct.line_fd, and calls direct_receive() when it is readable. 1 means that the namespace stands
 *    and that the process direct.pid becomes QEMU now: that pid and direct.start_ticks are the hypervisor's identity, to
 *    be stored and told (VMM_EVENT_SPAWNED). Negative means that it will not come to that: the child's output says why,
 *    and its end follows. QMP and the console are as in any mode; running is when QMP answers.
 * 4. direct_keeper_add() then keeps the namespace's set of own addresses current.
 *
 * The end:
 * 1. By itself or over QMP, QEMU ends first, pasta and the guard follow. The guard's exit code is QEMU's, or 128 and the
 *    signal that ended it.
 * 2. By force: direct_kill() instead of child_signal(..., SIGKILL); the guard kills and reaps all of it.
 * 3. The guard ends when nothing of the machine is left: child.exit_fd and child_reap() mean what they mean in any mode.
 * 4. direct_keeper_remove(), whose failure is the cause of the end if it has one, then direct_close() in place of
 *    child_close().
 *
 * If the daemon dies, at whatever moment, the guard is told by the kernel and ends the rest. If pasta dies, the guard and
 * PR_SET_PDEATHSIG end QEMU. If the guard is killed, PR_SET_PDEATHSIG ends pasta, and pasta's death QEMU. */
#ifndef VMM_DIRECT_H
#define VMM_DIRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "vmm/child.h"
#include "vmm/command.h"
#include "vmm/direct_rules.h"

/**
 * struct direct_spec - A hypervisor to start in a namespace of its own
 * @command: with the program's absolute path first; NULL: make the namespace, and end
 * @fds:     what the hypervisor finds, as for child_prepare(); COMMAND_FD_NET is the tap and must not be among them
 *
 * Owner: the caller; nothing is kept.
 */
struct direct_spec {
    struct nat_endpoint consumer;
    bool allow_private;
    const struct command *command;
    const struct child_fd *fds;
    size_t fd_count;
};

/**
 * struct direct - What a direct machine has beside its child
 * @line_fd:     to the launcher; -1 once it has become the hypervisor or has failed
 * @pid:         of the launcher and then of the hypervisor, as this process sees it; 0: not known yet
 * @pidfd:       of the same process; -1: not known yet
 * @start_ticks: with the pid its identity
 *
 * Owner: whoever called direct_spawn(), until direct_close().
 */
struct direct {
    int line_fd;
    pid_t pid;
    int pidfd;
    uint64_t start_ticks;
};

/** direct_init() - A namespace that is not there; direct_close() is allowed on it. Thread: any */
void direct_init(struct direct *direct);

/**
 * direct_spawn() - Have a guard wait that is to start pasta, launcher and hypervisor
 * @ret_direct, @ret_guard: filled on success
 * Return: 0; -ENOENT when a program is missing (err names it in field); or what failed. What goes wrong later is told by
 *         the child's output and its end
 * Thread: as child_prepare(): everything is killed when the calling thread ends
 */
int direct_spawn(const struct direct_spec *spec, struct direct *ret_direct, struct child *ret_guard, struct error *err);

/**
 * direct_receive() - Take what the launcher says, without waiting
 * Return: 1 once, when the hypervisor begins; 0 nothing new; negative when the line is closed before that
 * Thread: the machine's owner
 */
int direct_receive(struct direct *direct, struct error *err);

/** direct_kill() - End the hypervisor and all around it; the guard's end follows. Thread: the machine's owner */
void direct_kill(const struct child *guard);

/** direct_close() - End and reap what still runs, close descriptors; at most 2 s. Thread: the machine's owner */
void direct_close(struct direct *direct, struct child *guard);

/**
 * direct_find_tool() - The path of a system program, also where only root looks for it (sbin)
 * Return: 0; -ENOENT with the name in field and the package in the message
 * Thread: any
 */
int direct_find_tool(const char *name, char ret_path[static VMM_PATH_BYTES], struct error *err);

#endif

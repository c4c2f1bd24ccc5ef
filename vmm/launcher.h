/* What stands between the daemon and the hypervisor of a direct machine: it prepares the namespace that pasta made, gives
 * up every capability and becomes the hypervisor. */
#ifndef VMM_LAUNCHER_H
#define VMM_LAUNCHER_H

#include <stddef.h>

#include "base/error.h"
#include "vmm/child.h"
#include "vmm/command.h"
#include "vmm/direct_rules.h"

enum launcher_limits {
    LAUNCHER_LINE_FD = 3, /* where child_prepare() puts the line for the first of the launcher's two lives */
    LAUNCHER_VERSION_BYTES = 32,
    LAUNCHER_UPLINK_MS = 3000, /* pasta takes 20 */
    LAUNCHER_READY = 'R',      /* the one message that comes back */
};

/**
 * struct launcher_order - All that the launcher is told, in one message beside the descriptors
 * @version: of the program that wrote it: both ends are the same program, or nothing is launched
 * @arguments: the hypervisor's; 0: prepare the namespace, say so and end, which is a trial
 * @fd_to:   where the descriptors of the message go, in their order
 * @text:    the arguments, each with its NUL
 *
 * Owner: whoever holds the copy. It has no pointers.
 */
struct launcher_order {
    char version[LAUNCHER_VERSION_BYTES];
    struct direct_rules rules;
    size_t arguments;
    size_t fd_count;
    int fd_to[CHILD_FD_MAX];
    size_t text_bytes;
    char text[COMMAND_TEXT_BYTES];
};

/**
 * launcher_order_make() - Write an order
 * @command:   of the hypervisor; NULL for a trial
 * @fds:       @to must not be COMMAND_FD_NET, where the tap goes
 * @ret_order: filled
 * Thread:     any
 */
void launcher_order_make(const struct direct_rules *rules, const struct command *command, const struct child_fd *fds,
                         size_t fd_count, struct launcher_order *ret_order);

/**
 * launcher_order_check() - Whether what arrived is an order of this program
 * @bytes:    how many arrived
 * @fd_count: how many descriptors came with them
 * @ret_argv: points into @order; ends with NULL
 * Return:    0 or -EBADMSG
 * Thread:    any
 */
int launcher_order_check(struct launcher_order *order, size_t bytes, size_t fd_count,
                         char *ret_argv[static COMMAND_ARGS_MAX + 1], struct error *err);

/**
 * launcher_send() - Put an order and its descriptors on the line
 * @line_fd: SOCK_SEQPACKET; the far end becomes the launcher's
 * Return:   0 or negative
 * Thread:   any
 */
int launcher_send(int line_fd, const struct launcher_order *order, const struct child_fd *fds, struct error *err);

#endif

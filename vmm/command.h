/* An argument vector that owns its text, and the descriptor numbers that a hypervisor finds when it starts. */
#ifndef VMM_COMMAND_H
#define VMM_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "vmm/vmm.h"

enum command_limits {
    COMMAND_ARGS_MAX = 80,     /* QEMU takes 60; the rest is room for another hypervisor */
    COMMAND_TEXT_BYTES = 4096, /* a kernel command line takes 512 of them */
};

/**
 * enum command_fd - The exact descriptors of a hypervisor beside 0, 1 and 2
 *
 * The parent opens, the child uses: nothing here has to be found again by a path. KERNEL and INITRD are the very
 * files whose digests were compared.
 */
enum command_fd {
    COMMAND_FD_FIRST = 3,
    COMMAND_FD_NET = 3,      /* the attachment; not with COMMAND_NET_NAMED */
    COMMAND_FD_CONSOLE = 4,  /* SOCK_STREAM, connected; listening with COMMAND_NET_NAMED */
    COMMAND_FD_QMP = 5,      /* SOCK_STREAM, listening */
    COMMAND_FD_SEED = 6,     /* opened O_RDONLY */
    COMMAND_FD_KERNEL = 7,   /* opened O_RDONLY */
    COMMAND_FD_INITRD = 8,   /* opened O_RDONLY */
    COMMAND_FD_DISK = 9,     /* opened O_RDWR; only where the machine has a disk */
    COMMAND_FD_BASE = 10,    /* opened O_RDONLY; only where the image has a root disk, as the next */
    COMMAND_FD_OVERLAY = 11, /* opened O_RDWR; takes what the guest writes to its root disk */
    COMMAND_FD_END = 12,     /* one past the last */
    COMMAND_FD_COUNT = COMMAND_FD_END - COMMAND_FD_FIRST,
};

/**
 * struct command - What to execute
 * @count:  arguments so far, the program among them
 * @failed: set by the first argument that did not fit; the command must not be run
 * @used:   bytes of @text in use
 * @argv:   point into @text; ends with NULL
 *
 * Owner: whoever built it. It points into itself: it is filled in place and never copied.
 */
struct command {
    size_t count;
    bool failed;
    size_t used;
    char *argv[COMMAND_ARGS_MAX + 1];
    char text[COMMAND_TEXT_BYTES];
};

/**
 * command_start() - Begin a command with its program
 * @program: becomes argv[0]
 * Thread:   the command's owner
 */
void command_start(struct command *command, const char *program);

/**
 * command_add() - Add one argument
 * @format: printf format of the argument
 * Thread:  the command's owner
 */
void command_add(struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/**
 * command_find() - The path of a program, looked for in PATH when its name has no slash
 * @program:  name or path
 * @ret_path: filled on success
 * Return:    0; -ENOENT when it is not there or not executable; -ENAMETOOLONG
 * Thread:    any
 */
int command_find(const char *program, char ret_path[static VMM_PATH_BYTES], struct error *err);

#endif

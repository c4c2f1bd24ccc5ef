/* From values to the argument vector that makes a direct machine's namespace. Pure. */
#ifndef VMM_COMMAND_PASTA_H
#define VMM_COMMAND_PASTA_H

#include "base/error.h"
#include "vmm/command.h"

#define COMMAND_PASTA_LAUNCHER "direct-launch" /* the launcher's name as a subcommand of this program */

/**
 * struct command_pasta - What the command depends on
 * @pasta:   path of pasta(1)
 * @program: path of this very program
 *
 * Owner: the caller; nothing is kept.
 */
struct command_pasta {
    const char *pasta;
    const char *program;
};

/**
 * command_pasta_build() - Write the arguments: this program as launcher, which runs pasta, which runs it once more inside
 * @ret_command: filled on success, else empty
 * Return:       0; -EINVAL with the value's name in field when a path is not absolute; -E2BIG
 * Thread:       any
 */
int command_pasta_build(const struct command_pasta *pasta, struct command *ret_command, struct error *err);

#endif

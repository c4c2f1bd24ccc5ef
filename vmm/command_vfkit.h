/* From values to vfkit's argument vector. Pure: the same values give the same arguments on every system. */
#ifndef VMM_COMMAND_VFKIT_H
#define VMM_COMMAND_VFKIT_H

#include <stdint.h>

#include "base/error.h"
#include "nat/nat.h"
#include "vmm/command.h"

/**
 * struct command_vfkit - What one machine's command depends on
 * @program:             name or path
 * @control_socket:      where vfkit is to listen for its REST interface; as every path here absolute, of printable ASCII
 *                       without comma, quote, backslash or what a URI takes apart
 * @kernel, @initrd:     files
 * @kernel_command_line: printable ASCII without a quotation mark
 * @root:                a raw disk, the guest's first; NULL: there is none
 * @seed:                the seed volume
 * @disk:                a raw disk, the guest's last; NULL: there is none
 * @console:             the file into which the guest's console goes
 *
 * Owner: the caller; nothing is kept.
 */
struct command_vfkit {
    const char *program;
    uint32_t vcpus;
    uint32_t memory_mib;
    const char *control_socket;
    const char *kernel;
    const char *initrd;
    const char *kernel_command_line;
    const char *root;
    const char *seed;
    const char *disk;
    const char *console;
    struct nat_mac guest_mac;
};

/**
 * command_vfkit_build() - Write the arguments for one machine; its network is COMMAND_FD_NET, a connected datagram socket
 * @vfkit:       every value is checked before it becomes part of an option
 * @ret_command: filled on success, else empty
 * Return:       0; -EINVAL with the value's name in field; -E2BIG
 * Thread:       any
 * Source:       vfkit doc/usage.md
 */
int command_vfkit_build(const struct command_vfkit *vfkit, struct command *ret_command, struct error *err);

#endif

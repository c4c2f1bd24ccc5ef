/* From values to QEMU's argument vector. Pure: the same values give the same arguments on every system. */
#ifndef VMM_COMMAND_QEMU_H
#define VMM_COMMAND_QEMU_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "nat/nat.h"
#include "vmm/command.h"

/** enum command_net - What stands at COMMAND_FD_NET. */
enum command_net {
    COMMAND_NET_DGRAM,  /* one end of an attachment; the NAT has the other */
    COMMAND_NET_STREAM, /* the same as a stream: each frame behind its length */
    COMMAND_NET_NAMED, /* nothing: two names in the machine's folder, so that another daemon's NAT can come in its place */
    COMMAND_NET_TAP, /* an attached tap device of the machine's own namespace; the launcher opened it */
};

/**
 * struct command_qemu - What one machine's command depends on
 * @program:             name or path
 * @accel:               "kvm" or "tcg"
 * @cpu:                 one of QEMU's model names, without features
 * @name:                the lease's id
 * @kernel_command_line: printable ASCII
 * @has_disk:            COMMAND_FD_DISK is there
 * @vm_socket:           COMMAND_NET_NAMED only: absolute path that the hypervisor binds
 * @host_socket:         the same for the NAT's, to which each frame is sent. While nobody has bound it, frames are lost
 * @base_format:         "raw" or "qcow2": COMMAND_FD_BASE is a root disk in this format, and COMMAND_FD_OVERLAY a qcow2 file
 *                       that takes what is written to it; NULL: there is none. It is the guest's first disk
 *
 * Owner: the caller; nothing is kept.
 */
struct command_qemu {
    const char *program;
    const char *accel;
    const char *cpu;
    const char *name;
    uint32_t vcpus;
    uint32_t memory_mib;
    enum command_net net;
    const char *vm_socket;
    const char *host_socket;
    struct nat_mac guest_mac;
    const char *kernel_command_line;
    bool has_disk;
    const char *base_format;
};

/**
 * command_qemu_build() - Write the arguments for one machine
 * @qemu:        every value is checked before it becomes part of an option
 * @ret_command: filled on success, else empty
 * Return:       0; -EINVAL with the value's name in field; -E2BIG
 * Thread:       any
 */
int command_qemu_build(const struct command_qemu *qemu, struct command *ret_command, struct error *err);

#endif

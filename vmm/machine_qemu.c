/* A machine whose hypervisor is QEMU: what it is given, and how it is spoken to. Everything goes in as a descriptor. */
#include <sys/socket.h>
#include <unistd.h>

#include "base/scope.h"
#include "vmm/channel.h"
#include "vmm/command.h"
#include "vmm/command_qemu.h"
#include "vmm/machine.h"
#include "vmm/machine_files.h"

static enum command_net net_of(const struct machine *machine, const struct machine_places *places)
{
    if (machine->spec->direct)
        return COMMAND_NET_TAP;
    if (machine->outlives)
        return COMMAND_NET_NAMED;
    return machine_framing(machine, places) == NAT_FRAMING_STREAM ? COMMAND_NET_STREAM : COMMAND_NET_DGRAM;
}

static int build_command(const struct machine *machine, const struct machine_places *places,
                         const struct vmm_accel *accel, struct command *ret_command, struct error *err)
{
    char vm_socket[MACHINE_FILE_PATH_BYTES];
    char host_socket[MACHINE_FILE_PATH_BYTES];
    const struct command_qemu qemu = {
        .program = places->program,
        .accel = accel->name,
        .cpu = accel->cpu,
        .name = machine->spec->id.text,
        .vcpus = machine->spec->vcpus,
        .memory_mib = machine->spec->memory_mib,
        .net = net_of(machine, places),
        .vm_socket = machine_file_path(places, &machine->spec->id, MACHINE_FILE_VM, vm_socket),
        .host_socket = machine_file_path(places, &machine->spec->id, MACHINE_FILE_FRAMES, host_socket),
        .guest_mac = machine->spec->guest_mac,
        .kernel_command_line = machine->image.image.command_line,
        .has_disk = machine->disk_fd >= 0,
        .base_format = machine->overlay_fd < 0 ? NULL : machine->image.image.disk_format,
    };
    return command_qemu_build(&qemu, ret_command, err);
}

static int spawn_qemu(struct machine *machine, const struct machine_places *places, const struct command *command,
                      int console_fd, int listen_fd, struct error *err)
{
    const struct child_fd all[COMMAND_FD_COUNT] = {
        {machine->attachment.guest_fd, COMMAND_FD_NET},
        {console_fd, COMMAND_FD_CONSOLE},
        {listen_fd, COMMAND_FD_QMP},
        {machine->seed_fd, COMMAND_FD_SEED},
        {machine->image.kernel_fd, COMMAND_FD_KERNEL},
        {machine->image.initrd_fd, COMMAND_FD_INITRD},
        {machine->disk_fd, COMMAND_FD_DISK},
        {machine->image.disk_fd, COMMAND_FD_BASE},
        {machine->overlay_fd, COMMAND_FD_OVERLAY},
    };
    struct child_fd fds[COMMAND_FD_COUNT];
    size_t count = 0;
    for (size_t at = 0; at < COMMAND_FD_COUNT; at++)
        if (all[at].from >= 0)
            fds[count++] = all[at];
    const struct direct_spec direct = {.consumer = machine->spec->tunnel.consumer,
                                       .allow_private = places->allow_private,
                                       .command = command,
                                       .fds = fds,
                                       .fd_count = count};
    if (machine->spec->direct) {
        /* Nothing needs to be known of the guard first: it dies with this daemon, and the hypervisor with it. */
        int rc = direct_spawn(&direct, &machine->direct, &machine->child, err);
        return rc == 0 ? machine_release_child(machine, err) : rc;
    }
    return child_prepare(places->program, command->argv, fds, count,
                         machine->outlives ? CHILD_OUTLIVES_PARENT : CHILD_DIES_WITH_PARENT, &machine->child, err);
}

static int open_channels(struct machine *machine, const struct machine_places *places, int *ret_console_fd,
                         int *ret_qmp_fd, struct error *err)
{
    char path[MACHINE_FILE_PATH_BYTES];
    int qmp_fd = -1;
    /* The boot watchdog's second start finds the names of the first. */
    (void)unlinkat(machine->folder_fd, MACHINE_FILE_CONSOLE, 0);
    (void)unlinkat(machine->folder_fd, MACHINE_FILE_QMP, 0);
    int rc = machine->outlives ? channel_open(machine_file_path(places, &machine->spec->id, MACHINE_FILE_CONSOLE, path),
                                              true, ret_console_fd, &machine->console_fd, err)
                               : attachment_pair(SOCK_STREAM, &machine->console_fd, ret_console_fd, err);
    if (rc == 0)
        rc = channel_open(machine_file_path(places, &machine->spec->id, MACHINE_FILE_QMP, path), machine->outlives,
                          ret_qmp_fd, &qmp_fd, err);
    if (rc == 0)
        qmp_init(&machine->qmp, qmp_fd);
    return rc;
}

int machine_qemu_spawn(struct machine *machine, const struct machine_places *places, const struct vmm_accel *accel,
                       struct error *err)
{
    struct command command;
    int console_fd SCOPED_FD = -1;
    int listen_fd SCOPED_FD = -1;
    int rc = build_command(machine, places, accel, &command, err);
    if (rc == 0)
        rc = open_channels(machine, places, &console_fd, &listen_fd, err);
    return rc != 0 ? rc : spawn_qemu(machine, places, &command, console_fd, listen_fd, err);
}

bool machine_qemu_answers(const struct machine *machine)
{
    return machine->qmp.state == QMP_READY;
}

int machine_qemu_ask_to_end(struct machine *machine, const struct machine_places *places, enum machine_step step)
{
    (void)places;
    return qmp_send(&machine->qmp, step == MACHINE_STEP_POWERDOWN ? QMP_SYSTEM_POWERDOWN : QMP_QUIT);
}

#include "vmm/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/scope.h"
#include "vmm/channel.h"
#include "vmm/command.h"
#include "vmm/command_qemu.h"
#include "vmm/machine_files.h"

enum { GUARD_SIGNAL_BASE = 128 };

struct machine *machine_create(const struct vmm_spec *spec)
{
    struct machine *machine = calloc(1, sizeof *machine);
    if (machine == NULL)
        return NULL;
    machine->spec = sodium_malloc(sizeof *machine->spec);
    if (machine->spec == NULL) {
        free(machine);
        return NULL;
    }
    *machine->spec = *spec;
    machine->image.kernel_fd = -1;
    machine->image.initrd_fd = -1;
    machine->image.disk_fd = -1;
    machine->folder_fd = -1;
    machine->seed_fd = -1;
    machine->disk_fd = -1;
    machine->overlay_fd = -1;
    machine->attachment = (struct attachment){-1, -1};
    machine->report_fd = -1;
    machine->console_fd = -1;
    machine->exit.code = -1;
    child_init(&machine->child);
    direct_init(&machine->direct);
    qmp_init(&machine->qmp, -1);
    console_init(&machine->console);
    tunnel_watch_init(&machine->tunnel, spec->direct ? 0 : spec->tunnel_timeout_ms,
                      spec->direct ? 0 : spec->tunnel_lost_ms);
    return machine;
}

void machine_free(struct machine *machine)
{
    console_done(&machine->console);
    sodium_free(machine->spec); /* wipes it */
    free(machine);
}

/* ---- starting ---------------------------------------------------------------------------------------------- */

/* A stream has no names that another daemon's NAT could take over, and the socket of an external machine is datagrams. */
static enum nat_framing framing_of(const struct machine *machine, const struct machine_places *places)
{
    return machine->outlives || machine->spec->external ? NAT_FRAMING_DATAGRAM : places->attachment;
}

static enum command_net net_of(const struct machine *machine, const struct machine_places *places)
{
    if (machine->spec->direct)
        return COMMAND_NET_TAP;
    if (machine->outlives)
        return COMMAND_NET_NAMED;
    return framing_of(machine, places) == NAT_FRAMING_STREAM ? COMMAND_NET_STREAM : COMMAND_NET_DGRAM;
}

/* The NAT at the host's end of the cable. */
static int start_nat(struct machine *machine, const struct machine_places *places, bool peer_known,
                     struct nat **ret_nat, struct error *err)
{
    int far_fd SCOPED_FD = -1;
    int rc = attachment_pair(ATTACHMENT_REPORTS, &machine->report_fd, &far_fd, err);
    if (rc != 0)
        return rc;
    const struct nat_config config = {
        .frame_fd = machine->attachment.host_fd,
        .framing = framing_of(machine, places),
        .peer_known = peer_known,
        .report_fd = far_fd,
        .flows_max = places->flows_max,
        .resume = machine->spec->resume,
        .confinement = places->confinement,
        .link = {.guest_mac = machine->spec->guest_mac,
                 .guest_ip = VMM_LINK_GUEST_IP,
                 .gateway_ip = VMM_LINK_GATEWAY_IP,
                 .prefix = VMM_LINK_PREFIX,
                 .mtu = MACHINE_LINK_MTU},
    };
    rc = nat_start(&config, ret_nat, err);
    if (rc != 0)
        return rc;
    (void)fd_take(&machine->attachment.host_fd);
    (void)fd_take(&far_fd);
    return 0;
}

int machine_socket_path(const struct machine_places *places, const struct id *id, char ret_path[static VMM_PATH_BYTES],
                        struct error *err)
{
    struct sockaddr_un unused;
    char path[MACHINE_FILE_PATH_BYTES];
    int rc = attachment_address(machine_file_path(places, id, MACHINE_FILE_FRAMES, path), &unused, err);
    if (rc == 0)
        snprintf(ret_path, VMM_PATH_BYTES, "%.*s", VMM_PATH_BYTES - 1, path);
    return rc;
}

/* The NAT's end at its name. An adopted machine's hypervisor has its own end already: with that alone we speak. */
static int lay_named(struct machine *machine, const struct machine_places *places, struct error *err)
{
    char path[MACHINE_FILE_PATH_BYTES];
    if (machine->adopted)
        (void)unlinkat(machine->folder_fd, MACHINE_FILE_FRAMES, 0); /* the earlier daemon's */
    int rc = attachment_listen(machine_file_path(places, &machine->spec->id, MACHINE_FILE_FRAMES, path),
                               &machine->attachment.host_fd, err);
    if (rc == 0 && machine->adopted)
        rc = attachment_connect(machine->attachment.host_fd,
                                machine_file_path(places, &machine->spec->id, MACHINE_FILE_VM, path), err);
    return rc;
}

static int attach_external(struct machine *machine, const struct machine_places *places, struct nat **ret_nat,
                           struct error *err)
{
    (void)machine_remove_folder(places->machines_fd, machine->spec->id.text); /* an earlier daemon's */
    int rc = machine_make_folder(machine, places, err);
    if (rc == 0)
        rc = lay_named(machine, places, err);
    if (rc == 0)
        rc = start_nat(machine, places, false, ret_nat, err);
    fd_close(&machine->folder_fd); /* a thousand of them are a thousand descriptors */
    return rc;
}

int machine_attach(struct machine *machine, const struct machine_places *places, struct nat **ret_nat,
                   struct error *err)
{
    if (machine->spec->external)
        return attach_external(machine, places, ret_nat, err);
    int rc = machine->outlives ? lay_named(machine, places, err)
                               : attachment_open(framing_of(machine, places), &machine->attachment, err);
    return rc != 0 ? rc : start_nat(machine, places, !machine->outlives || machine->adopted, ret_nat, err);
}

/* ---- adopting ---------------------------------------------------------------------------------------------- */

int machine_adopt(struct machine *machine, const struct machine_places *places, struct error *err)
{
    const struct id *id = &machine->spec->id;
    char path[MACHINE_FILE_PATH_BYTES];
    int qmp_fd = -1;
    machine->folder_fd = openat(places->machines_fd, id->text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (machine->folder_fd < 0)
        return error_set(err, -errno, "the machine's folder: %s", strerror(errno));
    int rc = channel_reopen(machine_file_path(places, id, MACHINE_FILE_QMP, path), &qmp_fd, err);
    if (rc != 0)
        return rc;
    qmp_init(&machine->qmp, qmp_fd);
    return channel_reopen(machine_file_path(places, id, MACHINE_FILE_CONSOLE, path), &machine->console_fd, err);
}

/* ---- the hypervisor ---------------------------------------------------------------------------------------- */

static int build_command(const struct machine *machine, const struct machine_places *places,
                         const struct vmm_accel *accel, struct command *ret_command, struct error *err)
{
    char vm_socket[MACHINE_FILE_PATH_BYTES];
    char host_socket[MACHINE_FILE_PATH_BYTES];
    const struct command_qemu qemu = {
        .program = places->qemu,
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

int machine_missing(const char *qemu, struct error *err)
{
    error_set(err, -ENOENT, "%.200s: no such program; install it: apt install qemu-system-x86", qemu);
    error_tag(err, "hypervisor-missing", "qemu");
    return -ENOENT;
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
    if (machine->spec->direct)
        return direct_spawn(&direct, &machine->direct, &machine->child, err);
    return child_prepare(places->qemu, command->argv, fds, count,
                         machine->outlives ? CHILD_OUTLIVES_PARENT : CHILD_DIES_WITH_PARENT, &machine->child, err);
}

int machine_release_child(struct machine *machine, const struct machine_places *places, struct error *err)
{
    int rc = child_release(&machine->child, places->qemu, err);
    return rc == -ENOENT ? machine_missing(places->qemu, err) : rc;
}

static void close_processes(struct machine *machine)
{
    if (machine->spec->direct)
        direct_close(&machine->direct, &machine->child);
    child_close(&machine->child);
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

int machine_spawn(struct machine *machine, const struct machine_places *places, const struct vmm_accel *accel,
                  struct error *err)
{
    close_processes(machine);
    qmp_close(&machine->qmp);
    fd_close(&machine->console_fd);
    machine->accel = *accel;
    struct command command;
    int console_fd SCOPED_FD = -1;
    int listen_fd SCOPED_FD = -1;
    int rc = build_command(machine, places, accel, &command, err);
    if (rc == 0)
        rc = open_channels(machine, places, &console_fd, &listen_fd, err);
    return rc != 0 ? rc : spawn_qemu(machine, places, &command, console_fd, listen_fd, err);
}

void machine_kill(const struct machine *machine)
{
    if (machine->spec->direct)
        direct_kill(&machine->child);
    else
        (void)child_signal(&machine->child, SIGKILL);
}

bool machine_reap(struct machine *machine)
{
    if (!child_reap(&machine->child, &machine->exit))
        return false;
    /* The guard says like a shell which signal ended its hypervisor. */
    if (machine->spec->direct && machine->exit.code > GUARD_SIGNAL_BASE)
        machine->exit = (struct child_exit){.code = -1, .signal = machine->exit.code - GUARD_SIGNAL_BASE};
    return true;
}

void machine_settle(struct machine *machine)
{
    fd_close(&machine->attachment.guest_fd);
    fd_close(&machine->seed_fd);
    fd_close(&machine->disk_fd);
    fd_close(&machine->overlay_fd);
    image_files_close(&machine->image);
}

/* ---- clearing away ----------------------------------------------------------------------------------------- */

void machine_leave(struct machine *machine)
{
    REQUIRE(machine->nat == NULL && machine->outlives);
    child_leave(&machine->child);
    qmp_close(&machine->qmp);
    fd_close(&machine->console_fd);
    fd_close(&machine->report_fd);
    attachment_close(&machine->attachment);
    machine_settle(machine);
    fd_close(&machine->folder_fd);
}

void machine_release(struct machine *machine, const struct machine_places *places)
{
    REQUIRE(machine->nat == NULL);
    close_processes(machine);
    qmp_close(&machine->qmp);
    fd_close(&machine->console_fd);
    fd_close(&machine->report_fd);
    attachment_close(&machine->attachment);
    machine_settle(machine);
    if (machine->folder_fd >= 0 || machine->spec->external)
        machine_remove_own_folder(machine, places);
    fd_close(&machine->folder_fd);
}

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
#include "vmm/hypervisor.h"
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
    rest_init(&machine->rest);
    console_file_init(&machine->console_file);
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
enum nat_framing machine_framing(const struct machine *machine, const struct machine_places *places)
{
    return machine->outlives || machine->spec->external ? NAT_FRAMING_DATAGRAM : places->attachment;
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
        .framing = machine_framing(machine, places),
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
                               : attachment_open(machine_framing(machine, places), &machine->attachment, err);
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

int machine_release_child(struct machine *machine, struct error *err)
{
    int rc = child_release(&machine->child);
    return rc == 0 ? 0 : error_set(err, rc, "the machine's process does not hear: %s", strerror(-rc));
}

int machine_started(struct machine *machine, const struct machine_places *places, struct error *err)
{
    if (machine->spec->direct)
        return child_started(&machine->child, "the guard of direct mode", err);
    int rc = child_started(&machine->child, places->program, err);
    return rc == -ENOENT ? hypervisor_missing(places->hypervisor, places->program, err) : rc;
}

static void close_channels(struct machine *machine)
{
    qmp_close(&machine->qmp);
    rest_close(&machine->rest);
    fd_close(&machine->console_fd);
    console_file_close(&machine->console_file);
}

static void close_processes(struct machine *machine)
{
    if (machine->spec->direct)
        direct_close(&machine->direct, &machine->child);
    child_close(&machine->child);
}

int machine_spawn(struct machine *machine, const struct machine_places *places, const struct vmm_accel *accel,
                  struct error *err)
{
    close_processes(machine);
    close_channels(machine);
    machine->accel = *accel;
    return places->hypervisor->spawn(machine, places, accel, err);
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
    close_channels(machine);
    fd_close(&machine->report_fd);
    attachment_close(&machine->attachment);
    machine_settle(machine);
    fd_close(&machine->folder_fd);
}

void machine_release(struct machine *machine, const struct machine_places *places)
{
    REQUIRE(machine->nat == NULL);
    close_processes(machine);
    close_channels(machine);
    fd_close(&machine->report_fd);
    attachment_close(&machine->attachment);
    machine_settle(machine);
    if (machine->folder_fd >= 0 || machine->spec->external)
        machine_remove_own_folder(machine, places);
    machine_remove_disks(machine, places);
    fd_close(&machine->folder_fd);
}

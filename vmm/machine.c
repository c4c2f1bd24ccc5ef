#include "vmm/machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "vmm/channel.h"
#include "vmm/command.h"
#include "vmm/command_qemu.h"
#include "vmm/deb_files.h"
#include "vmm/overlay.h"
#include "vmm/own_addresses.h"
#include "vmm/seed.h"

enum { GUARD_SIGNAL_BASE = 128 };

static const char seed_name[] = "seed.iso";
static const char qmp_name[] = "qmp.sock";
static const char console_name[] = "console.sock"; /* of a machine that outlives the daemon, as the next */
static const char vm_name[] = "vm.sock";           /* the hypervisor's end of the cable */
static const char frames_name[] = "frames.sock";   /* the NAT's end, also of an external machine */

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

/* ---- preparing --------------------------------------------------------------------------------------------- */

static int make_folder(struct machine *machine, const struct machine_places *places, struct error *err)
{
    const char *name = machine->spec->id.text;
    if (mkdirat(places->machines_fd, name, S_IRWXU) == 0)
        machine->folder_fd = openat(places->machines_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (machine->folder_fd < 0) {
        int rc = error_set(err, -errno, "cannot make the machine's folder: %s", strerror(errno));
        (void)unlinkat(places->machines_fd, name,
                       AT_REMOVEDIR); /* made and not opened; one with something in it stays */
        return rc;
    }
    return 0;
}

static void wipe_secrets(struct vmm_tunnel *tunnel)
{
    sodium_memzero(tunnel->private_key, sizeof tunnel->private_key);
    sodium_memzero(tunnel->preshared_key, sizeof tunnel->preshared_key);
}

/* Neither the seed volume, which holds the machine's key, nor the disks have a name once they are open: however the daemon
 * ends, nothing of them is left. */
static int write_seed(struct machine *machine, const struct deb_files *packages, struct error *err)
{
    int rc = seed_write(machine->folder_fd, seed_name, machine->spec, packages, &machine->seed_fd, err);
    if (rc == 0 && unlinkat(machine->folder_fd, seed_name, 0) != 0)
        rc = error_set(err, -errno, "cannot unlink the seed volume: %s", strerror(errno));
    return rc;
}

static int make_seed(struct machine *machine, const struct machine_places *places, struct error *err)
{
    if (machine->spec->boot_isolation != VMM_BOOT_OFFLINE_PACKAGES)
        return write_seed(machine, NULL, err);
    struct deb_files packages;
    int rc = deb_files_open(places->packages_dir, &packages, err);
    if (rc != 0)
        return rc;
    rc = write_seed(machine, &packages, err);
    deb_files_close(&packages);
    return rc;
}

enum { DISK_PATH_BYTES = VMM_PATH_BYTES + ID_TEXT_BYTES + sizeof "/.overlay" };

static const char *disk_path(const struct machine *machine, const struct machine_places *places, const char *kind,
                             char ret_path[static DISK_PATH_BYTES])
{
    snprintf(ret_path, DISK_PATH_BYTES, "%s/%s.%s", places->disk_dir, machine->spec->id.text, kind);
    return ret_path;
}

static int make_disk(struct machine *machine, const struct machine_places *places, struct error *err)
{
    uint32_t mib = machine->spec->disk_mib;
    if (mib == 0)
        return 0;
    char path[DISK_PATH_BYTES];
    disk_path(machine, places, "disk", path);
    machine->disk_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (machine->disk_fd < 0 || unlink(path) != 0 || ftruncate(machine->disk_fd, (off_t)mib * 1024 * 1024) != 0)
        return error_set(err, -errno, "cannot make a disk of %u MiB: %s", (unsigned)mib, strerror(errno));
    return 0;
}

static int make_overlay(struct machine *machine, const struct machine_places *places, struct error *err)
{
    char path[DISK_PATH_BYTES];
    if (machine->image.disk_fd < 0)
        return 0;
    return overlay_make(disk_path(machine, places, "overlay", path), machine->image.disk_size_bytes,
                        &machine->overlay_fd, err);
}

int machine_prepare(struct machine *machine, const struct machine_places *places, struct image_cache *cache)
{
    struct error *err = &machine->prepare_error;
    int rc = machine->cancelled ? error_set(err, -ECANCELED, "cancelled") : 0;
    if (rc == 0)
        rc = image_open_verified(places->image_dir, machine->spec->image, cache, &machine->image, err);
    if (rc == 0 && machine->cancelled)
        rc = error_set(err, -ECANCELED, "cancelled");
    if (rc == 0)
        rc = make_folder(machine, places, err);
    if (rc == 0)
        rc = make_seed(machine, places, err);
    wipe_secrets(&machine->spec->tunnel);
    if (rc == 0)
        rc = make_disk(machine, places, err);
    if (rc == 0)
        rc = make_overlay(machine, places, err);
    return rc;
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

enum { FILE_PATH_BYTES = 2 * VMM_PATH_BYTES };

static const char *file_path(const struct machine_places *places, const struct id *id, const char *name,
                             char ret_path[static FILE_PATH_BYTES])
{
    snprintf(ret_path, FILE_PATH_BYTES, "%s/machines/%s/%s", places->runtime_dir, id->text, name);
    return ret_path;
}

int machine_socket_path(const struct machine_places *places, const struct id *id, char ret_path[static VMM_PATH_BYTES],
                        struct error *err)
{
    struct sockaddr_un unused;
    char path[FILE_PATH_BYTES];
    int rc = attachment_address(file_path(places, id, frames_name, path), &unused, err);
    if (rc == 0)
        snprintf(ret_path, VMM_PATH_BYTES, "%.*s", VMM_PATH_BYTES - 1, path);
    return rc;
}

/* The NAT's end at its name. An adopted machine's hypervisor has its own end already: with that alone we speak. */
static int lay_named(struct machine *machine, const struct machine_places *places, struct error *err)
{
    char path[FILE_PATH_BYTES];
    if (machine->adopted)
        (void)unlinkat(machine->folder_fd, frames_name, 0); /* the earlier daemon's */
    int rc =
        attachment_listen(file_path(places, &machine->spec->id, frames_name, path), &machine->attachment.host_fd, err);
    if (rc == 0 && machine->adopted)
        rc = attachment_connect(machine->attachment.host_fd, file_path(places, &machine->spec->id, vm_name, path), err);
    return rc;
}

static int attach_external(struct machine *machine, const struct machine_places *places, struct nat **ret_nat,
                           struct error *err)
{
    (void)machine_remove_folder(places->machines_fd, machine->spec->id.text); /* an earlier daemon's */
    int rc = make_folder(machine, places, err);
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
    char path[FILE_PATH_BYTES];
    int qmp_fd = -1;
    machine->folder_fd = openat(places->machines_fd, id->text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (machine->folder_fd < 0)
        return error_set(err, -errno, "the machine's folder: %s", strerror(errno));
    int rc = channel_reopen(file_path(places, id, qmp_name, path), &qmp_fd, err);
    if (rc != 0)
        return rc;
    qmp_init(&machine->qmp, qmp_fd);
    return channel_reopen(file_path(places, id, console_name, path), &machine->console_fd, err);
}

/* ---- the hypervisor ---------------------------------------------------------------------------------------- */

static bool holds(const struct nat_policy *policy, struct nat_endpoint endpoint)
{
    for (size_t i = 0; i < policy->allow_count; i++)
        if (policy->allow[i].ip == endpoint.ip && policy->allow[i].port == endpoint.port)
            return true;
    return false;
}

int machine_complete_policy(const struct machine *machine, struct nat_policy *policy, struct error *err)
{
    const struct nat_endpoint told = machine->spec->tunnel.consumer;
    if (policy->allow_count == 0)
        policy->allow[policy->allow_count++] = told;
    policy->known_as = holds(policy, told) ? (struct nat_endpoint){0} : told;
    int rc = own_addresses_read(policy->own, NAT_OWN_MAX, &policy->own_count, err);
    if (rc != 0 && policy->mode == NAT_MODE_SAMPLED)
        return rc;
    if (rc != 0)
        policy->own_count = 0; /* the other modes forward to the allowlist alone */
    return 0;
}

static int build_command(const struct machine *machine, const struct machine_places *places,
                         const struct vmm_accel *accel, struct command *ret_command, struct error *err)
{
    char vm_socket[FILE_PATH_BYTES];
    char host_socket[FILE_PATH_BYTES];
    const struct command_qemu qemu = {
        .program = places->qemu,
        .accel = accel->name,
        .cpu = accel->cpu,
        .name = machine->spec->id.text,
        .vcpus = machine->spec->vcpus,
        .memory_mib = machine->spec->memory_mib,
        .net = net_of(machine, places),
        .vm_socket = file_path(places, &machine->spec->id, vm_name, vm_socket),
        .host_socket = file_path(places, &machine->spec->id, frames_name, host_socket),
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
    char path[FILE_PATH_BYTES];
    int qmp_fd = -1;
    /* The boot watchdog's second start finds the names of the first. */
    (void)unlinkat(machine->folder_fd, console_name, 0);
    (void)unlinkat(machine->folder_fd, qmp_name, 0);
    int rc = machine->outlives ? channel_open(file_path(places, &machine->spec->id, console_name, path), true,
                                              ret_console_fd, &machine->console_fd, err)
                               : attachment_pair(SOCK_STREAM, &machine->console_fd, ret_console_fd, err);
    if (rc == 0)
        rc = channel_open(file_path(places, &machine->spec->id, qmp_name, path), machine->outlives, ret_qmp_fd, &qmp_fd,
                          err);
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

static void read_lines(struct machine *machine, const uint8_t *bytes, size_t length, bool *ret_ready)
{
    const char *ready_line = machine->image.image.ready_line;
    for (size_t taken; length > 0; bytes += taken, length -= taken) {
        struct guest_packet packet;
        taken = console_line_feed(&machine->line, bytes, length);
        if (!machine->line.ended)
            continue;
        if (guest_report_parse(machine->line.text, &packet))
            guest_reports_count(&machine->guest_reports, &packet);
        else if (ready_line[0] != '\0' && strstr(machine->line.text, ready_line) != NULL)
            *ret_ready = true;
    }
}

size_t machine_read_console(struct machine *machine, bool *ret_ready)
{
    size_t total = 0;
    for (int reads = 0; reads < MACHINE_CONSOLE_READS_MAX && machine->console_fd >= 0; reads++) {
        uint8_t bytes[MACHINE_CONSOLE_READ_BYTES];
        ssize_t length = read(machine->console_fd, bytes, sizeof bytes);
        if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            break;
        if (length <= 0) {
            fd_close(&machine->console_fd);
            break;
        }
        console_append(&machine->console, bytes, (size_t)length);
        read_lines(machine, bytes, (size_t)length, ret_ready);
        total += (size_t)length;
    }
    return total;
}

/* ---- clearing away ----------------------------------------------------------------------------------------- */

int machine_remove_folder(int machines_fd, const char *name)
{
    int fd = openat(machines_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    DIR *folder = fdopendir(fd);
    if (folder == NULL) {
        int code = -errno;
        close(fd);
        return code;
    }
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    return unlinkat(machines_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

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

/* Without a descriptor or memory, of which there may be none: what is known to be in it goes by name. */
static void remove_own_folder(const struct machine *machine, const struct machine_places *places)
{
    const char *const names[] = {seed_name, qmp_name, console_name, vm_name, frames_name};
    for (size_t at = 0; machine->folder_fd >= 0 && at < sizeof names / sizeof names[0]; at++)
        (void)unlinkat(machine->folder_fd, names[at], 0);
    if (unlinkat(places->machines_fd, machine->spec->id.text, AT_REMOVEDIR) != 0 && errno != ENOENT)
        (void)machine_remove_folder(places->machines_fd, machine->spec->id.text);
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
        remove_own_folder(machine, places);
    fd_close(&machine->folder_fd);
}

/* The folder's public functions: the runtime folder, the list of machines, and orders for the supervisor's thread. An
 * order is a mark on its machine, so that giving one needs no memory and a thousand of them are one. */
#include "vmm/vmm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/scope.h"
#include "vmm/command.h"
#include "vmm/deb_files.h"
#include "vmm/hypervisor.h"
#include "vmm/machine.h"
#include "vmm/own_addresses.h"
#include "vmm/supervisor.h"

/* ---- opening and closing ----------------------------------------------------------------------------------- */

static int copy_path(char ret_path[static VMM_PATH_BYTES], const char *path, const char *what, struct error *err)
{
    int length = snprintf(ret_path, VMM_PATH_BYTES, "%s", path);
    if (length > 0 && length < VMM_PATH_BYTES)
        return 0;
    error_set(err, -EINVAL, "%s: %s", what, length <= 0 ? "is empty" : "is too long");
    error_tag(err, NULL, what);
    return -EINVAL;
}

static int copy_config(struct vmm *vmm, const struct vmm_config *config, struct error *err)
{
    struct machine_places *places = &vmm->places;
    vmm->config = *config;
    vmm->config.image_dir = places->image_dir;
    vmm->config.runtime_dir = places->runtime_dir;
    vmm->config.cache_dir = config->cache_dir == NULL ? NULL : vmm->cache_dir;
    vmm->config.program = places->program;
    vmm->config.kvm_device = vmm->kvm_device;
    vmm->config.packages_dir = config->packages_dir == NULL ? NULL : places->packages_dir;
    places->allow_private = config->allow_private;
    places->flows_max = config->flows_max;
    places->hypervisor = hypervisor_of(config->hypervisor);
    places->attachment = places->hypervisor->can.streams ? config->attachment : NAT_FRAMING_DATAGRAM;
    places->keep_machines =
        config->keep_machines && places->hypervisor->can.keeps && places->attachment == NAT_FRAMING_DATAGRAM;
    const char *disk_dir = config->cache_dir == NULL ? config->runtime_dir : config->cache_dir;
    int rc = copy_path(places->image_dir, config->image_dir, "image_dir", err);
    if (rc == 0)
        rc = copy_path(places->runtime_dir, config->runtime_dir, "runtime_dir", err);
    if (rc == 0)
        rc = copy_path(places->disk_dir, disk_dir, "cache_dir", err);
    if (rc == 0 && config->cache_dir != NULL)
        rc = copy_path(vmm->cache_dir, config->cache_dir, "cache_dir", err);
    if (rc == 0 && config->packages_dir != NULL)
        rc = copy_path(places->packages_dir, config->packages_dir, "packages_dir", err);
    if (rc == 0)
        rc = copy_path(vmm->kvm_device, config->kvm_device, "kvm_device", err);
    if (rc == 0)
        rc = command_find(config->program, places->program, err);
    return rc == -ENOENT ? hypervisor_missing(places->hypervisor, config->program, err) : rc;
}

static int open_own_folder(const char *path, int *ret_fd, struct error *err)
{
    struct stat found;
    (void)mkdir(path, S_IRWXU); /* what is wrong shows when it is opened */
    int fd SCOPED_FD = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &found) != 0)
        return error_set(err, -errno, "%.200s: %s", path, strerror(errno));
    if (found.st_uid != geteuid() || (found.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        error_set(err, -EPERM, "%.200s: must belong to this user and have mode 0700", path);
        error_tag(err, "runtime-dir-unsafe", "runtime_dir");
        return -EPERM;
    }
    *ret_fd = fd_take(&fd);
    return 0;
}

/* A disk has a name for the moment between its making and its opening; a daemon that was killed then has left it. */
static void remove_stale_disks(const char *disk_dir)
{
    DIR *folder = opendir(disk_dir);
    if (folder == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        struct id id;
        const char *dot = strchr(entry->d_name, '.');
        bool disk = dot != NULL && (strcmp(dot, ".disk") == 0 || strcmp(dot, ".overlay") == 0);
        if (disk && id_parse(entry->d_name, (size_t)(dot - entry->d_name), &id))
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
    }
    closedir(folder);
}

static int open_places(struct vmm *vmm, struct error *err)
{
    char found[PATH_MAX];
    int rc = open_own_folder(vmm->places.runtime_dir, &vmm->runtime_fd, err);
    if (rc != 0)
        return rc;
    /* Hypervisors have "/" as their folder, and are told the whole of a name. */
    if (realpath(vmm->places.runtime_dir, found) != NULL)
        rc = copy_path(vmm->places.runtime_dir, found, "runtime_dir", err);
    if (rc != 0)
        return rc;
    /* Two daemons on one folder would each clear away what the other has there. */
    if (lock_take(vmm->runtime_fd) != 0)
        return error_set(err, -EBUSY, "%.200s: is in use by another omertad", vmm->places.runtime_dir);
    char machines[VMM_PATH_BYTES + sizeof "/machines"];
    snprintf(machines, sizeof machines, "%s/machines", vmm->places.runtime_dir);
    rc = open_own_folder(machines, &vmm->places.machines_fd, err);
    (void)mkdir(vmm->places.disk_dir, S_IRWXU); /* there already, or the first disk says what is wrong */
    if (rc == 0)
        remove_stale_disks(vmm->places.disk_dir);
    return rc;
}

static void release(struct vmm *vmm)
{
    nat_confinement_free(vmm->places.confinement);
    free(vmm->machines);
    free(vmm->served);
    free(vmm->polled);
    free(vmm->polls);
    free(vmm);
}

/* The lists are as long as they can ever be, so that nothing is short of memory later; pages not used are not there. */
static struct vmm *allocate(size_t machines_max)
{
    struct vmm *vmm = calloc(1, sizeof *vmm);
    if (vmm == NULL)
        return NULL;
    vmm->machines_max = machines_max;
    vmm->machines = calloc(machines_max, sizeof(struct machine *));
    vmm->served = calloc(machines_max, sizeof(struct machine *));
    vmm->polled = calloc(machines_max, sizeof *vmm->polled);
    vmm->polls = calloc(SUPERVISOR_POLLS_OWN + machines_max * SUPERVISOR_POLLS_PER_MACHINE, sizeof *vmm->polls);
    if (vmm->machines != NULL && vmm->served != NULL && vmm->polled != NULL && vmm->polls != NULL)
        return vmm;
    release(vmm);
    return NULL;
}

int vmm_open(const struct vmm_config *config, struct vmm **ret_vmm, struct error *err)
{
    if (sodium_init() < 0)
        return error_set(err, -EIO, "libsodium does not start");
    struct vmm *vmm = allocate(config->machines_max == 0 ? VMM_MACHINES_MAX : config->machines_max);
    if (vmm == NULL)
        return error_set(err, -ENOMEM, "no memory for the supervisor");
    vmm->runtime_fd = -1;
    vmm->places.machines_fd = -1;
    int rc = copy_config(vmm, config, err);
    if (rc == 0)
        rc = open_places(vmm, err);
    if (rc == 0)
        rc = nat_confinement_make(&vmm->places.confinement, err);
    if (rc == 0)
        rc = supervisor_start(vmm, err);
    if (rc == 0) {
        *ret_vmm = vmm;
        return 0;
    }
    fd_close(&vmm->places.machines_fd);
    fd_close(&vmm->runtime_fd);
    release(vmm);
    return rc;
}

static void close_vmm(struct vmm *vmm, bool leave)
{
    if (vmm == NULL)
        return;
    supervisor_stop(vmm, leave);
    fd_close(&vmm->places.machines_fd);
    fd_close(&vmm->runtime_fd);
    release(vmm);
}

void vmm_close(struct vmm *vmm)
{
    close_vmm(vmm, false);
}

void vmm_leave(struct vmm *vmm)
{
    close_vmm(vmm, true);
}

/* ---- orders ------------------------------------------------------------------------------------------------ */

/* The vmm's lock is held. */
static int admit(struct vmm *vmm, struct machine *machine, struct error *err)
{
    if (vmm->closing)
        return error_set(err, -ESHUTDOWN, "the supervisor is closing");
    if (supervisor_find(vmm, &machine->spec->id) != NULL)
        return error_set(err, -EEXIST, "machine %s is there already", machine->spec->id.text);
    if (vmm->machine_count == vmm->machines_max)
        return error_set(err, -ENOMEM, "there are %zu machines already", vmm->machines_max);
    if (machine->spec->external)
        machine->preparation = MACHINE_PREPARATION_OVER; /* nothing that takes longer than a moment */
    vmm->machines[vmm->machine_count++] = machine;
    pthread_cond_signal(&vmm->work);
    return 0;
}

static int take_in(struct vmm *vmm, struct machine *machine, struct error *err)
{
    pthread_mutex_lock(&vmm->lock);
    int rc = admit(vmm, machine, err);
    pthread_mutex_unlock(&vmm->lock);
    if (rc == 0)
        supervisor_wake(vmm);
    return rc;
}

int vmm_start(struct vmm *vmm, const struct vmm_spec *spec, struct error *err)
{
    if (spec->direct && !vmm->places.hypervisor->can.direct)
        return vmm_direct_none(err);
    struct machine *machine = machine_create(spec);
    if (machine == NULL)
        return error_set(err, -ENOMEM, "no memory for a machine");
    machine->outlives = vmm->places.keep_machines && !spec->direct;
    int rc = take_in(vmm, machine, err);
    if (rc != 0)
        machine_free(machine);
    return rc;
}

int vmm_adopt(struct vmm *vmm, const struct vmm_spec *spec, const struct vmm_adoption *adoption, struct error *err)
{
    struct machine *machine = machine_create(spec);
    if (machine == NULL)
        return error_set(err, -ENOMEM, "no memory for a machine");
    machine->outlives = true;
    machine->adopted = true;
    machine->preparation = MACHINE_PREPARATION_OVER;
    machine->serial = adoption->violation_serial;
    machine->guest_serial = adoption->guest_report_serial - VMM_GUEST_SERIAL_FIRST;
    machine->accel.known = true;
    snprintf(machine->accel.name, sizeof machine->accel.name, "%s", adoption->accelerator);
    if (adoption->tunnel_up)
        tunnel_watch_established(&machine->tunnel, clock_monotonic_ms());
    int rc = child_adopt(adoption->pid, adoption->start_ticks, adoption->boot_id, &machine->child, err);
    if (rc == 0)
        rc = take_in(vmm, machine, err);
    if (rc == 0)
        return 0;
    child_leave(&machine->child);
    machine_free(machine);
    return rc;
}

int vmm_stop(struct vmm *vmm, const struct id *id, enum vmm_end end)
{
    pthread_mutex_lock(&vmm->lock);
    struct machine *machine = supervisor_find(vmm, id);
    if (machine != NULL && !machine->stop_asked) {
        machine->stop_asked = true;
        machine->stop_end = end;
    }
    bool known = machine != NULL || strcmp(vmm->told.text, id->text) == 0;
    pthread_mutex_unlock(&vmm->lock);
    if (machine != NULL)
        supervisor_wake(vmm);
    return known ? 0 : -ENOENT;
}

void vmm_spawn_noted(struct vmm *vmm, const struct id *id, int64_t pid)
{
    pthread_mutex_lock(&vmm->lock);
    struct machine *machine = supervisor_find(vmm, id);
    if (machine != NULL)
        machine->noted_pid = pid;
    pthread_mutex_unlock(&vmm->lock);
    if (machine != NULL)
        supervisor_wake(vmm);
}

int vmm_socket_path(const struct vmm *vmm, const struct id *id, char ret_path[static VMM_PATH_BYTES], struct error *err)
{
    return machine_socket_path(&vmm->places, id, ret_path, err);
}

/* ---- what earlier daemons left ----------------------------------------------------------------------------- */

static bool is_there(struct vmm *vmm, const struct id *id)
{
    pthread_mutex_lock(&vmm->lock);
    bool there = supervisor_find(vmm, id) != NULL;
    pthread_mutex_unlock(&vmm->lock);
    return there;
}

void vmm_sweep(struct vmm *vmm)
{
    int fd = fcntl(vmm->places.machines_fd, F_DUPFD_CLOEXEC, 0);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        fd_close(&fd);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        struct id id;
        if (id_parse(entry->d_name, strlen(entry->d_name), &id) && !is_there(vmm, &id))
            (void)machine_remove_folder(vmm->places.machines_fd, id.text);
    }
    closedir(folder);
}

/* ---- reading ----------------------------------------------------------------------------------------------- */

int vmm_read_stats(struct vmm *vmm, const struct id *id, struct nat_stats *ret_stats)
{
    pthread_mutex_lock(&vmm->lock);
    const struct machine *machine = supervisor_find(vmm, id);
    struct nat_stats stats = {0};
    if (machine != NULL && machine->nat != NULL)
        nat_read_stats(machine->nat, &stats);
    bool known = machine != NULL && !machine->spec->direct;
    pthread_mutex_unlock(&vmm->lock);
    if (!known)
        return -ENOENT;
    *ret_stats = stats;
    return 0;
}

int64_t vmm_read_console(struct vmm *vmm, const struct id *id, uint8_t *ret_bytes, size_t capacity,
                         uint64_t *ret_offset)
{
    pthread_mutex_lock(&vmm->lock);
    struct machine *machine = supervisor_find(vmm, id);
    int64_t length = -ENOENT;
    if (machine != NULL)
        length = (int64_t)console_read(&machine->console, ret_bytes, capacity, ret_offset);
    pthread_mutex_unlock(&vmm->lock);
    return length;
}

void vmm_read_accel(struct vmm *vmm, struct vmm_accel *ret_accel)
{
    pthread_mutex_lock(&vmm->lock);
    *ret_accel = vmm->accel;
    pthread_mutex_unlock(&vmm->lock);
}

const char *vmm_end_name(enum vmm_end end)
{
    switch (end) {
    case VMM_END_ASKED:
        return "asked";
    case VMM_END_DEADLINE:
        return "deadline";
    case VMM_END_SHUTDOWN:
        return "shutdown";
    case VMM_END_GUEST_SHUTDOWN:
        return "guest_shutdown";
    case VMM_END_GUEST_CRASH:
        return "guest_crash";
    case VMM_END_HYPERVISOR_CRASH:
        return "hypervisor_crash";
    case VMM_END_FILTER_FAILED:
        return "filter_failed";
    case VMM_END_START_FAILED:
        return "start_failed";
    case VMM_END_START_TIMEOUT:
        return "start_timeout";
    case VMM_END_IMAGE_REJECTED:
        return "image_rejected";
    case VMM_END_POLICY_VIOLATION:
        return "policy_violation";
    case VMM_END_TUNNEL_TIMEOUT:
        return "tunnel_timeout";
    case VMM_END_TUNNEL_LOST:
        return "tunnel_lost";
    case VMM_END_HEARTBEAT_LOST:
        return "heartbeat_lost";
    case VMM_END_RECOVERY_FAILED:
        return "recovery_failed";
    }
    return "unknown";
}

int vmm_own_addresses(uint32_t *ret_ips, size_t capacity, size_t *ret_count, struct error *err)
{
    return own_addresses_read(ret_ips, capacity, ret_count, err);
}

int vmm_packages_check(const char *dir, struct error *err)
{
    struct deb_files files;
    int rc = deb_files_open(dir, &files, err);
    if (rc == 0)
        deb_files_close(&files);
    return rc;
}

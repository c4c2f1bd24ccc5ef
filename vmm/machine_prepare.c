/* What takes longer than a moment: the image's digests, the seed volume, the disks. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "vmm/deb_files.h"
#include "vmm/machine.h"
#include "vmm/machine_files.h"
#include "vmm/overlay.h"
#include "vmm/seed.h"

static void wipe_secrets(struct vmm_tunnel *tunnel)
{
    sodium_memzero(tunnel->private_key, sizeof tunnel->private_key);
    sodium_memzero(tunnel->preshared_key, sizeof tunnel->preshared_key);
}

/* Neither the seed volume, which holds the machine's key, nor the disks have a name once they are open: however the daemon
 * ends, nothing of them is left. */
static int write_seed(struct machine *machine, const struct deb_files *packages, struct error *err)
{
    int rc = seed_write(machine->folder_fd, MACHINE_FILE_SEED, machine->spec, packages, &machine->seed_fd, err);
    if (rc == 0 && unlinkat(machine->folder_fd, MACHINE_FILE_SEED, 0) != 0)
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
        rc = machine_make_folder(machine, places, err);
    if (rc == 0)
        rc = make_seed(machine, places, err);
    wipe_secrets(&machine->spec->tunnel);
    if (rc == 0)
        rc = make_disk(machine, places, err);
    if (rc == 0)
        rc = make_overlay(machine, places, err);
    return rc;
}

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
#include "vmm/file_copy.h"
#include "vmm/hypervisor.h"
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
 * ends, nothing of them is left. A hypervisor that takes files by name finds them under one until its machine has ended. */
static int forget_name(const struct machine_places *places, int folder_fd, const char *name, struct error *err)
{
    if (places->hypervisor->by_name || unlinkat(folder_fd, name, 0) == 0)
        return 0;
    return error_set(err, -errno, "cannot unlink %.200s: %s", name, strerror(errno));
}

static int write_seed(struct machine *machine, const struct machine_places *places, const struct deb_files *packages,
                      struct error *err)
{
    int rc = seed_write(machine->folder_fd, MACHINE_FILE_SEED, machine->spec, packages, &machine->seed_fd, err);
    return rc != 0 ? rc : forget_name(places, machine->folder_fd, MACHINE_FILE_SEED, err);
}

static int make_seed(struct machine *machine, const struct machine_places *places, struct error *err)
{
    if (machine->spec->boot_isolation != VMM_BOOT_OFFLINE_PACKAGES)
        return write_seed(machine, places, NULL, err);
    struct deb_files packages;
    int rc = deb_files_open(places->packages_dir, &packages, err);
    if (rc != 0)
        return rc;
    rc = write_seed(machine, places, &packages, err);
    deb_files_close(&packages);
    return rc;
}

static int make_disk(struct machine *machine, const struct machine_places *places, struct error *err)
{
    uint32_t mib = machine->spec->disk_mib;
    if (mib == 0)
        return 0;
    char path[MACHINE_DISK_PATH_BYTES];
    machine_disk_path(machine, places, "disk", path);
    machine->disk_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    int rc = machine->disk_fd < 0 ? -errno : 0;
    if (rc == 0)
        rc = forget_name(places, AT_FDCWD, path, err);
    if (rc == 0 && ftruncate(machine->disk_fd, (off_t)mib * 1024 * 1024) != 0)
        rc = -errno;
    return rc == 0 ? 0 : error_set(err, rc, "cannot make a disk of %u MiB: %s", (unsigned)mib, strerror(-rc));
}

/* What the guest writes to its root disk: an overlay, or a copy where the hypervisor knows no overlays. */
static int make_root(struct machine *machine, const struct machine_places *places, struct error *err)
{
    char path[MACHINE_DISK_PATH_BYTES];
    const struct vmm_image *image = &machine->image.image;
    if (machine->image.disk_fd < 0)
        return 0;
    machine_disk_path(machine, places, "overlay", path);
    if (!places->hypervisor->by_name)
        return overlay_make(path, machine->image.disk_size_bytes, &machine->overlay_fd, err);
    if (strcmp(image->disk_format, "raw") == 0)
        return file_copy(machine->image.disk_fd, path, S_IRUSR | S_IWUSR, err);
    error_set(err, -ENOTSUP, "%s is %s, and %s takes raw disks alone", image->disk_file, image->disk_format,
              places->hypervisor->name);
    error_tag(err, "image-disk-invalid", image->disk_file);
    return -ENOTSUP;
}

/* Copies of the very files whose digests were compared; where the file system can, they share the blocks. */
static int lay_out_boot_files(const struct machine *machine, const struct machine_places *places, struct error *err)
{
    char path[MACHINE_FILE_PATH_BYTES];
    const struct id *id = &machine->spec->id;
    if (!places->hypervisor->by_name)
        return 0;
    int rc =
        file_copy(machine->image.kernel_fd, machine_file_path(places, id, MACHINE_FILE_KERNEL, path), S_IRUSR, err);
    return rc != 0 ? rc
                   : file_copy(machine->image.initrd_fd, machine_file_path(places, id, MACHINE_FILE_INITRD, path),
                               S_IRUSR, err);
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
        rc = make_root(machine, places, err);
    if (rc == 0)
        rc = lay_out_boot_files(machine, places, err);
    return rc;
}

#include "vmm/machine_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/hypervisor.h"

const char *machine_file_path(const struct machine_places *places, const struct id *id, const char *name,
                              char ret_path[static MACHINE_FILE_PATH_BYTES])
{
    snprintf(ret_path, MACHINE_FILE_PATH_BYTES, "%s/machines/%s/%s", places->runtime_dir, id->text, name);
    return ret_path;
}

int machine_make_folder(struct machine *machine, const struct machine_places *places, struct error *err)
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

/* Without a descriptor or memory, of which there may be none: what is known to be in it goes by name. */
void machine_remove_own_folder(const struct machine *machine, const struct machine_places *places)
{
    const char *const names[] = {MACHINE_FILE_SEED,   MACHINE_FILE_QMP,    MACHINE_FILE_CONSOLE,
                                 MACHINE_FILE_VM,     MACHINE_FILE_FRAMES, MACHINE_FILE_KERNEL,
                                 MACHINE_FILE_INITRD, MACHINE_FILE_REST,   MACHINE_FILE_LOG};
    for (size_t at = 0; machine->folder_fd >= 0 && at < sizeof names / sizeof names[0]; at++)
        (void)unlinkat(machine->folder_fd, names[at], 0);
    if (unlinkat(places->machines_fd, machine->spec->id.text, AT_REMOVEDIR) != 0 && errno != ENOENT)
        (void)machine_remove_folder(places->machines_fd, machine->spec->id.text);
}

const char *machine_disk_path(const struct machine *machine, const struct machine_places *places, const char *kind,
                              char ret_path[static MACHINE_DISK_PATH_BYTES])
{
    snprintf(ret_path, MACHINE_DISK_PATH_BYTES, "%s/%s.%s", places->disk_dir, machine->spec->id.text, kind);
    return ret_path;
}

void machine_remove_disks(const struct machine *machine, const struct machine_places *places)
{
    char path[MACHINE_DISK_PATH_BYTES];
    if (!places->hypervisor->by_name || machine->spec->external)
        return;
    (void)unlink(machine_disk_path(machine, places, "disk", path));
    (void)unlink(machine_disk_path(machine, places, "overlay", path));
}

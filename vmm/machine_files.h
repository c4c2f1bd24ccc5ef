/* A machine's folder, and the names in it. */
#ifndef VMM_MACHINE_FILES_H
#define VMM_MACHINE_FILES_H

#include "base/error.h"
#include "vmm/machine.h"

#define MACHINE_FILE_SEED "seed.iso"
#define MACHINE_FILE_QMP "qmp.sock"
#define MACHINE_FILE_CONSOLE "console.sock" /* of a machine that outlives the daemon, as the next */
#define MACHINE_FILE_VM "vm.sock"           /* the hypervisor's end of the cable */
#define MACHINE_FILE_FRAMES "frames.sock"   /* the NAT's end, also of an external machine */
#define MACHINE_FILE_KERNEL "kernel"        /* of a hypervisor that takes files by name, as all that follow */
#define MACHINE_FILE_INITRD "initrd"
#define MACHINE_FILE_REST "rest.sock"
#define MACHINE_FILE_LOG "console.log"

enum { MACHINE_FILE_PATH_BYTES = 2 * VMM_PATH_BYTES };

/** machine_file_path() - Where a file of a machine is. Return: @ret_path. Thread: any */
const char *machine_file_path(const struct machine_places *places, const struct id *id, const char *name,
                              char ret_path[static MACHINE_FILE_PATH_BYTES]);

/**
 * machine_make_folder() - Make and open the machine's folder
 * Return: 0 or negative; then nothing was made
 * Thread: the machine's owner
 */
int machine_make_folder(struct machine *machine, const struct machine_places *places, struct error *err);

enum { MACHINE_DISK_PATH_BYTES = VMM_PATH_BYTES + ID_TEXT_BYTES + sizeof "/.overlay" };

/** machine_disk_path() - Where a disk is, if it has a name. @kind: "disk" or "overlay". Return: @ret_path. Thread: any */
const char *machine_disk_path(const struct machine *machine, const struct machine_places *places, const char *kind,
                              char ret_path[static MACHINE_DISK_PATH_BYTES]);

/** machine_remove_disks() - Remove those that have names. Thread: the machine's owner */
void machine_remove_disks(const struct machine *machine, const struct machine_places *places);

/** machine_remove_own_folder() - Remove it with what is in it. Thread: the machine's owner */
void machine_remove_own_folder(const struct machine *machine, const struct machine_places *places);

#endif

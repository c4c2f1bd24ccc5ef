/* An ISO 9660 volume with Joliet and Rock Ridge names, as cloud-init looks for it by its label. */
#ifndef VMM_VOLUME_H
#define VMM_VOLUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum volume_limits {
    VOLUME_FILES_MAX = 72,                /* a seed has three, and up to 64 packages */
    VOLUME_FILE_BYTES = 1024 * 1024,      /* of one in memory; a seed document takes some KiB */
    VOLUME_BYTES_MAX = 288 * 1024 * 1024, /* packages take 256 MiB at most */
    VOLUME_NAME_BYTES = 31,               /* ISO 9660 level 2 and the NUL */
    VOLUME_SECTOR_BYTES = 2048,           /* ECMA-119 section 6.1.2 */
    VOLUME_ID_OFFSET = 16 * 2048 + 40,    /* ECMA-119 section 8.4.7: the volume identifier */
    VOLUME_ID_BYTES = 32,
};

/**
 * struct volume_file - One file of the volume
 * @folder: a folder in the root that holds it; NULL: it stands in the root itself
 * @bytes:  its contents; NULL: they are read from @fd, from the start
 * @fd:     used when @bytes is NULL; stays the caller's
 * @secret: the bytes never pass through the library that lays out the volume; not with @fd
 *
 * Owner: the caller; nothing is kept.
 */
struct volume_file {
    const char *folder;
    const char *name;
    const void *bytes;
    int fd;
    uint64_t length;
    bool secret;
};

/**
 * volume_write() - Write a volume to the start of an empty file
 * @fd:    open for reading and writing; stays the caller's
 * @label: volume identifier, 1 to 32 capital letters, digits and underscores
 * @files: at least one, none of them empty; those of one folder next to each other
 * Return: 0; -EINVAL; -EIO, also for a file that became shorter meanwhile; or what the file gave
 * Thread: one at a time: the library underneath keeps its message queue in globals
 */
int volume_write(int fd, const char *label, const struct volume_file *files, size_t count, struct error *err);

#endif

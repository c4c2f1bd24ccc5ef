/* An ISO 9660 volume with Joliet and Rock Ridge names, as cloud-init looks for it by its label. */
#ifndef VMM_VOLUME_H
#define VMM_VOLUME_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum volume_limits {
    VOLUME_FILES_MAX = 8,              /* a seed has three */
    VOLUME_FILE_BYTES = 1024 * 1024,   /* a seed document takes some KiB */
    VOLUME_NAME_BYTES = 31,            /* ISO 9660 level 2 and the NUL */
    VOLUME_SECTOR_BYTES = 2048,        /* ECMA-119 section 6.1.2 */
    VOLUME_ID_OFFSET = 16 * 2048 + 40, /* ECMA-119 section 8.4.7: the volume identifier */
    VOLUME_ID_BYTES = 32,
};

/**
 * struct volume_file - One file in the root of the volume
 * @secret: the bytes never pass through the library that lays out the volume
 *
 * Owner: the caller; nothing is kept.
 */
struct volume_file {
    const char *name;
    const void *bytes;
    size_t length;
    bool secret;
};

/**
 * volume_write() - Write a volume to the start of an empty file
 * @fd:    open for reading and writing; stays the caller's
 * @label: volume identifier, 1 to 32 capital letters, digits and underscores
 * @files: at least one, none of them empty
 * Return: 0; -EINVAL; -EIO or what the file gave
 * Thread: one at a time: the library underneath keeps its message queue in globals
 */
int volume_write(int fd, const char *label, const struct volume_file *files, size_t count, struct error *err);

#endif

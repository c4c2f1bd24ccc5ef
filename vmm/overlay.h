/* A guest may write to its root disk, and nothing of that is kept: what it writes goes into an overlay, a qcow2 file of its
 * own, and the image's disk below stays as it was verified. */
#ifndef VMM_OVERLAY_H
#define VMM_OVERLAY_H

#include <stdint.h>

#include "base/error.h"

enum overlay_limits {
    OVERLAY_SECTOR_BYTES = 512,        /* a disk is a whole number of these */
    OVERLAY_CLUSTER_BYTES = 64 * 1024, /* QEMU's own default */
};

/* One cluster of first-level table describes 4 TiB; no image comes near that. */
#define OVERLAY_SIZE_MAX (UINT64_C(1) << 40)

/**
 * overlay_measure_base() - How large a disk a guest sees in a file
 * @file:           its name, for messages
 * @format:         "raw" or "qcow2"
 * @ret_size_bytes: filled on success
 * Return:          0; -EBADMSG with slug "image-disk-invalid" and the file in field, for a size that is no disk's and for a
 *                  qcow2 file that is none, that is encrypted, damaged, or names another file (backing or data)
 * Thread:          any
 */
int overlay_measure_base(int fd, const char *file, const char *format, uint64_t *ret_size_bytes, struct error *err);

/**
 * overlay_make() - Make an empty overlay, a file without a name
 * @path:       name for a moment; must not exist
 * @size_bytes: the base's size as measured
 * @ret_fd:     O_RDWR, mode 0600; owned by the caller
 * Return:      0 or negative
 * Thread:      any
 */
int overlay_make(const char *path, uint64_t size_bytes, int *ret_fd, struct error *err);

#endif

/* Guest images: a folder with a manifest and the files it names, trusted only as far as their digests. */
#ifndef VMM_IMAGE_H
#define VMM_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "vmm/vmm.h"

enum image_limits {
    IMAGE_CACHE_ENTRIES = 24,       /* three files an image; more images than eight just cost a second reading */
    IMAGE_MANIFEST_BYTES = 65536,   /* a manifest takes 700 */
    IMAGE_BLOCK_BYTES = 128 * 1024, /* one read(2) while a digest is made */
};

/**
 * struct image_seen - One file whose digest was compared, as it was then
 *
 * A change of contents changes ctime, which no ordinary user can set.
 */
struct image_seen {
    uint64_t device;
    uint64_t inode;
    uint64_t bytes;
    int64_t modified_ns;
    int64_t changed_ns;
    char sha256[VMM_DIGEST_BYTES]; /* "" in a free entry */
};

/**
 * struct image_cache - The files compared before, so that an unchanged image is not read again
 * @next: entry that is replaced next
 *
 * Owner: the preparer's thread; starts as {0}.
 */
struct image_cache {
    size_t next;
    struct image_seen entries[IMAGE_CACHE_ENTRIES];
};

/**
 * struct image_files - A verified image, ready to be given to a hypervisor
 * @kernel_fd: O_RDONLY, at its start; the very file that was verified
 * @initrd_fd: likewise
 * @disk_fd:   likewise; -1 without a root disk
 * @disk_size_bytes: what a guest sees of that disk
 *
 * Owner: whoever called image_open_verified(), until image_files_close().
 */
struct image_files {
    struct vmm_image image;
    int kernel_fd;
    int initrd_fd;
    int disk_fd;
    uint64_t disk_size_bytes;
};

/**
 * image_open_verified() - Open an image's files and compare size and SHA-256
 * @image_dir: folder of the images
 * @name:      image name
 * @cache:     NULL: every file is read
 * @ret_files: filled on success
 * Return:     0; -ENOENT with slug "image-not-found" or "image-file-missing"; -EINVAL with slug
 *             "image-manifest-invalid" and the key in field; -EBADMSG with slug "image-digest-mismatch" or
 *             "image-disk-invalid" and the file in field
 * Thread:     the cache's owner
 */
int image_open_verified(const char *image_dir, const char *name, struct image_cache *cache,
                        struct image_files *ret_files, struct error *err);

/** image_files_close() - Close the files; -1 is nothing to close. Thread: the files' owner */
void image_files_close(struct image_files *files);

#endif

/* Debian packages from the provider's folder, which a guest installs before its network is up. */
#ifndef VMM_DEB_FILES_H
#define VMM_DEB_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum deb_files_limits {
    DEB_FILES_MAX = 64,                      /* WireGuard's and iptables' tools with all they need are 15 */
    DEB_FILES_BYTES_MAX = 256 * 1024 * 1024, /* together; each machine gets a copy */
    DEB_FILES_NAME_BYTES = 256,
};

/** struct deb_file - One file. @fd: O_RDONLY. Owner: its struct deb_files. */
struct deb_file {
    int fd;
    uint64_t bytes;
    char name[DEB_FILES_NAME_BYTES];
};

/** struct deb_files - A folder's packages, sorted by name. Owner: whoever called deb_files_open(), until deb_files_close(). */
struct deb_files {
    size_t count;
    struct deb_file list[DEB_FILES_MAX];
};

/**
 * deb_files_open() - Open every *.deb file of a folder
 * @path:         NULL or "": there is no such folder
 * @ret_files: filled on success
 * Return:        0; -ENOENT when there is none; -EINVAL with the file in field for a link, for what is no regular file and for
 *                what does not begin as a Debian package; -EFBIG for too many or too large. Each with slug "packages-invalid"
 * Thread:        any
 */
int deb_files_open(const char *path, struct deb_files *ret_files, struct error *err);

/** deb_files_close() - Close the files. Thread: the packages' owner */
void deb_files_close(struct deb_files *files);

#endif

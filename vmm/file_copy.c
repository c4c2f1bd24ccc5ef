#include "vmm/file_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/clonefile.h>
#endif

#include "base/scope.h"

enum { BLOCK_BYTES = 1024 * 1024 };

/* Return: whether the file system made a copy that shares the other's blocks. */
static bool clone_file(int from_fd, const char *path, mode_t mode)
{
#ifdef __APPLE__
    if (fclonefileat(from_fd, AT_FDCWD, path, 0) != 0)
        return false;
    if (chmod(path, mode) == 0)
        return true;
    unlink(path);
    return false;
#else
    (void)from_fd;
    (void)path;
    (void)mode;
    return false;
#endif
}

static bool is_zero(const uint8_t *bytes, size_t length)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

static int put(int fd, const uint8_t *bytes, size_t length, off_t at)
{
    while (length > 0) {
        ssize_t written = pwrite(fd, bytes, length, at);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written < 0 ? -errno : -ENOSPC;
        bytes += written;
        at += written;
        length -= (size_t)written;
    }
    return 0;
}

static int copy_blocks(int from_fd, int fd, uint8_t *block)
{
    off_t at = 0;
    while (true) {
        ssize_t length = pread(from_fd, block, BLOCK_BYTES, at);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return -errno;
        if (length == 0)
            return ftruncate(fd, at) == 0 ? 0 : -errno;
        int rc = is_zero(block, (size_t)length) ? 0 : put(fd, block, (size_t)length, at);
        if (rc != 0)
            return rc;
        at += length;
    }
}

int file_copy(int from_fd, const char *path, mode_t mode, struct error *err)
{
    if (clone_file(from_fd, path, mode))
        return 0;
    int fd SCOPED_FD = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return error_set(err, -errno, "%.200s: %s", path, strerror(errno));
    uint8_t *block SCOPED_FREE = malloc(BLOCK_BYTES);
    int rc = block == NULL ? -ENOMEM : copy_blocks(from_fd, fd, block);
    if (rc == 0)
        return 0;
    unlink(path);
    return error_set(err, rc, "cannot copy to %.200s: %s", path, strerror(-rc));
}

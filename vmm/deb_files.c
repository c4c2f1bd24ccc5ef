#include "vmm/deb_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/scope.h"

enum { SHOWN_NAME_BYTES = 80 /* of a file's name, in a message */ };

/* ar(5), and the member that each Debian package begins with (deb(5)). */
static const char deb_magic[] = "!<arch>\ndebian-binary";

static int refuse(int code, const char *name, const char *why, struct error *err)
{
    char shown[SHOWN_NAME_BYTES];
    log_escape(name, strlen(name), shown, sizeof shown);
    error_set(err, code, "packages: %s%s%s", shown, *name == '\0' ? "" : ": ", why);
    error_tag(err, "packages-invalid", shown);
    return code;
}

static bool is_wanted(const char *name)
{
    size_t length = strlen(name);
    return length > 4 && length < DEB_FILES_NAME_BYTES && strcmp(name + length - 4, ".deb") == 0;
}

/* O_NONBLOCK: a FIFO must not hold us. */
static int open_file(int folder, const char *name, struct deb_file *ret_file, struct error *err)
{
    struct stat found;
    char begin[sizeof deb_magic - 1];
    int fd SCOPED_FD = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return refuse(-EINVAL, name, errno == ELOOP ? "a link, where a file is wanted" : strerror(errno), err);
    if (fstat(fd, &found) != 0 || !S_ISREG(found.st_mode))
        return refuse(-EINVAL, name, "not a regular file", err);
    if (pread(fd, begin, sizeof begin, 0) != (ssize_t)sizeof begin || memcmp(begin, deb_magic, sizeof begin) != 0)
        return refuse(-EINVAL, name, "not a Debian package", err);
    ret_file->fd = fd_take(&fd);
    ret_file->bytes = (uint64_t)found.st_size;
    memcpy(ret_file->name, name, strlen(name) + 1);
    return 0;
}

static int open_all(DIR *folder, struct deb_files *files, struct error *err)
{
    uint64_t bytes = 0;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (!is_wanted(entry->d_name))
            continue;
        if (files->count == DEB_FILES_MAX)
            return refuse(-EFBIG, "", "more than 64 files", err);
        struct deb_file *file = &files->list[files->count];
        int rc = open_file(dirfd(folder), entry->d_name, file, err);
        if (rc != 0)
            return rc;
        files->count++;
        if (file->bytes > DEB_FILES_BYTES_MAX - bytes)
            return refuse(-EFBIG, "", "more than 256 MiB", err);
        bytes += file->bytes;
    }
    return files->count > 0 ? 0 : refuse(-ENOENT, "", "no .deb file in the folder", err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct deb_file *)a)->name, ((const struct deb_file *)b)->name);
}

int deb_files_open(const char *path, struct deb_files *ret_files, struct error *err)
{
    if (path == NULL || *path == '\0')
        return refuse(-ENOENT, "", "the configuration names no folder for them", err);
    DIR *folder = opendir(path);
    if (folder == NULL)
        return refuse(-ENOENT, "", strerror(errno), err);
    ret_files->count = 0;
    int rc = open_all(folder, ret_files, err);
    closedir(folder);
    if (rc != 0)
        deb_files_close(ret_files);
    else
        qsort(ret_files->list, ret_files->count, sizeof *ret_files->list, by_name);
    return rc;
}

void deb_files_close(struct deb_files *files)
{
    for (size_t at = 0; at < files->count; at++)
        fd_close(&files->list[at].fd);
    files->count = 0;
}

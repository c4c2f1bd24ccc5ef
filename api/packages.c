#include "api/packages.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/scope.h"

static const char magic[] = "!<arch>\n";
static const char first_member[] = "debian-binary";

enum {
    MAGIC_BYTES = sizeof magic - 1,
    MEMBER_BYTES = sizeof first_member - 1,
    HEAD_BYTES = MAGIC_BYTES + MEMBER_BYTES,
    NAME_BYTES = 160, /* of a file's name in a message */
};

static bool is_package_name(const char *name)
{
    size_t length = strlen(name);
    return length > 4 && name[0] != '.' && strcmp(name + length - 4, ".deb") == 0;
}

static int check_file(int dir_fd, const char *name, struct error *err)
{
    char shown[NAME_BYTES];
    char head[HEAD_BYTES];
    struct stat status;
    log_escape(name, strlen(name), shown, sizeof shown);
    /* O_NONBLOCK: a FIFO in its place must not hang us. */
    int fd SCOPED_FD = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, -EINVAL, "%s cannot be read: %s", shown, strerror(errno));
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return error_set(err, -EINVAL, "%s is not a plain file", shown);
    if (read(fd, head, sizeof head) != (ssize_t)sizeof head || memcmp(head, magic, MAGIC_BYTES) != 0 ||
        memcmp(head + MAGIC_BYTES, first_member, MEMBER_BYTES) != 0)
        return error_set(err, -EINVAL, "%s is not a Debian package", shown);
    return 0;
}

static int check_all(DIR *dir, struct error *err)
{
    size_t count = 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (!is_package_name(entry->d_name))
            continue;
        if (++count > PACKAGES_MAX)
            return error_set(err, -E2BIG, "there are more than %d packages", PACKAGES_MAX);
        int result = check_file(dirfd(dir), entry->d_name, err);
        if (result < 0)
            return result;
    }
    return count > 0 ? 0 : error_set(err, -ENOENT, "there is no .deb file");
}

int packages_check(const char *dir, struct error *err)
{
    DIR *open_dir = opendir(dir);
    if (open_dir == NULL)
        return error_set(err, -ENOENT, "the folder cannot be read: %s", strerror(errno));
    int result = check_all(open_dir, err);
    closedir(open_dir);
    return result;
}

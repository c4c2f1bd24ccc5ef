#include "vmm/channel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/scope.h"
#include "vmm/attachment.h"

enum {
    LINE_BYTES = 256, /* of /proc/net/unix: 60 and a path of 107 */
    LINK_BYTES = 64,  /* "socket:[4294967295]" */
};

static int open_stream(void)
{
#ifndef OMERTAD_PORTABLE
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
#else
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd >= 0)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
#endif
}

static int connect_to(const char *path, const struct sockaddr_un *address, int *ret_fd, struct error *err)
{
    int fd SCOPED_FD = open_stream();
    if (fd < 0)
        return error_set(err, -errno, "cannot make a socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        return error_set(err, -errno, "%.200s: cannot connect: %s", path, strerror(errno));
    *ret_fd = fd_take(&fd);
    return 0;
}

int channel_open(const char *path, bool keep_name, int *ret_listen_fd, int *ret_fd, struct error *err)
{
    struct sockaddr_un address;
    int rc = attachment_address(path, &address, err);
    if (rc != 0)
        return rc;
    int listen_fd SCOPED_FD = open_stream();
    if (listen_fd < 0)
        return error_set(err, -errno, "cannot make a socket: %s", strerror(errno));
    if (bind(listen_fd, (const struct sockaddr *)&address, sizeof address) != 0)
        return error_set(err, -errno, "%.200s: cannot bind: %s", path, strerror(errno));
    if (listen(listen_fd, 1) != 0)
        rc = error_set(err, -errno, "%.200s: cannot listen: %s", path, strerror(errno));
    if (rc == 0)
        rc = connect_to(path, &address, ret_fd, err);
    if (rc != 0 || !keep_name)
        unlink(path);
    if (rc == 0)
        *ret_listen_fd = fd_take(&listen_fd);
    return rc;
}

int channel_reopen(const char *path, int *ret_fd, struct error *err)
{
    struct sockaddr_un address;
    int rc = attachment_address(path, &address, err);
    return rc != 0 ? rc : connect_to(path, &address, ret_fd, err);
}

/* ---- who holds it ------------------------------------------------------------------------------------------ */

/* One line of /proc/net/unix: seven fields, then the path. Return: whether it is a listener at @path. */
static bool line_names(const char *line, const char *path, uint64_t *ret_inode)
{
    unsigned flags;
    unsigned type;
    uint64_t inode;
    int at = 0;
    const unsigned accepts = 0x10000; /* __SO_ACCEPTCON of the kernel's linux/net.h */
    if (sscanf(line, "%*s %*s %*s %x %x %*s %" SCNu64 " %n", &flags, &type, &inode, &at) != 3 || at == 0)
        return false;
    size_t length = strcspn(line + at, "\n");
    if ((flags & accepts) == 0 || length != strlen(path) || memcmp(line + at, path, length) != 0)
        return false;
    *ret_inode = inode;
    return true;
}

static bool find_inode(const char *path, uint64_t *ret_inode)
{
    char line[LINE_BYTES];
    bool found = false;
    FILE *file = fopen("/proc/net/unix", "re");
    if (file == NULL)
        return false;
    while (!found && fgets(line, sizeof line, file) != NULL)
        found = line_names(line, path, ret_inode);
    fclose(file);
    return found;
}

bool channel_is_held(const char *path, pid_t pid)
{
    uint64_t inode;
    char text[LINK_BYTES];
    char wanted[LINK_BYTES];
    if (!find_inode(path, &inode))
        return false;
    snprintf(text, sizeof text, "/proc/%" PRId64 "/fd", (int64_t)pid);
    snprintf(wanted, sizeof wanted, "socket:[%" PRIu64 "]", inode);
    DIR *folder = opendir(text);
    if (folder == NULL)
        return false;
    bool held = false;
    for (const struct dirent *entry; !held && (entry = readdir(folder)) != NULL;) {
        ssize_t length = readlinkat(dirfd(folder), entry->d_name, text, sizeof text - 1);
        text[length < 0 ? 0 : length] = '\0';
        held = strcmp(text, wanted) == 0;
    }
    closedir(folder);
    return held;
}

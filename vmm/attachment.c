#include "vmm/attachment.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/scope.h"

/* Without SOCK_CLOEXEC there is a moment in which another thread's child could inherit a descriptor. A child of
 * child_spawn() closes what it was not given, so only the accelerator's trial could, and only on such a system. */
static int open_pair(int type, int fds[2])
{
#ifndef OMERTAD_PORTABLE
    return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds);
#else
    if (socketpair(AF_UNIX, type, 0, fds) != 0)
        return -1;
    fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    fcntl(fds[1], F_SETFD, FD_CLOEXEC);
    return 0;
#endif
}

int attachment_pair(int type, int *ret_near_fd, int *ret_far_fd, struct error *err)
{
    int fds[2];
    if (open_pair(type, fds) != 0)
        return error_set(err, -errno, "cannot make a socket pair: %s", strerror(errno));
    int near_fd SCOPED_FD = fds[0];
    int far_fd SCOPED_FD = fds[1];
    if (fcntl(near_fd, F_SETFL, O_NONBLOCK) != 0)
        return error_set(err, -errno, "cannot make a socket non-blocking: %s", strerror(errno));
    *ret_near_fd = fd_take(&near_fd);
    *ret_far_fd = fd_take(&far_fd);
    return 0;
}

static void widen(int fd)
{
    const int bytes = ATTACHMENT_BUFFER_BYTES;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

int attachment_open(enum nat_framing framing, struct attachment *ret_attachment, struct error *err)
{
    struct attachment attachment = {-1, -1};
    const int type = framing == NAT_FRAMING_STREAM ? SOCK_STREAM : SOCK_DGRAM;
    int rc = attachment_pair(type, &attachment.host_fd, &attachment.guest_fd, err);
    if (rc != 0)
        return rc;
    widen(attachment.host_fd);
    widen(attachment.guest_fd);
    *ret_attachment = attachment;
    return 0;
}

int attachment_address(const char *path, struct sockaddr_un *ret_address, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path) {
        error_set(err, -ENAMETOOLONG, "%.200s: %zu bytes are too many for a socket's path, %zu are allowed", path,
                  length, sizeof address.sun_path - 1);
        error_tag(err, "runtime-dir-too-long", NULL);
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, length + 1);
    *ret_address = address;
    return 0;
}

static int open_datagram(void)
{
#ifndef OMERTAD_PORTABLE
    return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
#else
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (fd >= 0 && (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0))
        fd_close(&fd);
    return fd;
#endif
}

int attachment_listen(const char *path, int *ret_fd, struct error *err)
{
    struct sockaddr_un address;
    int rc = attachment_address(path, &address, err);
    if (rc != 0)
        return rc;
    int fd SCOPED_FD = open_datagram();
    if (fd < 0)
        return error_set(err, -errno, "cannot make a socket: %s", strerror(errno));
    widen(fd);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        return error_set(err, -errno, "%.200s: cannot bind: %s", path, strerror(errno));
    *ret_fd = fd_take(&fd);
    return 0;
}

int attachment_connect(int fd, const char *path, struct error *err)
{
    struct sockaddr_un address;
    int rc = attachment_address(path, &address, err);
    if (rc == 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        rc = error_set(err, -errno, "%.200s: cannot connect: %s", path, strerror(errno));
    return rc;
}

void attachment_close(struct attachment *attachment)
{
    fd_close(&attachment->host_fd);
    fd_close(&attachment->guest_fd);
}

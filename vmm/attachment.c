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

int attachment_open(struct attachment *ret_attachment, struct error *err)
{
    struct attachment attachment = {-1, -1};
    int rc = attachment_pair(SOCK_DGRAM, &attachment.host_fd, &attachment.guest_fd, err);
    if (rc != 0)
        return rc;
    const int fds[] = {attachment.host_fd, attachment.guest_fd};
    const int bytes = ATTACHMENT_BUFFER_BYTES;
    for (size_t at = 0; at < sizeof fds / sizeof *fds; at++) {
        (void)setsockopt(fds[at], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        (void)setsockopt(fds[at], SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    }
    *ret_attachment = attachment;
    return 0;
}

void attachment_close(struct attachment *attachment)
{
    fd_close(&attachment->host_fd);
    fd_close(&attachment->guest_fd);
}

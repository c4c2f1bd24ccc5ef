#include "vmm/channel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#ifndef OMERTAD_PORTABLE
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#endif

#include "base/scope.h"
#include "vmm/attachment.h"

#ifndef OMERTAD_PORTABLE
enum {
    LINK_BYTES = 64,    /* "socket:[4294967295]" */
    ANSWER_BYTES = 512, /* of sock_diag: 48 and what newer kernels may add */
};
#endif

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
    /* Non-blocking first: a hypervisor that hangs does not take what waits for it, and would keep us waiting too. */
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) != 0)
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

/* ---- who is at the other end --------------------------------------------------------------------------------- */

#ifndef OMERTAD_PORTABLE

/* A question about one socket, and room for its answer. */
struct question {
    struct nlmsghdr header;
    struct unix_diag_req request;
};

/* The inode of the peer in an answer's attributes. Return: false when there is none. */
static bool find_peer(const struct nlmsghdr *answer, uint32_t *ret_inode)
{
    const struct rtattr *attribute = (const struct rtattr *)((const struct unix_diag_msg *)NLMSG_DATA(answer) + 1);
    unsigned left = (unsigned)(answer->nlmsg_len - NLMSG_LENGTH(sizeof(struct unix_diag_msg)));
    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
        if (attribute->rta_type == UNIX_DIAG_PEER && RTA_PAYLOAD(attribute) == sizeof *ret_inode) {
            memcpy(ret_inode, RTA_DATA(attribute), sizeof *ret_inode);
            return true;
        }
    return false;
}

static int peer_inode(int fd, uint32_t *ret_inode)
{
    struct stat own;
    int diag_fd SCOPED_FD = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (diag_fd < 0 || fstat(fd, &own) != 0)
        return -EOPNOTSUPP;
    const struct question question = {
        .header = {.nlmsg_len = sizeof question, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
        .request = {.sdiag_family = AF_UNIX,
                    .udiag_states = UINT32_MAX,
                    .udiag_ino = (uint32_t)own.st_ino,
                    .udiag_show = UDIAG_SHOW_PEER,
                    .udiag_cookie = {UINT32_MAX, UINT32_MAX}},
    };
    _Alignas(struct nlmsghdr) uint8_t bytes[ANSWER_BYTES];
    if (send(diag_fd, &question, sizeof question, 0) != (ssize_t)sizeof question)
        return -EOPNOTSUPP;
    ssize_t length = recv(diag_fd, bytes, sizeof bytes, 0);
    const struct nlmsghdr *answer = (const struct nlmsghdr *)bytes;
    if (length < 0 || !NLMSG_OK(answer, (unsigned)length) || answer->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
        answer->nlmsg_len < NLMSG_LENGTH(sizeof(struct unix_diag_msg)))
        return -EOPNOTSUPP;
    return find_peer(answer, ret_inode) ? 0 : -EPERM;
}

int channel_reaches(int fd, pid_t pid)
{
    uint32_t inode;
    char text[LINK_BYTES];
    char wanted[LINK_BYTES];
    int rc = peer_inode(fd, &inode);
    if (rc != 0)
        return rc;
    snprintf(text, sizeof text, "/proc/%" PRId64 "/fd", (int64_t)pid);
    snprintf(wanted, sizeof wanted, "socket:[%" PRIu32 "]", inode);
    DIR *folder = opendir(text);
    if (folder == NULL)
        return -EPERM;
    bool held = false;
    for (const struct dirent *entry; !held && (entry = readdir(folder)) != NULL;) {
        ssize_t length = readlinkat(dirfd(folder), entry->d_name, text, sizeof text - 1);
        text[length < 0 ? 0 : length] = '\0';
        held = strcmp(text, wanted) == 0;
    }
    closedir(folder);
    return held ? 0 : -EPERM;
}

#else

int channel_reaches(int fd, pid_t pid)
{
    (void)fd;
    (void)pid;
    return -EOPNOTSUPP;
}

#endif

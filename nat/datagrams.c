#include "nat/datagrams.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "base/error.h"

#ifndef OMERTAD_PORTABLE

static void point_at(const struct datagram *messages, size_t count, struct iovec *parts, struct mmsghdr *headers)
{
    for (size_t i = 0; i < count; i++) {
        parts[i] = (struct iovec){.iov_base = messages[i].bytes, .iov_len = messages[i].length};
        headers[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[i], .msg_iovlen = 1}};
    }
}

int datagrams_receive(int fd, struct datagram *messages, size_t count)
{
    REQUIRE(count <= DATAGRAMS_MAX);
    struct iovec parts[DATAGRAMS_MAX];
    struct mmsghdr headers[DATAGRAMS_MAX];
    point_at(messages, count, parts, headers);
    int received = recvmmsg(fd, headers, (unsigned)count, MSG_DONTWAIT, NULL);
    if (received < 0)
        return -errno;
    for (int i = 0; i < received; i++) {
        messages[i].length = headers[i].msg_len;
        messages[i].truncated = (headers[i].msg_hdr.msg_flags & MSG_TRUNC) != 0;
    }
    return received;
}

int datagrams_send(int fd, const struct datagram *messages, size_t count)
{
    REQUIRE(count <= DATAGRAMS_MAX);
    struct iovec parts[DATAGRAMS_MAX];
    struct mmsghdr headers[DATAGRAMS_MAX];
    point_at(messages, count, parts, headers);
    int sent = sendmmsg(fd, headers, (unsigned)count, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

#else

static struct msghdr header_of(const struct datagram *message, struct iovec *part)
{
    *part = (struct iovec){.iov_base = message->bytes, .iov_len = message->length};
    return (struct msghdr){.msg_iov = part, .msg_iovlen = 1};
}

int datagrams_receive(int fd, struct datagram *messages, size_t count)
{
    REQUIRE(count <= DATAGRAMS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct iovec part;
        struct msghdr header = header_of(&messages[i], &part);
        ssize_t length = recvmsg(fd, &header, MSG_DONTWAIT);
        if (length < 0)
            return i > 0 ? (int)i : -errno;
        messages[i].length = (size_t)length;
        messages[i].truncated = (header.msg_flags & MSG_TRUNC) != 0;
    }
    return (int)count;
}

int datagrams_send(int fd, const struct datagram *messages, size_t count)
{
    REQUIRE(count <= DATAGRAMS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct iovec part;
        struct msghdr header = header_of(&messages[i], &part);
        if (sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            return i > 0 ? (int)i : -errno;
    }
    return (int)count;
}

#endif

#include "nat/datagrams.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

void datagrams_point_at(const struct datagram_parts *message, struct iovec ret_parts[static 2])
{
    /* iovecs are not const, also for calls that only read. */
    ret_parts[0] = (struct iovec){.iov_base = message->head, .iov_len = message->head_bytes};
    ret_parts[1] = (struct iovec){.iov_base = (uint8_t *)(uintptr_t)message->body, .iov_len = message->body_bytes};
}

#ifndef OMERTAD_PORTABLE

int datagrams_receive(int fd, struct datagram *messages, size_t count)
{
    REQUIRE(count <= DATAGRAMS_MAX);
    struct iovec parts[DATAGRAMS_MAX];
    struct mmsghdr headers[DATAGRAMS_MAX];
    for (size_t i = 0; i < count; i++) {
        parts[i] = (struct iovec){.iov_base = messages[i].bytes, .iov_len = messages[i].length};
        headers[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[i], .msg_iovlen = 1}};
    }
    int received = recvmmsg(fd, headers, (unsigned)count, MSG_DONTWAIT, NULL);
    if (received < 0)
        return -errno;
    for (int i = 0; i < received; i++) {
        messages[i].length = headers[i].msg_len;
        messages[i].truncated = (headers[i].msg_hdr.msg_flags & MSG_TRUNC) != 0;
    }
    return received;
}

int datagrams_send(int fd, const struct datagram_parts *messages, size_t count)
{
    REQUIRE(count <= DATAGRAMS_MAX);
    struct iovec parts[DATAGRAMS_MAX][2];
    struct mmsghdr headers[DATAGRAMS_MAX];
    for (size_t i = 0; i < count; i++) {
        datagrams_point_at(&messages[i], parts[i]);
        headers[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = parts[i], .msg_iovlen = 2}};
    }
    int sent = sendmmsg(fd, headers, (unsigned)count, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

#else

int datagrams_receive(int fd, struct datagram *messages, size_t count)
{
    REQUIRE(count <= DATAGRAMS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct iovec part = {.iov_base = messages[i].bytes, .iov_len = messages[i].length};
        struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
        ssize_t length = recvmsg(fd, &header, MSG_DONTWAIT);
        if (length < 0)
            return i > 0 ? (int)i : -errno;
        messages[i].length = (size_t)length;
        messages[i].truncated = (header.msg_flags & MSG_TRUNC) != 0;
    }
    return (int)count;
}

int datagrams_send(int fd, const struct datagram_parts *messages, size_t count)
{
    REQUIRE(count <= DATAGRAMS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct iovec parts[2];
        datagrams_point_at(&messages[i], parts);
        struct msghdr header = {.msg_iov = parts, .msg_iovlen = 2};
        if (sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            return i > 0 ? (int)i : -errno;
    }
    return (int)count;
}

#endif

#include "nat/uplink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/scope.h"
#include "nat/segment.h"

void uplink_init(struct uplink *uplink)
{
    *uplink = (struct uplink){.strangers = 0};
    for (int slot = 0; slot < FLOW_MAX; slot++)
        uplink->fds[slot] = -1;
}

static struct sockaddr_in address_of(struct nat_endpoint endpoint)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons(endpoint.port),
        .sin_addr = {.s_addr = htonl(endpoint.ip)},
    };
}

/* All of it is best effort: a system that refuses caps the size, joins nothing, or is told so by the first send. */
static void tune(int fd, bool listens)
{
    int receive_bytes = listens ? UPLINK_RECEIVE_BYTES : 0; /* the system has a smallest size of its own */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
#ifdef IP_PMTUDISC_OMIT
    /* A forged ICMP "fragmentation needed" must not change how the tunnel is sent. Not _INTERFACE: a link with a smaller
     * MTU than the guest believes gets fragments then, instead of nothing. */
    int discovery = IP_PMTUDISC_OMIT;
    (void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discovery, sizeof discovery);
#endif
#ifndef OMERTAD_PORTABLE
    int join = listens;
    (void)setsockopt(fd, IPPROTO_UDP, UDP_GRO, &join, sizeof join);
#endif
}

/* @local_port: 0 lets the system choose. */
static int open_socket(struct nat_endpoint consumer, bool listens, uint16_t local_port, int *ret_fd)
{
#ifndef OMERTAD_PORTABLE
    int fd SCOPED_FD = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
#else
    int fd SCOPED_FD = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
#endif
    tune(fd, listens);
    const struct sockaddr_in local = address_of((struct nat_endpoint){INADDR_ANY, local_port});
    if (local_port != 0 && bind(fd, (const struct sockaddr *)&local, sizeof local) < 0)
        return -errno;
    struct sockaddr_in address = address_of(consumer);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    *ret_fd = fd_take(&fd);
    return 0;
}

static int open_slot(struct uplink *uplink, int slot, struct nat_endpoint consumer, bool listens, uint16_t local_port)
{
    fd_close(&uplink->fds[slot]);
    int rc = open_socket(consumer, listens, local_port, &uplink->fds[slot]);
    uplink->consumers[slot] = consumer;
    uplink->largest[slot] = SEGMENT_BYTES_MAX;
    uplink->segments[slot] = SEGMENT_COUNT_MAX;
    uplink->refusals[slot] = 0;
    return rc;
}

int uplink_open(struct uplink *uplink, int slot, struct nat_endpoint consumer, bool listens)
{
    return open_slot(uplink, slot, consumer, listens, 0);
}

int uplink_move(struct uplink *uplink, int slot, struct nat_endpoint consumer)
{
    return uplink_resume(uplink, slot, consumer, uplink_local_port(uplink, slot));
}

int uplink_resume(struct uplink *uplink, int slot, struct nat_endpoint consumer, uint16_t local_port)
{
    int rc = open_slot(uplink, slot, consumer, true, local_port);
    return rc == -EADDRINUSE ? open_slot(uplink, slot, consumer, true, 0) : rc;
}

uint16_t uplink_local_port(const struct uplink *uplink, int slot)
{
    struct sockaddr_in local = {.sin_family = AF_UNSPEC};
    socklen_t length = sizeof local;
    bool known = getsockname(uplink->fds[slot], (struct sockaddr *)&local, &length) == 0 && local.sin_family == AF_INET;
    return known ? ntohs(local.sin_port) : 0;
}

void uplink_close(struct uplink *uplink, uint64_t slots)
{
    for (int slot = 0; slot < FLOW_MAX && slots != 0; slot++) {
        if (slots & UINT64_C(1) << slot)
            fd_close(&uplink->fds[slot]);
    }
}

/* What an ICMP message about an earlier datagram leaves on a connected UDP socket: ip(7), udp(7). */
static bool is_late_icmp(int rc)
{
    return rc == -ECONNREFUSED || rc == -EHOSTUNREACH || rc == -ENETUNREACH || rc == -EHOSTDOWN || rc == -EPROTO;
}

/* ---- out ---------------------------------------------------------------------------------------------------------- */

/** struct outgoing - A run cut into messages; counts[i] payloads in the i-th. */
struct outgoing {
    size_t messages;
    size_t counts[UPLINK_RUN_MAX];
};

static void cut(const struct uplink *uplink, int slot, const struct uplink_run *run, size_t from,
                struct outgoing *ret_outgoing)
{
#ifndef OMERTAD_PORTABLE
    const size_t largest = uplink->largest[slot];
#else
    const size_t largest = 0;
#endif
    const size_t most = uplink->segments[slot];
    ret_outgoing->messages = 0;
    for (size_t at = from; at < run->count; at += ret_outgoing->counts[ret_outgoing->messages++])
        ret_outgoing->counts[ret_outgoing->messages] =
            segment_count(&run->payloads[at], run->count - at, largest, most);
}

#ifndef OMERTAD_PORTABLE

/** struct segment_control - Room for the one control message: at which distance the kernel cuts. */
struct segment_control {
    _Alignas(struct cmsghdr) char bytes[CMSG_SPACE(sizeof(uint16_t))];
};

static void ask_to_cut(struct msghdr *header, struct segment_control *control, size_t segment)
{
    header->msg_control = control->bytes;
    header->msg_controllen = sizeof control->bytes;
    struct cmsghdr *message = CMSG_FIRSTHDR(header);
    message->cmsg_level = IPPROTO_UDP;
    message->cmsg_type = UDP_SEGMENT;
    message->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    const uint16_t bytes = (uint16_t)segment;
    memcpy(CMSG_DATA(message), &bytes, sizeof bytes);
}

/* Return: number of messages sent, at least 1, or what the system said about the first. */
static int send_messages(int fd, const struct uplink_run *run, size_t from, const struct outgoing *outgoing)
{
    struct mmsghdr headers[UPLINK_RUN_MAX];
    struct segment_control controls[UPLINK_RUN_MAX];
    size_t at = from;
    for (size_t i = 0; i < outgoing->messages; i++) {
        /* sendmmsg(2) takes what it only reads as non-const. */
        struct iovec *payloads = (struct iovec *)(uintptr_t)&run->payloads[at];
        headers[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = payloads, .msg_iovlen = outgoing->counts[i]}};
        if (outgoing->counts[i] > 1)
            ask_to_cut(&headers[i].msg_hdr, &controls[i], run->payloads[at].iov_len);
        at += outgoing->counts[i];
    }
    int sent = sendmmsg(fd, headers, (unsigned)outgoing->messages, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

#else

static int send_messages(int fd, const struct uplink_run *run, size_t from, const struct outgoing *outgoing)
{
    for (size_t i = 0; i < outgoing->messages; i++) {
        if (send(fd, run->payloads[from + i].iov_base, run->payloads[from + i].iov_len, MSG_DONTWAIT | MSG_NOSIGNAL) <
            0)
            return i > 0 ? (int)i : -errno;
    }
    return (int)outgoing->messages;
}

#endif

/* Notes what the kernel does not take joined. EINVAL for many: more segments than it cuts. EMSGSIZE and, of older kernels,
 * EINVAL: larger than the link, smaller ones may still go together. EIO: no checksum offload on the way. Return: whether it
 * is worth another try, in smaller messages or one by one. */
static bool take_apart(struct uplink *uplink, int slot, size_t segments, size_t segment, int rc)
{
    if (rc == -EINVAL && segments > SEGMENT_COUNT_OLD_MAX) {
        uplink->segments[slot] = SEGMENT_COUNT_OLD_MAX;
        return true;
    }
    if (rc != -EMSGSIZE && rc != -EINVAL && rc != -EIO && rc != -EOPNOTSUPP)
        return false;
    bool by_size = rc == -EMSGSIZE || rc == -EINVAL;
    uplink->refusals[slot]++;
    uplink->largest[slot] = by_size && uplink->refusals[slot] < UPLINK_REFUSALS_MAX ? segment - 1 : 0;
    return true;
}

struct uplink_sent uplink_send(struct uplink *uplink, int slot, const struct uplink_run *run, size_t from)
{
    struct uplink_sent sent = {0};
    while (from + sent.done < run->count) {
        const size_t at = from + sent.done;
        struct outgoing outgoing;
        cut(uplink, slot, run, at, &outgoing);
        int some = send_messages(uplink->fds[slot], run, at, &outgoing);
        if (is_late_icmp(some))
            some = send_messages(uplink->fds[slot], run, at, &outgoing);
        if (some == -EAGAIN || some == -ENOBUFS)
            break;
        for (size_t i = 0; i < outgoing.messages && (int)i < some; i++)
            sent.done += outgoing.counts[i];
        if (some > 0 || some == -EINTR ||
            (outgoing.counts[0] > 1 && take_apart(uplink, slot, outgoing.counts[0], run->payloads[at].iov_len, some)))
            continue;
        /* Whatever the system has against this message: the next one is tried all the same. */
        for (size_t i = 0; i < outgoing.counts[0]; i++)
            marks_set(&sent.refused, at + i);
        sent.done += outgoing.counts[0];
    }
    return sent;
}

/* ---- back --------------------------------------------------------------------------------------------------------- */

/* Between the making of a socket and its connection the kernel takes datagrams from everybody. What it queued then is still
 * there after the connection, so each message's sender is looked at: that costs a few nanoseconds for up to 64 datagrams. */
static void keep(struct uplink *uplink, int slot, struct uplink_batch *batch, struct uplink_message *message,
                 const struct sockaddr_in *sender)
{
    const struct nat_endpoint consumer = uplink->consumers[slot];
    if (sender->sin_family == AF_INET && ntohl(sender->sin_addr.s_addr) == consumer.ip &&
        ntohs(sender->sin_port) == consumer.port)
        batch->messages[batch->count++] = message;
    else
        uplink->strangers++;
}

#ifndef OMERTAD_PORTABLE

/** struct joined_control - Room for the one control message: at which distance the kernel has joined. */
struct joined_control {
    _Alignas(struct cmsghdr) char bytes[CMSG_SPACE(sizeof(int))];
};

static size_t segment_of(struct msghdr *header, size_t length)
{
    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control != NULL; control = CMSG_NXTHDR(header, control)) {
        int segment = 0;
        if (control->cmsg_level != IPPROTO_UDP || control->cmsg_type != UDP_GRO)
            continue;
        memcpy(&segment, CMSG_DATA(control), sizeof segment);
        if (segment > 0 && (size_t)segment < length)
            return (size_t)segment;
    }
    return length;
}

static int receive_messages(struct uplink *uplink, int slot, struct uplink_batch *batch)
{
    struct iovec parts[UPLINK_MESSAGES];
    struct mmsghdr headers[UPLINK_MESSAGES];
    struct sockaddr_in senders[UPLINK_MESSAGES];
    struct joined_control controls[UPLINK_MESSAGES];
    for (size_t i = 0; i < UPLINK_MESSAGES; i++) {
        parts[i] = (struct iovec){.iov_base = batch->places[i].bytes, .iov_len = UPLINK_MESSAGE_BYTES};
        headers[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &senders[i],
                                                  .msg_namelen = sizeof senders[i],
                                                  .msg_iov = &parts[i],
                                                  .msg_iovlen = 1,
                                                  .msg_control = controls[i].bytes,
                                                  .msg_controllen = sizeof controls[i].bytes}};
        senders[i].sin_family = AF_UNSPEC;
    }
    int received = recvmmsg(uplink->fds[slot], headers, UPLINK_MESSAGES, MSG_DONTWAIT, NULL);
    if (received < 0)
        return -errno;
    for (int i = 0; i < received; i++) {
        struct uplink_message *message = &batch->places[i];
        message->length = headers[i].msg_len;
        message->segment = segment_of(&headers[i].msg_hdr, message->length);
        message->truncated = (headers[i].msg_hdr.msg_flags & MSG_TRUNC) != 0;
        keep(uplink, slot, batch, message, &senders[i]);
    }
    return received;
}

#else

static int receive_messages(struct uplink *uplink, int slot, struct uplink_batch *batch)
{
    for (int i = 0; i < UPLINK_MESSAGES; i++) {
        struct uplink_message *message = &batch->places[i];
        struct sockaddr_in sender = {.sin_family = AF_UNSPEC};
        struct iovec part = {.iov_base = message->bytes, .iov_len = UPLINK_MESSAGE_BYTES};
        struct msghdr header = {.msg_name = &sender, .msg_namelen = sizeof sender, .msg_iov = &part, .msg_iovlen = 1};
        ssize_t length = recvmsg(uplink->fds[slot], &header, MSG_DONTWAIT);
        if (length < 0)
            return i > 0 ? i : -errno;
        message->length = (size_t)length;
        message->segment = message->length;
        message->truncated = (header.msg_flags & MSG_TRUNC) != 0;
        keep(uplink, slot, batch, message, &sender);
    }
    return UPLINK_MESSAGES;
}

#endif

int uplink_receive(struct uplink *uplink, int slot, struct uplink_batch *batch)
{
    batch->count = 0;
    int received = receive_messages(uplink, slot, batch);
    return is_late_icmp(received) || received == -EAGAIN ? 0 : received;
}

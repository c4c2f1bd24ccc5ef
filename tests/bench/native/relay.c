/* The two baselines. Both carry frames as the NAT does and check nothing: not one byte of a header is looked at. They serve
 * one guest and one consumer, which a NAT must not take for granted. The relay's messages have 64 datagrams, which every kernel
 * takes; the NAT's have twice as many where the kernel cuts them. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nat/wire.h"
#include "tests/bench/native/bench.h"
#include "tests/nat/frames.h"

enum {
    BATCH = 64,
    HEADERS = WIRE_PAYLOAD,
    STREAM_BYTES = BATCH * BENCH_FRAME_BYTES,
    JOINED_BYTES = 65536,
};

struct relay {
    pthread_t thread;
    atomic_int tid;
    atomic_bool stop;
    bool naive;
    enum nat_framing framing;
    int frame;
    int udp;
    uint8_t header[4 + HEADERS]; /* length, then what the guest sent with its addresses the other way round */
    uint8_t out[STREAM_BYTES];
    size_t begun; /* bytes of a frame that is not whole yet, at the begin of @out */
    uint8_t in[JOINED_BYTES];
    uint8_t headers[BATCH][4 + HEADERS];
};

/* ---- out ---------------------------------------------------------------------------------------------------------- */

static void send_joined(int udp, struct iovec *parts, size_t count)
{
    char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    if (count > 1) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *segment = CMSG_FIRSTHDR(&message);
        segment->cmsg_level = IPPROTO_UDP;
        segment->cmsg_type = UDP_SEGMENT;
        segment->cmsg_len = CMSG_LEN(sizeof(uint16_t));
        const uint16_t bytes = (uint16_t)parts[0].iov_len;
        memcpy(CMSG_DATA(segment), &bytes, sizeof bytes);
    }
    while (sendmsg(udp, &message, 0) < 0 && errno == ECONNREFUSED)
        continue;
}

/* The guest of a measurement sends payloads of one size, so that only the bytes of a message limit it. */
static void send_run(int udp, struct iovec *parts, size_t count)
{
    for (size_t at = 0; at < count;) {
        size_t most = parts[at].iov_len > 0 ? 65507 / parts[at].iov_len : 1;
        size_t some = count - at < most ? count - at : most;
        send_joined(udp, parts + at, some);
        at += some;
    }
}

static void datagrams_out(struct relay *relay)
{
    struct mmsghdr headers[BATCH];
    struct iovec parts[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){relay->out + i * BENCH_FRAME_BYTES, BENCH_FRAME_BYTES};
        headers[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[i], .msg_iovlen = 1}};
    }
    int got = recvmmsg(relay->frame, headers, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < got; i++) {
        parts[i].iov_base = relay->out + i * BENCH_FRAME_BYTES + HEADERS;
        parts[i].iov_len = headers[i].msg_len - HEADERS;
    }
    if (got > 0)
        send_run(relay->udp, parts, (size_t)got);
}

static void stream_out(struct relay *relay)
{
    ssize_t got = recv(relay->frame, relay->out + relay->begun, sizeof relay->out - relay->begun, MSG_DONTWAIT);
    if (got <= 0)
        return;
    const size_t end = relay->begun + (size_t)got;
    struct iovec parts[BATCH];
    size_t count = 0;
    size_t at = 0;
    while (end - at >= 4) {
        uint32_t prefix;
        memcpy(&prefix, relay->out + at, sizeof prefix);
        const size_t length = ntohl(prefix);
        if (end - at - 4 < length)
            break;
        parts[count++] = (struct iovec){relay->out + at + 4 + HEADERS, length - HEADERS};
        at += 4 + length;
        if (count == BATCH) {
            send_run(relay->udp, parts, count);
            count = 0;
        }
    }
    send_run(relay->udp, parts, count);
    memmove(relay->out, relay->out + at, end - at);
    relay->begun = end - at;
}

/* ---- back --------------------------------------------------------------------------------------------------------- */

static size_t receive_joined(struct relay *relay, size_t *ret_length)
{
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {relay->in, sizeof relay->in};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(relay->udp, &message, MSG_DONTWAIT);
    *ret_length = length > 0 ? (size_t)length : 0;
    int segment = (int)*ret_length;
    struct cmsghdr *joined = CMSG_FIRSTHDR(&message);
    if (length > 0 && joined != NULL && joined->cmsg_type == UDP_GRO)
        memcpy(&segment, CMSG_DATA(joined), sizeof segment);
    return (size_t)segment;
}

static void wait_for_room(int fd)
{
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    poll(&room, 1, 100);
}

static void send_frames(struct relay *relay, struct iovec (*parts)[2], size_t count)
{
    if (relay->framing == NAT_FRAMING_STREAM) {
        struct msghdr message = {.msg_iov = parts[0], .msg_iovlen = 2 * count};
        size_t left = 0;
        for (size_t i = 0; i < count; i++)
            left += parts[i][0].iov_len + parts[i][1].iov_len;
        ssize_t sent = sendmsg(relay->frame, &message, MSG_NOSIGNAL); /* blocking: the guest of a measurement reads */
        if (sent != (ssize_t)left)
            abort();
        return;
    }
    struct mmsghdr headers[BATCH];
    for (size_t i = 0; i < count; i++)
        headers[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = parts[i], .msg_iovlen = 2}};
    for (size_t at = 0; at < count && !relay->stop;) {
        int sent = sendmmsg(relay->frame, headers + at, (unsigned)(count - at), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0)
            wait_for_room(relay->frame);
        at += sent > 0 ? (size_t)sent : 0;
    }
}

static void joined_back(struct relay *relay)
{
    const size_t skipped = relay->framing == NAT_FRAMING_STREAM ? 0 : 4;
    size_t length = 0;
    const size_t segment = receive_joined(relay, &length);
    struct iovec parts[BATCH][2];
    size_t count = 0;
    for (size_t at = 0; at < length; at += segment) {
        const size_t payload = length - at < segment ? length - at : segment;
        const uint32_t prefix = htonl((uint32_t)(HEADERS + payload));
        uint8_t *header = relay->headers[count];
        memcpy(header, relay->header, sizeof relay->header);
        memcpy(header, &prefix, sizeof prefix);
        parts[count][0] = (struct iovec){header + skipped, sizeof relay->header - skipped};
        parts[count++][1] = (struct iovec){relay->in + at, payload};
        if (count == BATCH || at + segment >= length) {
            send_frames(relay, parts, count);
            count = 0;
        }
    }
}

/* ---- naive -------------------------------------------------------------------------------------------------------- */

static void naive_out(struct relay *relay)
{
    size_t length = BENCH_FRAME_BYTES;
    if (relay->framing == NAT_FRAMING_STREAM) {
        uint32_t prefix;
        if (recv(relay->frame, &prefix, sizeof prefix, MSG_WAITALL) != sizeof prefix)
            return;
        length = ntohl(prefix);
    }
    const int flags = relay->framing == NAT_FRAMING_STREAM ? MSG_WAITALL : MSG_DONTWAIT;
    ssize_t got = recv(relay->frame, relay->out, length, flags);
    if (got > HEADERS)
        (void)!send(relay->udp, relay->out + HEADERS, (size_t)got - HEADERS, 0);
}

static void naive_back(struct relay *relay)
{
    uint8_t *frame = relay->in;
    ssize_t got = recv(relay->udp, frame + sizeof relay->header, BENCH_FRAME_BYTES, MSG_DONTWAIT);
    if (got < 0)
        return;
    const size_t length = HEADERS + (size_t)got;
    const uint32_t prefix = htonl((uint32_t)length);
    memcpy(frame, relay->header, sizeof relay->header);
    memcpy(frame, &prefix, sizeof prefix);
    const size_t skipped = relay->framing == NAT_FRAMING_STREAM ? 0 : sizeof prefix;
    while (send(relay->frame, frame + skipped, sizeof prefix + length - skipped, MSG_NOSIGNAL) < 0 && !relay->stop)
        wait_for_room(relay->frame);
}

/* ---- the thread --------------------------------------------------------------------------------------------------- */

static void *run(void *context)
{
    struct relay *relay = context;
    atomic_store(&relay->tid, (int)syscall(SYS_gettid));
    while (!relay->stop) {
        struct pollfd set[] = {{.fd = relay->frame, .events = POLLIN}, {.fd = relay->udp, .events = POLLIN}};
        poll(set, 2, 100);
        if (set[0].revents & POLLIN) {
            if (relay->naive)
                naive_out(relay);
            else if (relay->framing == NAT_FRAMING_STREAM)
                stream_out(relay);
            else
                datagrams_out(relay);
        }
        if (set[1].revents & POLLIN) {
            if (relay->naive)
                naive_back(relay);
            else
                joined_back(relay);
        }
    }
    return NULL;
}

struct relay *relay_start(bool naive, enum nat_framing framing, int frame_fd, pid_t *ret_thread)
{
    struct relay *relay = calloc(1, sizeof *relay);
    if (relay == NULL)
        bench_die("calloc");
    relay->naive = naive;
    relay->framing = framing;
    relay->frame = frame_fd;
    relay->udp = socket(AF_INET, SOCK_DGRAM, 0);
    const int bytes = 1024 * 1024;
    const int join = !naive;
    (void)setsockopt(relay->udp, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    (void)setsockopt(relay->udp, IPPROTO_UDP, UDP_GRO, &join, sizeof join);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(test_consumer.port), .sin_addr = {.s_addr = htonl(test_consumer.ip)}};
    if (connect(relay->udp, (struct sockaddr *)&to, sizeof to) < 0)
        bench_die("connect");
    fcntl(relay->frame, F_SETFL, framing == NAT_FRAMING_STREAM ? 0 : O_NONBLOCK);
    struct frame like = frame_udp(test_consumer, test_guest, 0);
    memcpy(relay->header + 4, like.bytes, HEADERS);
    if (pthread_create(&relay->thread, NULL, run, relay) != 0)
        bench_die("pthread_create");
    while (atomic_load(&relay->tid) == 0)
        usleep(100);
    *ret_thread = relay->tid;
    return relay;
}

void relay_stop(struct relay *relay)
{
    relay->stop = true;
    pthread_join(relay->thread, NULL);
    close(relay->frame);
    close(relay->udp);
    free(relay);
}

#include "nat/uplink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/scope.h"

void uplink_init(struct uplink *uplink)
{
    for (int slot = 0; slot < FLOW_MAX; slot++)
        uplink->fds[slot] = -1;
}

static void tune(int fd, bool listens)
{
    int receive_bytes = listens ? UPLINK_RECEIVE_BYTES : 0; /* the system has a smallest size of its own */
    /* Best effort: the system caps it without an error. */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
#ifdef IP_PMTUDISC_OMIT
    /* A forged ICMP "fragmentation needed" must not change how the tunnel is sent. */
    int discovery = IP_PMTUDISC_OMIT;
    (void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discovery, sizeof discovery);
#endif
}

int uplink_open(struct uplink *uplink, int slot, struct nat_endpoint consumer, bool listens)
{
    fd_close(&uplink->fds[slot]);
    int fd SCOPED_FD = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    tune(fd, listens);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(consumer.port),
        .sin_addr = {.s_addr = htonl(consumer.ip)},
    };
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    uplink->fds[slot] = fd_take(&fd);
    return 0;
}

void uplink_close(struct uplink *uplink, uint64_t slots)
{
    for (int slot = 0; slot < FLOW_MAX; slot++) {
        if (slots & UINT64_C(1) << slot)
            fd_close(&uplink->fds[slot]);
    }
}

/* What an ICMP message about an earlier datagram leaves on a connected UDP socket: ip(7), udp(7). */
static bool is_late_icmp(int rc)
{
    return rc == -ECONNREFUSED || rc == -EHOSTUNREACH || rc == -ENETUNREACH || rc == -EHOSTDOWN || rc == -EPROTO;
}

static int send_some(int fd, const struct datagram *payloads, size_t count)
{
    int sent = datagrams_send(fd, payloads, count);
    if (is_late_icmp(sent))
        sent = datagrams_send(fd, payloads, count);
    if (sent == -EAGAIN || sent == -ENOBUFS) {
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        if (poll(&ready, 1, UPLINK_SEND_WAIT_MS) > 0)
            sent = datagrams_send(fd, payloads, count);
    }
    return sent;
}

struct uplink_sent uplink_send(struct uplink *uplink, int slot, const struct datagram *payloads, size_t count)
{
    struct uplink_sent sent = {0};
    size_t at = 0;
    while (at < count) {
        int some = send_some(uplink->fds[slot], payloads + at, count - at);
        if (some == -EAGAIN)
            break; /* the link stays busy: the rest is dropped, as on any full queue */
        size_t passed = some > 0 ? (size_t)some : 0;
        for (size_t i = 0; i < passed; i++)
            sent.payload_bytes += payloads[at + i].length;
        sent.packets += passed;
        at += passed > 0 ? passed : 1;
    }
    return sent;
}

int uplink_receive(struct uplink *uplink, int slot, struct datagram *payloads, size_t count)
{
    int received = datagrams_receive(uplink->fds[slot], payloads, count);
    return is_late_icmp(received) ? 0 : received;
}

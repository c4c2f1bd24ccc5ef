/* Two sources, united. The interfaces' addresses are what people think of; they count even while the interface is down.
 * The routing table `local` is what the kernel goes by: it also holds prefixes that the machine answers for as a whole
 * (`ip route add local 198.51.100.0/28 dev lo`). Of those outside of 127/8, each address is one of the machine's own. */
#include "vmm/own_addresses.h"

#include <errno.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#ifndef OMERTAD_PORTABLE
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#endif

#include "base/scope.h"

enum own_addresses_limits {
    DUMP_BYTES = 32768, /* the kernel's own choice for a reader with room */
    TRIES_MAX = 5,      /* a table that changes while it is read is read again */
    LOOPBACK_NET = 127,
};

struct gathered {
    uint32_t *ips;
    size_t capacity;
    size_t count;
};

static int add(struct gathered *all, uint32_t ip, struct error *err)
{
    for (size_t at = 0; at < all->count; at++)
        if (all->ips[at] == ip)
            return 0;
    if (all->count == all->capacity)
        return error_set(err, -E2BIG, "this machine has more than %zu IPv4 addresses", all->capacity);
    all->ips[all->count++] = ip;
    return 0;
}

static int add_interfaces(struct gathered *all, struct error *err)
{
    struct ifaddrs *list;
    if (getifaddrs(&list) != 0)
        return error_set(err, -errno, "the machine's own addresses cannot be read: %s", strerror(errno));
    int rc = 0;
    for (const struct ifaddrs *one = list; one != NULL && rc == 0; one = one->ifa_next) {
        if (one->ifa_addr == NULL || one->ifa_addr->sa_family != AF_INET)
            continue;
        struct sockaddr_in name;
        memcpy(&name, one->ifa_addr, sizeof name);
        rc = add(all, ntohl(name.sin_addr.s_addr), err);
    }
    freeifaddrs(list);
    return rc;
}

#ifndef OMERTAD_PORTABLE

static int add_prefix(struct gathered *all, uint32_t ip, unsigned length, uint32_t table, struct error *err)
{
    if (length == 32)
        return add(all, ip, err);
    /* Prefixes of other tables take a rule to matter (as with TPROXY); 127/8 is closed everywhere as a range. */
    if (table != RT_TABLE_LOCAL || ip >> 24 == LOOPBACK_NET)
        return 0;
    uint64_t size = UINT64_C(1) << (32 - length);
    if (size > all->capacity)
        return error_set(err, -E2BIG, "this machine answers for %" PRIu64 " IPv4 addresses of one local route", size);
    int rc = 0;
    for (uint32_t at = 0; at < size && rc == 0; at++)
        rc = add(all, ip + at, err);
    return rc;
}

/* @bytes: what follows the header of one RTM_NEWROUTE. */
static int add_route(struct gathered *all, const uint8_t *bytes, size_t left, struct error *err)
{
    struct rtmsg route;
    if (left < NLMSG_ALIGN(sizeof route))
        return error_set(err, -EBADMSG, "the kernel sent a truncated route");
    memcpy(&route, bytes, sizeof route);
    if (route.rtm_family != AF_INET || route.rtm_type != RTN_LOCAL || route.rtm_dst_len > 32)
        return 0;
    bytes += NLMSG_ALIGN(sizeof route);
    left -= NLMSG_ALIGN(sizeof route);
    uint32_t ip = 0;
    uint32_t table = route.rtm_table;
    for (struct rtattr head; left >= sizeof head;) {
        memcpy(&head, bytes, sizeof head);
        if (head.rta_len < sizeof head || head.rta_len > left)
            break;
        if (head.rta_len == RTA_LENGTH(sizeof ip) && head.rta_type == RTA_DST)
            memcpy(&ip, bytes + RTA_LENGTH(0), sizeof ip);
        if (head.rta_len == RTA_LENGTH(sizeof table) && head.rta_type == RTA_TABLE)
            memcpy(&table, bytes + RTA_LENGTH(0), sizeof table);
        size_t step = RTA_ALIGN(head.rta_len);
        if (step > left)
            break;
        bytes += step;
        left -= step;
    }
    return add_prefix(all, ntohl(ip), route.rtm_dst_len, table, err);
}

/* Return: 1 at the end of the dump, 0 when there is more, negative. */
static int take_messages(struct gathered *all, const uint8_t *bytes, size_t left, bool *torn, struct error *err)
{
    for (struct nlmsghdr head; left >= sizeof head;) {
        memcpy(&head, bytes, sizeof head);
        if (head.nlmsg_len < NLMSG_HDRLEN || head.nlmsg_len > left)
            return error_set(err, -EBADMSG, "the kernel sent a truncated message");
        if ((head.nlmsg_flags & NLM_F_DUMP_INTR) != 0)
            *torn = true;
        if (head.nlmsg_type == NLMSG_DONE)
            return 1;
        if (head.nlmsg_type == NLMSG_ERROR)
            return error_set(err, -EIO, "the kernel refuses to show its routes");
        int rc = head.nlmsg_type == RTM_NEWROUTE
                     ? add_route(all, bytes + NLMSG_HDRLEN, head.nlmsg_len - NLMSG_HDRLEN, err)
                     : 0;
        size_t step = NLMSG_ALIGN(head.nlmsg_len);
        if (rc != 0 || step > left)
            return rc;
        bytes += step;
        left -= step;
    }
    return 0;
}

static int dump_routes(struct gathered *all, bool *torn, struct error *err)
{
    int fd SCOPED_FD = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    uint8_t *bytes SCOPED_FREE = malloc(DUMP_BYTES);
    if (fd < 0 || bytes == NULL)
        return error_set(err, -errno, "cannot ask for routes: %s", strerror(errno));
    const struct {
        struct nlmsghdr head;
        struct rtmsg route;
    } ask = {.head = {.nlmsg_len = sizeof ask, .nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
             .route = {.rtm_family = AF_INET}};
    if (send(fd, &ask, sizeof ask, 0) != (ssize_t)sizeof ask)
        return error_set(err, -errno, "cannot ask for routes: %s", strerror(errno));
    while (true) {
        ssize_t length = recv(fd, bytes, DUMP_BYTES, MSG_TRUNC);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return error_set(err, -errno, "cannot read routes: %s", strerror(errno));
        if (length > DUMP_BYTES)
            return error_set(err, -EBADMSG, "the kernel's routes do not fit");
        int rc = take_messages(all, bytes, (size_t)length, torn, err);
        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
}

static int add_routes(struct gathered *all, struct error *err)
{
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        bool torn = false;
        int rc = dump_routes(all, &torn, err);
        if (rc != 0 || !torn)
            return rc;
    }
    return error_set(err, -EAGAIN, "the machine's routes change too fast to be read");
}

#else

static int add_routes(struct gathered *all, struct error *err)
{
    (void)all;
    (void)err;
    return 0;
}

#endif

static int compare(const void *one, const void *two)
{
    uint32_t a = *(const uint32_t *)one;
    uint32_t b = *(const uint32_t *)two;
    return (a > b) - (a < b);
}

int own_addresses_read(uint32_t *ret_ips, size_t capacity, size_t *ret_count, struct error *err)
{
    struct gathered all = {.ips = ret_ips, .capacity = capacity};
    int rc = add_interfaces(&all, err);
    if (rc == 0)
        rc = add_routes(&all, err);
    if (rc != 0)
        return rc;
    if (all.count == 0)
        return error_set(err, -ENODATA, "this machine shows no IPv4 address of its own, not even 127.0.0.1");
    qsort(ret_ips, all.count, sizeof *ret_ips, compare);
    *ret_count = all.count;
    return 0;
}

/* ---- changes ----------------------------------------------------------------------------------------------- */

#ifndef OMERTAD_PORTABLE
int own_addresses_listen(int *ret_fd, struct error *err)
{
    const struct sockaddr_nl groups = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE};
    struct sockaddr address = {0};
    _Static_assert(sizeof groups <= sizeof address, "struct sockaddr_nl has 12 bytes");
    memcpy(&address, &groups, sizeof groups);
    int fd SCOPED_FD = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0 || bind(fd, &address, sizeof groups) != 0)
        return error_set(err, -errno, "cannot listen to address changes: %s", strerror(errno));
    *ret_fd = fd_take(&fd);
    return 0;
}
#else
int own_addresses_listen(int *ret_fd, struct error *err)
{
    (void)ret_fd;
    return error_set(err, -ENOTSUP, "this system does not tell of address changes");
}
#endif

void own_addresses_drain(int fd)
{
    char bytes[4096];
    errno = 0;
    while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0 || errno == ENOBUFS)
        errno = 0;
}

/* Two sources, united. The interfaces' addresses are what people think of; they count even while the interface is down.
 * The routing table `local` is what the kernel goes by: it also holds prefixes that the machine answers for as a whole
 * (`ip route add local 198.51.100.0/28 dev lo`). Of those outside of 127/8, each address is one of the machine's own.
 * Both are asked over netlink; getifaddrs(3) would ask for every interface as well, at three times the cost. */
#include "vmm/own_addresses.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#ifdef OMERTAD_PORTABLE
#include <ifaddrs.h>
#else
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

/* A message about an address or a route: its family's header, and the attributes that hold one 32-bit value. */
struct attributes {
    uint32_t value[RTA_TABLE + 1]; /* by type, as sent */
    bool has[RTA_TABLE + 1];
};

/* @bytes: what follows the family's header. */
static void read_attributes(const uint8_t *bytes, size_t left, struct attributes *ret)
{
    *ret = (struct attributes){0};
    for (struct rtattr head; left >= sizeof head;) {
        memcpy(&head, bytes, sizeof head);
        if (head.rta_len < sizeof head || head.rta_len > left)
            break;
        if (head.rta_len == RTA_LENGTH(sizeof *ret->value) && head.rta_type <= RTA_TABLE) {
            memcpy(&ret->value[head.rta_type], bytes + RTA_LENGTH(0), sizeof *ret->value);
            ret->has[head.rta_type] = true;
        }
        size_t step = RTA_ALIGN(head.rta_len);
        if (step > left)
            break;
        bytes += step;
        left -= step;
    }
}

/* @bytes: what follows the header of one RTM_NEWADDR. */
static int add_address(struct gathered *all, const uint8_t *bytes, size_t left, struct error *err)
{
    struct ifaddrmsg address;
    struct attributes attributes;
    if (left < NLMSG_ALIGN(sizeof address))
        return error_set(err, -EBADMSG, "the kernel sent a truncated address");
    memcpy(&address, bytes, sizeof address);
    if (address.ifa_family != AF_INET)
        return 0;
    read_attributes(bytes + NLMSG_ALIGN(sizeof address), left - NLMSG_ALIGN(sizeof address), &attributes);
    /* On a link between two ends IFA_ADDRESS is the other one's. */
    if (attributes.has[IFA_LOCAL])
        return add(all, ntohl(attributes.value[IFA_LOCAL]), err);
    return attributes.has[IFA_ADDRESS] ? add(all, ntohl(attributes.value[IFA_ADDRESS]), err) : 0;
}

/* @bytes: what follows the header of one RTM_NEWROUTE. */
static int add_route(struct gathered *all, const uint8_t *bytes, size_t left, struct error *err)
{
    struct rtmsg route;
    struct attributes attributes;
    if (left < NLMSG_ALIGN(sizeof route))
        return error_set(err, -EBADMSG, "the kernel sent a truncated route");
    memcpy(&route, bytes, sizeof route);
    if (route.rtm_family != AF_INET || route.rtm_type != RTN_LOCAL || route.rtm_dst_len > 32)
        return 0;
    read_attributes(bytes + NLMSG_ALIGN(sizeof route), left - NLMSG_ALIGN(sizeof route), &attributes);
    uint32_t table = attributes.has[RTA_TABLE] ? attributes.value[RTA_TABLE] : route.rtm_table;
    return add_prefix(all, ntohl(attributes.value[RTA_DST]), route.rtm_dst_len, table, err);
}

static int add_message(struct gathered *all, uint16_t type, const uint8_t *bytes, size_t left, struct error *err)
{
    if (type == RTM_NEWADDR)
        return add_address(all, bytes, left, err);
    return type == RTM_NEWROUTE ? add_route(all, bytes, left, err) : 0;
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
            return error_set(err, -EIO, "the kernel refuses to show its addresses and routes");
        int rc = add_message(all, head.nlmsg_type, bytes + NLMSG_HDRLEN, head.nlmsg_len - NLMSG_HDRLEN, err);
        size_t step = NLMSG_ALIGN(head.nlmsg_len);
        if (rc != 0 || step > left)
            return rc;
        bytes += step;
        left -= step;
    }
    return 0;
}

/* @type: RTM_GETADDR or RTM_GETROUTE; the latter's header is longer, and a longer one is allowed for both. */
static int dump(struct gathered *all, int fd, uint8_t bytes[static DUMP_BYTES], uint16_t type, bool *torn,
                struct error *err)
{
    const struct {
        struct nlmsghdr head;
        struct rtmsg family;
    } ask = {.head = {.nlmsg_len = sizeof ask, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
             .family = {.rtm_family = AF_INET}};
    if (send(fd, &ask, sizeof ask, 0) != (ssize_t)sizeof ask)
        return error_set(err, -errno, "cannot ask for addresses and routes: %s", strerror(errno));
    while (true) {
        ssize_t length = recv(fd, bytes, DUMP_BYTES, MSG_TRUNC);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return error_set(err, -errno, "cannot read addresses and routes: %s", strerror(errno));
        if (length > DUMP_BYTES)
            return error_set(err, -EBADMSG, "the kernel's answer does not fit");
        int rc = take_messages(all, bytes, (size_t)length, torn, err);
        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
}

static int gather(struct gathered *all, struct error *err)
{
    int fd SCOPED_FD = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    uint8_t *bytes SCOPED_FREE = malloc(DUMP_BYTES);
    if (fd < 0 || bytes == NULL)
        return error_set(err, -errno, "cannot ask for addresses and routes: %s", strerror(errno));
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        bool torn = false;
        int rc = dump(all, fd, bytes, RTM_GETADDR, &torn, err);
        if (rc == 0)
            rc = dump(all, fd, bytes, RTM_GETROUTE, &torn, err);
        if (rc != 0 || !torn)
            return rc;
    }
    return error_set(err, -EAGAIN, "the machine's addresses change too fast to be read");
}

#else

static int gather(struct gathered *all, struct error *err)
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
    int rc = gather(&all, err);
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

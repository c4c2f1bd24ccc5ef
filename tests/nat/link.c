#include "tests/nat/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/error.h"
#include "base/scope.h"

static struct sockaddr_in address_of(struct nat_endpoint endpoint)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(endpoint.port), .sin_addr = {.s_addr = htonl(endpoint.ip)}};
}

int link_enter(void)
{
    /* Root needs no user namespace; anybody else gets one in which they may make a network namespace. */
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return -errno;
    int fd SCOPED_FD = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {0};
    memcpy(request.ifr_name, "lo", 3);
    struct nat_endpoint own = {0xC6336401, 0};
    struct sockaddr_in address = address_of(own);
    memcpy(&request.ifr_addr, &address, sizeof address);
    if (ioctl(fd, SIOCSIFADDR, &request) < 0)
        return -errno;
    request.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
    return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

int link_udp_socket(struct nat_endpoint endpoint)
{
    int fd SCOPED_FD = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = address_of(endpoint);
    struct timeval limit = {.tv_sec = 10};
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    REQUIRE(bind(fd, (const struct sockaddr *)&address, sizeof address) == 0);
    return fd_take(&fd);
}

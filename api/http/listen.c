#include "api/http/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/scope.h"
#include "nat/nat.h"

static bool parse_port(const char *text, uint16_t *ret_port)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != '\0')
        return false;
    unsigned long port = strtoul(text, NULL, 10);
    if (port > UINT16_MAX)
        return false;
    *ret_port = (uint16_t)port;
    return true;
}

int listen_parse(const char *text, struct listen_address *ret_address, struct error *err)
{
    static const char ipv6_loopback[] = "[::1]:";
    struct listen_address address = {.ipv6 = strncmp(text, ipv6_loopback, sizeof ipv6_loopback - 1) == 0};
    const char *colon = strrchr(text, ':');
    if (colon == NULL || !parse_port(colon + 1, &address.port))
        return error_set(err, -EINVAL, "A listening address is written as 127.0.0.1:8470 or [::1]:8470.");
    if (!address.ipv6) {
        char host[NAT_IP_TEXT_BYTES];
        size_t length = (size_t)(colon - text);
        if (length >= sizeof host)
            return error_set(err, -EINVAL, "A listening address is written as 127.0.0.1:8470 or [::1]:8470.");
        memcpy(host, text, length);
        host[length] = '\0';
        if (!nat_ip_parse(host, &address.ip) || address.ip >> 24 != 127)
            return error_set(err, -EINVAL,
                             "The daemon listens on loopback alone: 127.0.0.1 or [::1]. For use from elsewhere "
                             "forward the port, as with `ssh -L`.");
    }
    *ret_address = address;
    return 0;
}

const char *listen_host(const struct listen_address *address, char ret_text[static LISTEN_HOST_BYTES])
{
    if (address->ipv6)
        memcpy(ret_text, "[::1]", sizeof "[::1]");
    else
        nat_ip_format(address->ip, ret_text);
    return ret_text;
}

int listen_tcp(struct listen_address *address, struct error *err)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name = {0};
    socklen_t length;
    if (address->ipv6) {
        name.v6 = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_port = htons(address->port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        length = sizeof name.v6;
    } else {
        name.v4 = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = htons(address->port), .sin_addr.s_addr = htonl(address->ip)};
        length = sizeof name.v4;
    }
    const int on = 1;
    int fd SCOPED_FD = socket(name.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 || bind(fd, &name.any, length) != 0 ||
        listen(fd, LISTEN_TCP_BACKLOG) != 0 || getsockname(fd, &name.any, &length) != 0) {
        int cause = errno;
        char host[LISTEN_HOST_BYTES];
        return error_set(err, -cause, "The address %s:%u cannot be listened on: %s.", listen_host(address, host),
                         (unsigned)address->port, strerror(cause));
    }
    address->port = ntohs(address->ipv6 ? name.v6.sin6_port : name.v4.sin_port);
    return fd_take(&fd);
}

/* Remove a dead daemon's socket, and nothing that is not one. */
static int remove_socket(const char *path, struct error *err)
{
    struct stat status;
    if (lstat(path, &status) != 0)
        return errno == ENOENT ? 0 : error_set(err, -errno, "%s cannot be examined: %s.", path, strerror(errno));
    if (!S_ISSOCK(status.st_mode))
        return error_set(err, -EEXIST, "%s is in the way: it is not a socket.", path);
    if (unlink(path) != 0)
        return error_set(err, -errno, "The old socket %s cannot be removed: %s.", path, strerror(errno));
    return 0;
}

int listen_unix(const char *path, struct error *err)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof name.sun_path)
        return error_set(err, -ENAMETOOLONG,
                         "The socket's path %s is longer than the %zu bytes that a unix socket may have; choose a "
                         "shorter runtime folder.",
                         path, sizeof name.sun_path - 1);
    memcpy(name.sun_path, path, length + 1);
    int removed = remove_socket(path, err);
    if (removed < 0)
        return removed;
    int fd SCOPED_FD = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The folder's mode keeps others out between bind and chmod. */
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) != 0 || chmod(path, 0600) != 0 ||
        listen(fd, LISTEN_UNIX_BACKLOG) != 0)
        return error_set(err, -errno, "The socket %s cannot be opened: %s.", path, strerror(errno));
    return fd_take(&fd);
}

uint32_t listen_peer_uid(int fd)
{
#ifdef SO_PEERCRED
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0)
        return credentials.uid;
#else
    uid_t uid;
    gid_t gid;
    if (getpeereid(fd, &uid, &gid) == 0)
        return uid;
#endif
    return UINT32_MAX;
}

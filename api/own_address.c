#include "api/own_address.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>

int own_addresses_read(struct own_addresses *ret_addresses, struct error *err)
{
    struct ifaddrs *list;
    if (getifaddrs(&list) != 0)
        return error_set(err, -errno, "The machine's own addresses cannot be read: %s.", strerror(errno));
    size_t count = 0;
    bool fits = true;
    for (const struct ifaddrs *one = list; one != NULL && fits; one = one->ifa_next) {
        if (one->ifa_addr == NULL || one->ifa_addr->sa_family != AF_INET)
            continue;
        struct sockaddr_in name;
        memcpy(&name, one->ifa_addr, sizeof name);
        fits = count < OWN_ADDRESSES_MAX;
        if (fits)
            ret_addresses->ips[count++] = ntohl(name.sin_addr.s_addr);
    }
    freeifaddrs(list);
    ret_addresses->count = count;
    return fits ? 0 : error_set(err, -E2BIG, "The machine has more than %d addresses.", OWN_ADDRESSES_MAX);
}

bool own_addresses_have(const struct own_addresses *addresses, uint32_t ip)
{
    for (size_t i = 0; i < addresses->count; i++) {
        if (addresses->ips[i] == ip)
            return true;
    }
    return false;
}

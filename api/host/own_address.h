/* The machine's own IPv4 addresses, as they are at this moment. */
#ifndef API_HOST_OWN_ADDRESS_H
#define API_HOST_OWN_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum own_address_limits {
    OWN_ADDRESSES_MAX = 256, /* a machine with more refuses leases rather than forget one */
};

/** struct own_addresses - Host byte order. Owner: the caller. */
struct own_addresses {
    size_t count;
    uint32_t ips[OWN_ADDRESSES_MAX];
};

/**
 * own_addresses_list() - Ask the system
 * Return: 0; -E2BIG when there are more than fit; -ENODATA when there is none; or what the system said
 * Thread: any
 */
int own_addresses_list(struct own_addresses *ret_addresses, struct error *err);

/** own_addresses_have() - Whether the address is among them. Thread: any */
bool own_addresses_have(const struct own_addresses *addresses, uint32_t ip);

#endif

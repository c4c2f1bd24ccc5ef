#include "api/host/own_address.h"

#include "vmm/vmm.h"

int own_addresses_list(struct own_addresses *ret_addresses, struct error *err)
{
    return vmm_own_addresses(ret_addresses->ips, OWN_ADDRESSES_MAX, &ret_addresses->count, err);
}

bool own_addresses_have(const struct own_addresses *addresses, uint32_t ip)
{
    for (size_t i = 0; i < addresses->count; i++) {
        if (addresses->ips[i] == ip)
            return true;
    }
    return false;
}

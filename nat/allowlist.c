#include "nat/allowlist.h"

#include <errno.h>

/* A scan, not a search tree: NAT_ALLOW_MAX is 16 and a lease has one entry, so the scan is the fastest and the easiest to
 * prove. */
bool allowlist_holds(const struct nat_policy *policy, struct nat_endpoint endpoint)
{
    for (size_t i = 0; i < policy->allow_count; i++) {
        if (policy->allow[i].ip == endpoint.ip && policy->allow[i].port == endpoint.port)
            return true;
    }
    return false;
}

bool allowlist_holds_ip(const struct nat_policy *policy, uint32_t ip)
{
    for (size_t i = 0; i < policy->allow_count; i++) {
        if (policy->allow[i].ip == ip)
            return true;
    }
    return false;
}

int allowlist_check(const struct nat_policy *policy, struct error *err)
{
    if (policy->generation == 0)
        return error_set(err, -EINVAL, "policy generation 0 means a shut gate and cannot be applied");
    if (policy->allow_count > NAT_ALLOW_MAX)
        return error_set(err, -EINVAL, "%zu allowed endpoints, at most %d fit", policy->allow_count, NAT_ALLOW_MAX);
    for (size_t i = 0; i < policy->allow_count; i++) {
        char text[NAT_ENDPOINT_TEXT_BYTES];
        nat_endpoint_format(policy->allow[i], text);
        if (policy->allow[i].port == 0)
            return error_set(err, -EINVAL, "allowed endpoint %s: port 0 is never forwarded", text);
        const char *range = nat_ip_is_never(policy->allow[i].ip);
        if (range != NULL)
            return error_set(err, -EINVAL, "allowed endpoint %s: %s addresses are never forwarded to", text, range);
    }
    return 0;
}

#include "vmm/machine.h"
#include "vmm/own_addresses.h"

static bool holds(const struct nat_policy *policy, struct nat_endpoint endpoint)
{
    for (size_t i = 0; i < policy->allow_count; i++)
        if (policy->allow[i].ip == endpoint.ip && policy->allow[i].port == endpoint.port)
            return true;
    return false;
}

int machine_complete_policy(const struct machine *machine, struct nat_policy *policy, struct error *err)
{
    const struct nat_endpoint told = machine->spec->tunnel.consumer;
    if (policy->allow_count == 0)
        policy->allow[policy->allow_count++] = told;
    policy->known_as = holds(policy, told) ? (struct nat_endpoint){0} : told;
    int rc = own_addresses_read(policy->own, NAT_OWN_MAX, &policy->own_count, err);
    if (rc != 0 && policy->mode == NAT_MODE_SAMPLED)
        return rc;
    if (rc != 0)
        policy->own_count = 0; /* the other modes forward to the allowlist alone */
    return 0;
}

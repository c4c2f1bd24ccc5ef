/* Which endpoints a lease may reach. */
#ifndef NAT_ALLOWLIST_H
#define NAT_ALLOWLIST_H

#include <stdbool.h>

#include "base/error.h"
#include "nat/nat.h"

/*@ predicate policy_sane(struct nat_policy *policy) =
      policy->allow_count <= NAT_ALLOW_MAX && policy->own_count <= NAT_OWN_MAX;

    predicate allowed(struct nat_policy *policy, integer ip, integer port) =
      \exists integer i; 0 <= i < policy->allow_count && policy->allow[i].ip == ip && policy->allow[i].port == port; */

/**
 * allowlist_holds() - Whether this very address and port are allowed
 * Thread: any
 */
/*@ requires \valid_read(policy) && policy_sane(policy);
    assigns \nothing;
    ensures \result != 0 <==> allowed(policy, endpoint.ip, endpoint.port); */
bool allowlist_holds(const struct nat_policy *policy, struct nat_endpoint endpoint);

/**
 * allowlist_holds_ip() - Whether the address is allowed with some port
 * Thread: any
 */
/*@ requires \valid_read(policy) && policy_sane(policy);
    assigns \nothing; */
bool allowlist_holds_ip(const struct nat_policy *policy, uint32_t ip);

/**
 * allowlist_translate() - Where a packet for an endpoint goes: the moved consumer for what the guest knows it as
 * Return: allow[0] for known_as, every other endpoint as it is. Nothing is allowed by this: the result is judged
 * Thread: any
 */
/*@ requires \valid_read(policy);
    assigns \nothing; */
struct nat_endpoint allowlist_translate(const struct nat_policy *policy, struct nat_endpoint named);

/** allowlist_name() - The opposite: what the guest calls an endpoint. Thread: any */
/*@ requires \valid_read(policy);
    assigns \nothing; */
struct nat_endpoint allowlist_name(const struct nat_policy *policy, struct nat_endpoint endpoint);

/**
 * allowlist_check() - Whether a policy may be enforced at all
 * Return: 0; -EINVAL with the entry named for too many endpoints, port 0, an address that no policy may hold, or a number
 *         out of range
 * Thread: any
 */
int allowlist_check(const struct nat_policy *policy, struct error *err);

#endif

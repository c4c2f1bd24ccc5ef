/* The use case of another policy for a lease that runs. */
#ifndef API_LEASE_LEASE_POLICY_H
#define API_LEASE_LEASE_POLICY_H

#include "api/lease/lease_service.h"

enum lease_policy_limits {
    LEASE_POLICY_QUEUE_MS = 100, /* for the change before to be through; then this one is refused */
};

/**
 * lease_policy_set() - Have a policy enforced: noted in the store, then given to the filter, then noted as enforced
 *
 * Changes go one at a time, so that at most one thread of the HTTP pool waits for a filter. A policy that fails leaves the one
 * before in force, in the filter and in the store.
 *
 * @lease:     as read; the new policy follows its generation
 * @policy:    complete but for generation and own addresses
 * @ret_lease: the row afterwards
 * Return:     0 it is enforced; -ESTALE another change came first; -EBUSY with slug "policy-busy"; -ETIMEDOUT with slug
 *             "policy-not-enforced" (err says what is in force); slug "store-unavailable" when it is enforced and the store does
 *             not say so yet, which it will with the machine's event or the next change; what store_policy_propose() and
 *             vmm_set_policy() say
 * Thread:     any; waits for LEASE_POLICY_QUEUE_MS and VMM_POLICY_WAIT_MS at most
 */
int lease_policy_set(struct lease_service *service, const struct store_lease *lease, const struct nat_policy *policy,
                     struct store_lease *ret_lease, struct error *err);

#endif

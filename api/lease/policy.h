/* Policies between the store's texts and the NAT's values. Pure. */
#ifndef API_LEASE_POLICY_H
#define API_LEASE_POLICY_H

#include "nat/nat.h"
#include "store/store.h"

/**
 * policy_of_lease() - What a lease's filter enforces, or will when it starts
 *
 * For a consumer that has moved the first allowed endpoint is its present one, and known_as what the VM was told.
 *
 * @lease: not of the mode direct
 * Return: true; false when the row makes no sense
 * Thread: any
 */
bool policy_of_lease(const struct store_lease *lease, struct nat_policy *ret_policy);

/** policy_told_consumer() - The consumer as the lease's VM was told of it. Return: true when the row makes sense. Thread: any */
bool policy_told_consumer(const struct store_lease *lease, struct nat_endpoint *ret_endpoint);

/** policy_link_of_lease() - The VM's side of a lease's NAT. Return: true when the row makes sense. Thread: any */
bool policy_link_of_lease(const struct store_lease *lease, struct nat_link *ret_link);

/** policy_generation() - Of the policy that policy_of_lease() yields. Thread: any */
uint64_t policy_generation(const struct store_lease *lease);

/** policy_format_allowlist() - Endpoints with a space between them. Return: @ret_text. Thread: any */
const char *policy_format_allowlist(const struct nat_policy *policy, char ret_text[static STORE_ALLOWLIST_BYTES]);

#endif

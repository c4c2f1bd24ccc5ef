#include "api/lease/policy.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "vmm/vmm.h"

_Static_assert(NAT_ALLOW_MAX *NAT_ENDPOINT_TEXT_BYTES <= STORE_ALLOWLIST_BYTES, "a full allowlist fits the store");

static bool take_allowlist(const char *text, struct nat_policy *policy)
{
    while (*text != '\0') {
        char word[NAT_ENDPOINT_TEXT_BYTES];
        size_t length = strcspn(text, " ");
        if (length >= sizeof word || policy->allow_count == NAT_ALLOW_MAX)
            return false;
        memcpy(word, text, length);
        word[length] = '\0';
        if (!nat_endpoint_parse(word, &policy->allow[policy->allow_count++]))
            return false;
        text += length;
        text += strspn(text, " ");
    }
    return policy->allow_count > 0;
}

static bool holds(const struct nat_policy *policy, struct nat_endpoint endpoint)
{
    for (size_t i = 0; i < policy->allow_count; i++) {
        if (policy->allow[i].ip == endpoint.ip && policy->allow[i].port == endpoint.port)
            return true;
    }
    return false;
}

bool policy_told_consumer(const struct store_lease *lease, struct nat_endpoint *ret_endpoint)
{
    return nat_endpoint_parse(lease->vm_endpoint[0] == '\0' ? lease->consumer_endpoint : lease->vm_endpoint,
                              ret_endpoint);
}

uint64_t policy_generation(const struct store_lease *lease)
{
    return lease->policy_observed == 0 ? lease->policy_desired : lease->policy_observed;
}

bool policy_of_lease(const struct store_lease *lease, struct nat_policy *ret_policy)
{
    struct nat_endpoint told;
    struct nat_policy policy = {
        .sampling_ppm = lease->sampling_ppm,
        .terminate = strcmp(lease->on_violation, "terminate") == 0,
        .require_wireguard = lease->require_wireguard,
        .budget_unanswered = true,
        .limits = {.egress_bits_per_s = lease->egress_bits_per_s,
                   .ingress_bits_per_s = lease->ingress_bits_per_s,
                   .egress_packets_per_s = lease->egress_packets_per_s,
                   .ingress_packets_per_s = lease->ingress_packets_per_s},
        .generation = policy_generation(lease),
    };
    if (!nat_mode_parse(lease->mode, &policy.mode) || !policy_told_consumer(lease, &told) ||
        !take_allowlist(lease->allowlist[0] == '\0' ? lease->consumer_endpoint : lease->allowlist, &policy))
        return false;
    if (!holds(&policy, told))
        policy.known_as = told;
    *ret_policy = policy;
    return true;
}

bool policy_link_of_lease(const struct store_lease *lease, struct nat_link *ret_link)
{
    struct nat_link link = {.gateway_ip = VMM_LINK_GATEWAY_IP, .prefix = VMM_LINK_PREFIX, .mtu = NAT_MTU_MAX};
    if (!nat_mac_parse(lease->guest_mac, &link.guest_mac) || !nat_ip_parse(lease->guest_ip, &link.guest_ip))
        return false;
    *ret_link = link;
    return true;
}

const char *policy_format_allowlist(const struct nat_policy *policy, char ret_text[static STORE_ALLOWLIST_BYTES])
{
    size_t used = 0;
    ret_text[0] = '\0';
    for (size_t i = 0; i < policy->allow_count; i++) {
        char text[NAT_ENDPOINT_TEXT_BYTES];
        used += (size_t)snprintf(ret_text + used, STORE_ALLOWLIST_BYTES - used, "%s%s", i == 0 ? "" : " ",
                                 nat_endpoint_format(policy->allow[i], text));
        REQUIRE(used < STORE_ALLOWLIST_BYTES);
    }
    return ret_text;
}

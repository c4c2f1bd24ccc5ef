#include "nat/allowlist.h"

#include <errno.h>

/* A scan, not a search tree: NAT_ALLOW_MAX is 16 and a lease has one entry, so the scan is the fastest and the easiest to
 * prove. */
bool allowlist_holds(const struct nat_policy *policy, struct nat_endpoint endpoint)
{
    /*@ loop invariant 0 <= i <= policy->allow_count;
        loop invariant \forall integer k; 0 <= k < i ==>
                       !(policy->allow[k].ip == endpoint.ip && policy->allow[k].port == endpoint.port);
        loop assigns i;
        loop variant policy->allow_count - i; */
    for (size_t i = 0; i < policy->allow_count; i++) {
        if (policy->allow[i].ip == endpoint.ip && policy->allow[i].port == endpoint.port)
            return true;
    }
    return false;
}

bool allowlist_holds_ip(const struct nat_policy *policy, uint32_t ip)
{
    /*@ loop invariant 0 <= i <= policy->allow_count;
        loop assigns i;
        loop variant policy->allow_count - i; */
    for (size_t i = 0; i < policy->allow_count; i++) {
        if (policy->allow[i].ip == ip)
            return true;
    }
    return false;
}

/*@ assigns \nothing; */
static bool is_same(struct nat_endpoint a, struct nat_endpoint b)
{
    return a.ip == b.ip && a.port == b.port;
}

/*@ requires \valid_read(policy);
    assigns \nothing;
    ensures \result != 0 ==> policy->allow_count > 0; */
static bool has_moved(const struct nat_policy *policy)
{
    return policy->known_as.port != 0 && policy->allow_count > 0;
}

struct nat_endpoint allowlist_translate(const struct nat_policy *policy, struct nat_endpoint named)
{
    return has_moved(policy) && is_same(named, policy->known_as) ? policy->allow[0] : named;
}

struct nat_endpoint allowlist_name(const struct nat_policy *policy, struct nat_endpoint endpoint)
{
    return has_moved(policy) && is_same(endpoint, policy->allow[0]) ? policy->known_as : endpoint;
}

/* A name that is an allowed endpoint as well would mean two places. */
static int check_name(const struct nat_policy *policy, struct error *err)
{
    char text[NAT_ENDPOINT_TEXT_BYTES];
    nat_endpoint_format(policy->known_as, text);
    if (policy->known_as.port == 0)
        return 0;
    if (policy->allow_count == 0)
        return error_set(err, -EINVAL, "known as %s: there is no consumer that could be meant", text);
    if (allowlist_holds(policy, policy->known_as))
        return error_set(err, -EINVAL, "known as %s: that endpoint is in the allowlist itself", text);
    const char *range = nat_ip_is_never(policy->known_as.ip);
    return range == NULL ? 0 : error_set(err, -EINVAL, "known as %s: %s addresses are nobody's", text, range);
}

static int check_numbers(const struct nat_policy *policy, struct error *err)
{
    const uint64_t rates[] = {policy->limits.egress_bits_per_s, policy->limits.ingress_bits_per_s,
                              policy->limits.egress_packets_per_s, policy->limits.ingress_packets_per_s};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        if (rates[i] > NAT_RATE_MAX)
            return error_set(err, -EINVAL, "a limit of %llu a second is above %llu", (unsigned long long)rates[i],
                             (unsigned long long)NAT_RATE_MAX);
    }
    if (policy->mode == NAT_MODE_SAMPLED &&
        (policy->sampling_ppm < NAT_SAMPLING_PPM_MIN || policy->sampling_ppm > NAT_SAMPLING_PPM_MAX))
        return error_set(err, -EINVAL, "a sampling rate of %u millionths is not between %d and %d",
                         (unsigned)policy->sampling_ppm, NAT_SAMPLING_PPM_MIN, NAT_SAMPLING_PPM_MAX);
    if (policy->own_count > NAT_OWN_MAX)
        return error_set(err, -EINVAL, "%zu own addresses, at most %d fit", policy->own_count, NAT_OWN_MAX);
    return 0;
}

int allowlist_check(const struct nat_policy *policy, struct error *err)
{
    if (policy->generation == 0)
        return error_set(err, -EINVAL, "policy generation 0 means a shut gate and cannot be applied");
    int rc = check_numbers(policy, err);
    if (rc < 0)
        return rc;
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
    return check_name(policy, err);
}

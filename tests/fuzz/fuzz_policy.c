/* The network part of a lease request, and the body of PUT .../policy, as the policy that comes of them: any bytes are decoded or
 * refused, and what is taken is a policy that the NAT enforces. */
#include <string.h>

#include "api/json/decode.h"
#include "api/lease/network_request.h"
#include "api/lease/policy_request.h"
#include "tests/fuzz/fuzz.h"

static void expect_limits(const struct nat_rates *limits)
{
    EXPECT(limits->egress_bits_per_s <= NAT_RATE_MAX && limits->ingress_bits_per_s <= NAT_RATE_MAX);
    EXPECT(limits->egress_packets_per_s <= NAT_RATE_MAX && limits->ingress_packets_per_s <= NAT_RATE_MAX);
}

static void expect_request(const struct network_request *request)
{
    expect_limits(&request->limits);
    if (request->mode == MODE_SAMPLED)
        EXPECT(request->sampling_ppm >= NAT_SAMPLING_PPM_MIN && request->sampling_ppm <= NAT_SAMPLING_PPM_MAX);
    else
        EXPECT(request->sampling_ppm == 0);
    EXPECT(request->mode != MODE_DIRECT || !request->terminate);
}

/* What a PUT may put into force: endpoints of others, each once, and never "direct". */
static void expect_policy(const struct nat_policy *policy, const struct lease_offer *offer)
{
    expect_limits(&policy->limits);
    EXPECT(policy->allow_count >= 1 && policy->allow_count <= NAT_ALLOW_MAX);
    for (size_t at = 0; at < policy->allow_count; at++) {
        const struct nat_endpoint one = policy->allow[at];
        EXPECT(one.port != 0 && !nat_ip_is_never(one.ip) && one.ip != offer->own.ips[0]);
        for (size_t other = 0; other < at; other++)
            EXPECT(policy->allow[other].ip != one.ip || policy->allow[other].port != one.port);
    }
    if (policy->mode == NAT_MODE_SAMPLED)
        EXPECT(policy->sampling_ppm >= NAT_SAMPLING_PPM_MIN && policy->sampling_ppm <= NAT_SAMPLING_PPM_MAX);
    else
        EXPECT(policy->sampling_ppm == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const struct lease_offer offer = {
        .network = {.mode = MODE_FILTERED, .sampling_rate = 0.01, .allow_mode_override = true},
        .own = {.count = 1, .ips = {UINT32_C(0xC6336409)}}, /* 198.51.100.9 */
    };
    struct nat_policy policy;
    struct decode_errors *errors = calloc(1, sizeof *errors);
    struct network_request request;
    json_t *tree = NULL;
    struct error err = {0};
    EXPECT(errors != NULL);
    if (decode_parse(bytes, length, errors, &tree, &err) == 0) {
        memset(errors, 0, sizeof *errors);
        const struct decode_node root = decode_root(tree, errors);
        network_request_decode(&root, &offer.network, &request);
        if (errors->count == 0)
            expect_request(&request);
        memset(errors, 0, sizeof *errors);
        policy_request_decode(tree, &offer, errors, &policy);
        if (errors->count == 0)
            expect_policy(&policy, &offer);
    }
    json_decref(tree);
    free(errors);
    return 0;
}

/* The network part of a request as the policy that comes of it: any bytes are decoded or refused, and what is taken is a policy
 * that the NAT enforces. */
#include <string.h>

#include "api/json/decode.h"
#include "api/lease/network_request.h"
#include "tests/fuzz/fuzz.h"

static void expect_policy(const struct network_request *request)
{
    EXPECT(request->limits.egress_bits_per_s <= NAT_RATE_MAX && request->limits.ingress_bits_per_s <= NAT_RATE_MAX);
    EXPECT(request->limits.egress_packets_per_s <= NAT_RATE_MAX);
    EXPECT(request->limits.ingress_packets_per_s <= NAT_RATE_MAX);
    if (request->mode == MODE_SAMPLED)
        EXPECT(request->sampling_ppm >= NAT_SAMPLING_PPM_MIN && request->sampling_ppm <= NAT_SAMPLING_PPM_MAX);
    else
        EXPECT(request->sampling_ppm == 0);
    EXPECT(request->mode != MODE_DIRECT || !request->terminate);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const struct network_offer offer = {.mode = MODE_FILTERED, .sampling_rate = 0.01, .allow_mode_override = true};
    struct decode_errors *errors = calloc(1, sizeof *errors);
    struct network_request request;
    json_t *tree = NULL;
    struct error err = {0};
    EXPECT(errors != NULL);
    if (decode_parse(bytes, length, errors, &tree, &err) == 0) {
        memset(errors, 0, sizeof *errors);
        const struct decode_node root = decode_root(tree, errors);
        network_request_decode(&root, &offer, &request);
        if (errors->count == 0)
            expect_policy(&request);
    }
    json_decref(tree);
    free(errors);
    return 0;
}

/* The body of POST /v1/leases, and of a renewal: any bytes are decoded or refused, each fault has a pointer and a sentence, and
 * what is taken as good keeps its bounds. */
#include <string.h>

#include "api/json/decode.h"
#include "api/lease/lease_request.h"
#include "tests/fuzz/fuzz.h"

static void expect_faults(const struct decode_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++) {
        EXPECT(errors->items[i].pointer[0] == '\0' || errors->items[i].pointer[0] == '/');
        EXPECT(errors->items[i].detail[0] != '\0');
    }
}

static void expect_bounds(const struct lease_request *request, const struct lease_offer *offer)
{
    EXPECT(request->external || request->resources.vcpus <= offer->capacity.vcpus);
    EXPECT(request->tunnel.consumer.port != 0 && nat_ip_is_never(request->tunnel.consumer.ip) == NULL);
    EXPECT(request->ssh_key_count <= VMM_SSH_KEYS_MAX);
    EXPECT(memchr(request->labels, '\0', sizeof request->labels) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const struct lease_offer offer = {
        .image_dir = "tests/fuzz",
        .capacity = {.leases = 4, .vcpus = 4, .memory_mib = 1024, .disk_mib = 100},
        .network = {.mode = MODE_FILTERED, .sampling_rate = 0.01, .allow_mode_override = true},
        .own = {.count = 1, .ips = {UINT32_C(0xC6336463)}},
    };
    struct decode_errors *errors = calloc(1, sizeof *errors);
    struct lease_request *request = calloc(1, sizeof *request);
    json_t *root = NULL;
    struct error err = {0};
    EXPECT(errors != NULL && request != NULL);
    const int rc = decode_parse(bytes, length, errors, &root, &err);
    EXPECT(rc <= 0 && (rc == 0) == (root != NULL));
    EXPECT(rc != -EBADMSG || errors->count > 0);
    expect_faults(errors);
    if (rc == 0) {
        uint64_t ttl_s = 0;
        memset(errors, 0, sizeof *errors);
        (void)lease_renewal_decode(root, errors, &ttl_s);
        expect_faults(errors);
        memset(errors, 0, sizeof *errors);
        lease_request_decode(root, &offer, errors, request);
        expect_faults(errors);
        if (errors->count == 0)
            expect_bounds(request, &offer);
        lease_request_done(request);
    }
    json_decref(root);
    free(request);
    free(errors);
    return 0;
}

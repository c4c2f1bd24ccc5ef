/* A datagram of any bytes from a flow with any consumer: what is composed is whole UDP to the VM that our own parser takes, it
 * fits the link, and it came from an endpoint that the policy allows. */
#include <stdbool.h>
#include <string.h>

#include "nat/compose.h"
#include "nat/packet.h"
#include "tests/fuzz/fuzz.h"

enum { HEADERS = 42, HEAD_BYTES = 12 };

static const struct nat_policy policy = {
    .mode = NAT_MODE_FILTERED,
    .generation = 1,
    .allow_count = 2,
    .allow = {{0xC6336402, 51900}, {0x08080808, 443}},
};

static void expect_taken(const uint8_t *frame, size_t length, const struct nat_link *link, const struct flow *flow)
{
    struct packet packet;
    packet_parse(frame, length, link->mtu, &packet);
    EXPECT(packet.kind == PACKET_UDP && packet.payload_bytes == length - HEADERS);
    EXPECT(packet.source.ip == flow->consumer.ip && packet.source.port == flow->consumer.port);
    EXPECT(packet.destination.ip == link->guest_ip && packet.destination.port == flow->guest_port);
    EXPECT(memcmp(&packet.destination_mac, &link->guest_mac, sizeof link->guest_mac) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    if (length < HEAD_BYTES)
        return 0;
    const struct nat_link link = {
        .guest_mac = {{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}},
        .guest_ip = 0xC0A84002,
        .prefix = 24,
        .mtu = (uint16_t)(bytes[10] * 256 + bytes[11]),
    };
    struct flow flow = {
        .state = FLOW_OPEN,
        .listens = bytes[1] % 8 != 0,
        .guest_port = (uint16_t)((bytes[2] * 256 + bytes[3]) | 1),
        .consumer = {(uint32_t)bytes[4] << 24 | (uint32_t)bytes[5] << 16 | (uint32_t)bytes[6] << 8 | bytes[7],
                     (uint16_t)(bytes[8] * 256 + bytes[9])},
    };
    if (bytes[0] % 3 < 2)
        flow.consumer = policy.allow[bytes[0] % 3];
    bool known = false;
    for (size_t i = 0; i < policy.allow_count; i++)
        known = known || (flow.consumer.ip == policy.allow[i].ip && flow.consumer.port == policy.allow[i].port);

    const size_t payload_bytes = length - HEAD_BYTES;
    uint8_t *frame = malloc(HEADERS + payload_bytes);
    EXPECT(frame != NULL);
    memcpy(frame + HEADERS, bytes + HEAD_BYTES, payload_bytes);
    const size_t made = compose_inbound(frame, frame + HEADERS, payload_bytes, &policy, &link, &flow);
    const bool fits = 28 + payload_bytes <= link.mtu;
    EXPECT((made != 0) == (flow.listens && known && fits));
    EXPECT(made == 0 || made == HEADERS + payload_bytes);
    if (made > 0)
        expect_taken(frame, made, &link, &flow);
    free(frame);
    return 0;
}

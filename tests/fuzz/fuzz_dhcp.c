/* A DHCP message of any bytes: the walk through its options against a naive one, and an answer that names nothing but what
 * was leased. */
#include <stdbool.h>
#include <string.h>

#include "nat/dhcp.h"
#include "tests/fuzz/fuzz.h"

static const struct nat_link link = {
    .guest_mac = {{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}},
    .guest_ip = 0xC0A84002,
    .gateway_ip = 0xC0A84001,
    .prefix = 24,
    .mtu = 1500,
};

static uint8_t naive_type(const uint8_t *options, size_t length)
{
    size_t at = 0;
    while (at < length) {
        if (options[at] == 255)
            return DHCP_NONE;
        if (options[at] == 0) {
            at += 1;
        } else if (at + 1 >= length || at + 2 + options[at + 1] > length) {
            return DHCP_NONE;
        } else if (options[at] == 53) {
            return options[at + 1] == 1 ? options[at + 2] : DHCP_NONE;
        } else {
            at += 2 + (size_t)options[at + 1];
        }
    }
    return DHCP_NONE;
}

/* The answer as it would be to a request of zeros, but for its transaction and its type. */
static void expect_fixed(const uint8_t *frame, const uint8_t *request)
{
    EXPECT(memcmp(frame, &link.guest_mac, sizeof link.guest_mac) == 0);
    EXPECT(frame[42] == 2 && memcmp(frame + 46, request + 4, 4) == 0);
    EXPECT(frame[58] == 0xC0 && frame[59] == 0xA8 && frame[60] == 0x40 && frame[61] == 0x02);
    EXPECT(memcmp(frame + 70, &link.guest_mac, sizeof link.guest_mac) == 0);
    const uint8_t type = naive_type(frame + 42 + 240, DHCP_FRAME_BYTES - 42 - 240);
    EXPECT(type == DHCP_OFFER || type == DHCP_ACK);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    EXPECT(dhcp_message_type(bytes, length) == naive_type(bytes, length));
    const struct packet packet = {
        .kind = PACKET_UDP,
        .source = {0, 68},
        .destination = {UINT32_MAX, 67},
        .payload = bytes,
        .payload_bytes = length,
    };
    uint8_t frame[DHCP_FRAME_BYTES];
    const size_t answered = dhcp_answer(&packet, &link, frame);
    EXPECT(answered == 0 || (answered == DHCP_FRAME_BYTES && length >= 240));
    if (answered > 0)
        expect_fixed(frame, bytes);
    return 0;
}

/* A frame of any bytes, in every mode, against a second implementation of the promise that knows nothing of the first.
 *
 * The first byte chooses the mode and what the policy wants, the second how many endpoints are allowed and whether the frame
 * is mended first (source MAC, checksums), so that the fuzzer gets past them. */
#include <stdbool.h>
#include <string.h>

#include "nat/judge.h"
#include "tests/fuzz/fuzz.h"

enum { FRAME_BYTES_MAX = 4096 };

static const struct nat_link link = {
    .guest_mac = {{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}},
    .guest_ip = 0xC0A84002,
    .gateway_ip = 0xC0A84001,
    .prefix = 24,
    .mtu = 1500,
};

static const struct nat_policy allowed = {
    .generation = 7,
    .sampling_ppm = 1000,
    .allow = {{0xC6336402, 51900}, {0xC6336402, 53}, {0x08080808, 443}},
    .own_count = 1,
    .own = {0xCB007101},
};

/* ---- the naive implementation ---- */

static unsigned number(const uint8_t *at, size_t bytes)
{
    unsigned value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

static unsigned sum_of(const uint8_t *bytes, size_t length, unsigned sum)
{
    for (size_t i = 0; i < length; i++)
        sum += i % 2 == 0 ? bytes[i] * 256u : bytes[i];
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static bool naive_udp_sum(const uint8_t *frame, size_t udp_bytes)
{
    const unsigned field = number(frame + 40, 2);
    const unsigned pseudo = sum_of(frame + 26, 8, 17 + (unsigned)udp_bytes);
    return field == 0 || field == pseudo || sum_of(frame + 34, udp_bytes, pseudo) == 0xffff;
}

static bool naive_own_udp(const uint8_t *frame, size_t length)
{
    if (length < 42 || length > 1514 || number(frame + 12, 2) != 0x0800 || memcmp(frame + 6, &link.guest_mac, 6) != 0)
        return false;
    const size_t total = number(frame + 16, 2);
    if (frame[14] != 0x45 || total < 28 || total + 14 > length || (number(frame + 20, 2) & 0xbfff) != 0)
        return false;
    if (frame[23] != 17 || sum_of(frame + 14, 20, 0) != 0xffff || number(frame + 26, 4) != link.guest_ip)
        return false;
    return number(frame + 38, 2) == total - 20 && number(frame + 34, 2) != 0 && number(frame + 36, 2) != 0 &&
           naive_udp_sum(frame, total - 20);
}

static bool naive_allowed(const struct nat_policy *policy, const uint8_t *frame)
{
    bool found = false;
    for (size_t i = 0; i < policy->allow_count; i++)
        found =
            found || (number(frame + 30, 4) == policy->allow[i].ip && number(frame + 36, 2) == policy->allow[i].port);
    return found;
}

static bool naive_wireguard(const uint8_t *frame)
{
    static const size_t lengths[] = {0, 148, 92, 64};
    const size_t payload = number(frame + 38, 2) - 8;
    if (payload < 32 || frame[43] != 0 || frame[44] != 0 || frame[45] != 0)
        return false;
    const uint8_t type = frame[42];
    return type == 4 || (type >= 1 && type <= 3 && payload == lengths[type]);
}

static bool naive_never(uint32_t ip)
{
    const unsigned first = ip >> 24;
    return first == 0 || first == 127 || ip >> 16 == 0xa9fe || first >= 224 || ip == allowed.own[0] ||
           ip >> 8 == link.guest_ip >> 8;
}

static bool naive_passes(const struct nat_policy *policy, const uint8_t *frame, size_t length)
{
    return naive_own_udp(frame, length) && naive_allowed(policy, frame) &&
           (!policy->require_wireguard || naive_wireguard(frame));
}

/* ---- the target ---- */

static void mend(uint8_t *frame, size_t length)
{
    if (length < 42)
        return;
    memcpy(frame + 6, &link.guest_mac, 6);
    memset(frame + 24, 0, 2);
    const unsigned header = ~sum_of(frame + 14, 20, 0) & 0xffff;
    frame[24] = (uint8_t)(header >> 8);
    frame[25] = (uint8_t)header;
    const size_t udp_bytes = number(frame + 38, 2);
    if (udp_bytes > length - 34)
        return;
    memset(frame + 40, 0, 2);
    const unsigned udp = ~sum_of(frame + 34, udp_bytes, sum_of(frame + 26, 8, 17 + (unsigned)udp_bytes)) & 0xffff;
    frame[40] = (uint8_t)(udp >> 8);
    frame[41] = (uint8_t)udp;
}

static void expect_inside(const struct packet *packet, const uint8_t *frame, size_t length)
{
    if (packet->kind != PACKET_UDP) {
        EXPECT(packet->payload == NULL && packet->payload_bytes == 0);
        return;
    }
    EXPECT(packet->payload >= frame && packet->payload + packet->payload_bytes <= frame + length);
}

static void expect_promise(const struct nat_policy *policy, const uint8_t *frame, size_t length, struct verdict verdict)
{
    const bool passes = naive_passes(policy, frame, length);
    if (policy->mode != NAT_MODE_SAMPLED) {
        EXPECT((verdict.what == NAT_FORWARD) == passes);
    } else if (verdict.what == NAT_FORWARD) {
        EXPECT(passes || (naive_own_udp(frame, length) && !naive_never(number(frame + 30, 4))));
    }
    EXPECT(verdict.what != NAT_TERMINATE || (policy->terminate && nat_reason_is_violation(verdict.reason)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    if (length < 2 || length > FRAME_BYTES_MAX + 2)
        return 0;
    const uint8_t wish = bytes[0];
    const uint8_t shape = bytes[1];
    struct nat_policy policy = allowed;
    policy.mode = (enum nat_mode)(wish % NAT_MODE_COUNT);
    policy.require_wireguard = (wish & 64) != 0;
    policy.terminate = (wish & 128) != 0;
    policy.allow_count = shape % 4;

    length -= 2;
    uint8_t *frame = malloc(length > 0 ? length : 1);
    struct verdict_memory *memory = calloc(1, sizeof *memory);
    EXPECT(frame != NULL && memory != NULL);
    memcpy(frame, bytes + 2, length);
    if (shape & 128)
        mend(frame, length);
    memory->sampler.left = shape & 64 ? SAMPLER_WORDS : 0; /* words of zero are drawn, others are not */
    memset(memory->sampler.words, shape & 32 ? 0xff : 0, sizeof memory->sampler.words);
    for (unsigned round = 0; round < 3; round++) { /* what conntrack has noted must answer as the full check did */
        struct packet packet;
        packet_parse(frame, length, link.mtu, &packet);
        expect_inside(&packet, frame, length);
        expect_promise(&policy, frame, length, judge_packet(&policy, &link, memory, &packet, 1000 + round));
    }
    policy.generation = 8; /* under another policy the table is worth nothing */
    policy.allow_count = 0;
    struct packet packet;
    packet_parse(frame, length, link.mtu, &packet);
    expect_promise(&policy, frame, length, judge_packet(&policy, &link, memory, &packet, 2000));
    free(memory);
    free(frame);
    return 0;
}

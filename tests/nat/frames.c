#include "tests/nat/frames.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

const struct nat_link test_link = {
    .guest_mac = {{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}},
    .guest_ip = 0xC0A84002,
    .gateway_ip = 0xC0A84001,
    .prefix = 24,
    .mtu = 1500,
};
const struct nat_endpoint test_guest = {0xC0A84002, 40000};
const struct nat_endpoint test_consumer = {0xC6336402, 51900};
const struct nat_policy test_policy = {
    .mode = NAT_MODE_FILTERED,
    .generation = 1,
    .allow_count = 1,
    .allow = {{0xC6336402, 51900}},
};

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value & 0xffff);
}

/* Written again here, word by word, so that a fault in nat/checksum.c shows. */
static unsigned naive_sum(const uint8_t *bytes, size_t length, unsigned sum)
{
    for (size_t i = 0; i < length; i++)
        sum += i % 2 == 0 ? bytes[i] * 256u : bytes[i];
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

void frame_fix_ipv4(struct frame *frame)
{
    uint8_t *ip = frame->bytes + 14;
    put16(ip + 10, 0);
    put16(ip + 10, ~naive_sum(ip, (size_t)(ip[0] % 16) * 4, 0) & 0xffff);
}

void frame_fix_udp(struct frame *frame)
{
    uint8_t *ip = frame->bytes + 14;
    uint8_t *udp = ip + 20;
    size_t length = udp[4] * 256u + udp[5];
    put16(udp + 6, 0);
    unsigned sum = naive_sum(ip + 12, 8, 17 + (unsigned)length);
    sum = ~naive_sum(udp, length, sum) & 0xffff;
    put16(udp + 6, sum == 0 ? 0xffff : sum);
}

static void put_ethernet(struct frame *frame, uint16_t type)
{
    static const uint8_t gateway[6] = {0x02, 0x6f, 0x6d, 0x72, 0x74, 0x01};
    memcpy(frame->bytes, gateway, 6);
    memcpy(frame->bytes + 6, test_link.guest_mac.b, 6);
    put16(frame->bytes + 12, type);
}

struct frame frame_ipv4(uint8_t protocol, uint32_t from, uint32_t to, size_t payload_bytes)
{
    struct frame frame = {.length = 14 + 20 + payload_bytes};
    REQUIRE(frame.length <= sizeof frame.bytes);
    put_ethernet(&frame, 0x0800);
    uint8_t *ip = frame.bytes + 14;
    ip[0] = 0x45;
    put16(ip + 2, (unsigned)(20 + payload_bytes));
    put16(ip + 6, 0x4000);
    ip[8] = 64;
    ip[9] = protocol;
    put32(ip + 12, from);
    put32(ip + 16, to);
    for (size_t i = 0; i < payload_bytes; i++)
        ip[20 + i] = (uint8_t)(i * 7 + 1);
    frame_fix_ipv4(&frame);
    return frame;
}

struct frame frame_udp(struct nat_endpoint from, struct nat_endpoint to, size_t payload_bytes)
{
    struct frame frame = frame_ipv4(17, from.ip, to.ip, 8 + payload_bytes);
    uint8_t *udp = frame.bytes + 34;
    put16(udp, from.port);
    put16(udp + 2, to.port);
    put16(udp + 4, (unsigned)(8 + payload_bytes));
    frame_fix_udp(&frame);
    return frame;
}

struct frame frame_arp(uint16_t operation, uint32_t sender_ip, uint32_t target_ip)
{
    struct frame frame = {.length = 42};
    put_ethernet(&frame, 0x0806);
    uint8_t *arp = frame.bytes + 14;
    put16(arp, 1);
    put16(arp + 2, 0x0800);
    arp[4] = 6;
    arp[5] = 4;
    put16(arp + 6, operation);
    memcpy(arp + 8, test_link.guest_mac.b, 6);
    put32(arp + 14, sender_ip);
    put32(arp + 24, target_ip);
    return frame;
}

struct frame frame_dhcp(uint8_t type, uint32_t transaction)
{
    struct nat_endpoint from = {0, 68};
    struct nat_endpoint to = {UINT32_MAX, 67};
    struct frame frame = frame_udp(from, to, 300);
    uint8_t *dhcp = frame.bytes + 42;
    memset(dhcp, 0, 300);
    dhcp[0] = 1;
    dhcp[1] = 1;
    dhcp[2] = 6;
    put32(dhcp + 4, transaction);
    memcpy(dhcp + 28, test_link.guest_mac.b, 6);
    put32(dhcp + 236, 0x63825363);
    dhcp[240] = 53;
    dhcp[241] = 1;
    dhcp[242] = type;
    dhcp[243] = 255;
    memset(frame.bytes, 0xff, 6);
    frame_fix_udp(&frame);
    return frame;
}

struct packet frame_parse(const struct frame *frame)
{
    uint8_t *exact = malloc(frame->length == 0 ? 1 : frame->length);
    REQUIRE(exact != NULL);
    memcpy(exact, frame->bytes, frame->length);
    struct packet packet;
    packet_parse(exact, frame->length, test_link.mtu, &packet);
    if (packet.payload != NULL)
        packet.payload = frame->bytes + (packet.payload - exact);
    free(exact);
    return packet;
}

struct verdict frame_verdict(const struct frame *frame, const struct nat_policy *policy, struct verdict_memory *memory)
{
    struct verdict_memory fresh = {.conntrack = {.generation = 0}};
    struct packet packet = frame_parse(frame);
    return verdict_decide(policy, &test_link, memory == NULL ? &fresh : memory, &packet, 1000);
}

enum nat_reason frame_reason(const struct frame *frame)
{
    return frame_verdict(frame, &test_policy, NULL).reason;
}

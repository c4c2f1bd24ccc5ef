#include "nat/judge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nat/allowlist.h"
#include "nat/compose.h"
#include "nat/wire.h"

struct verdict judge_packet(const struct nat_policy *policy, const struct nat_link *link, struct verdict_memory *memory,
                            struct packet *packet, uint64_t now_ms)
{
    if (packet->kind == PACKET_UDP) {
        struct nat_endpoint meant = allowlist_translate(policy, packet->destination);
        packet->destination.ip = meant.ip;
        packet->destination.port = meant.port;
    }
    return verdict_decide(policy, link, memory, packet, now_ms);
}

int nat_evaluate(const struct nat_policy *policy, const struct nat_link *link, const uint8_t *frame, size_t length,
                 bool drawn, struct nat_evaluation *ret_evaluation)
{
    /* Empty memory is the strictest one: no table to hit, and a sampler that has run dry judges every frame. */
    struct verdict_memory *memory = calloc(1, sizeof *memory);
    if (memory == NULL)
        return -ENOMEM;
    if (!drawn) {
        memory->sampler.left = 1;
        memory->sampler.words[0] = UINT32_MAX; /* the last word that is drawn, as long as not every frame is */
    }
    struct packet packet;
    packet_parse(frame, length, link->mtu, &packet);
    struct verdict verdict = judge_packet(policy, link, memory, &packet, 0);
    free(memory);
    *ret_evaluation = (struct nat_evaluation){
        .verdict = verdict.what,
        .reason = verdict.reason,
        .violation = nat_reason_is_violation(verdict.reason),
        .destination = packet.destination,
    };
    return 0;
}

size_t nat_describe(const struct nat_description *description, uint8_t ret_frame[static NAT_FRAME_BYTES_MAX])
{
    static const uint8_t payload[NAT_MTU_MAX];
    const struct nat_link link = {.guest_mac = description->source_mac, .mtu = NAT_MTU_MAX};
    size_t payload_bytes = description->payload_bytes;
    if (payload_bytes > sizeof payload)
        return 0;
    size_t length =
        compose_udp(ret_frame, payload, payload_bytes, &link, description->source, description->destination);
    if (length == 0)
        return 0;
    memset(ret_frame + WIRE_PAYLOAD, 0, payload_bytes);
    /* It was made as the way back makes them: from the gateway, and UDP. */
    struct wire_ethernet ethernet = {
        .destination = wire_gateway_mac, .source = description->source_mac, .type = be16_make(WIRE_TYPE_IPV4)};
    memcpy(ret_frame, &ethernet, sizeof ethernet);
    if (description->ip_protocol != WIRE_PROTOCOL_UDP)
        compose_protocol(ret_frame + WIRE_IPV4, description->ip_protocol);
    return length;
}

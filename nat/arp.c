#include "nat/arp.h"

#include <string.h>

#include "nat/wire.h"

size_t arp_answer(const struct packet *packet, const struct nat_link *link, uint8_t ret_frame[static ARP_FRAME_BYTES])
{
    if (packet->arp_operation != WIRE_ARP_REQUEST || packet->arp_target_ip != link->gateway_ip)
        return 0;
    struct wire_ethernet ethernet = {
        .destination = link->guest_mac,
        .source = wire_gateway_mac,
        .type = be16_make(WIRE_TYPE_ARP),
    };
    struct wire_arp arp = {
        .hardware_type = be16_make(1),
        .protocol_type = be16_make(WIRE_TYPE_IPV4),
        .hardware_length = 6,
        .protocol_length = 4,
        .operation = be16_make(WIRE_ARP_REPLY),
        .sender_mac = wire_gateway_mac,
        .sender_ip = be32_make(link->gateway_ip),
        .target_mac = link->guest_mac,
        .target_ip = be32_make(link->guest_ip),
    };
    memcpy(ret_frame, &ethernet, sizeof ethernet);
    memcpy(ret_frame + WIRE_ARP, &arp, sizeof arp);
    return ARP_FRAME_BYTES;
}

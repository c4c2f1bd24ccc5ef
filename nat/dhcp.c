#include "nat/dhcp.h"

#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "nat/compose.h"
#include "nat/wire.h"

enum dhcp_number {
    BOOT_REQUEST = 1,
    BOOT_REPLY = 2,
    DHCP_MAGIC_COOKIE = 0x63825363,
    OPTION_PAD = 0,
    OPTION_SUBNET_MASK = 1,
    OPTION_ROUTER = 3,
    OPTION_MTU = 26,
    OPTION_LEASE_TIME = 51,
    OPTION_MESSAGE_TYPE = 53,
    OPTION_SERVER = 54,
    OPTION_END = 255,
};

uint8_t dhcp_message_type(const uint8_t *options, size_t length)
{
    size_t at = 0;
    /*@ loop invariant at <= length;
        loop assigns at;
        loop variant length - at; */
    while (at < length && options[at] != OPTION_END) {
        if (options[at] == OPTION_PAD) {
            at++;
            continue;
        }
        if (length - at < 2)
            return DHCP_NONE;
        size_t value_length = options[at + 1];
        if (length - at - 2 < value_length)
            return DHCP_NONE;
        if (options[at] == OPTION_MESSAGE_TYPE)
            return value_length == 1 ? options[at + 2] : DHCP_NONE;
        at += 2 + value_length;
    }
    return DHCP_NONE;
}

static uint8_t answer_type(const struct packet *packet, const struct nat_link *link, struct wire_dhcp *ret_request)
{
    struct cursor cursor = cursor_make(packet->payload, packet->payload_bytes);
    if (!cursor_take(&cursor, ret_request, sizeof *ret_request))
        return DHCP_NONE;
    if (ret_request->operation != BOOT_REQUEST || ret_request->hardware_type != 1 ||
        ret_request->hardware_length != 6 || be32_load(ret_request->cookie) != DHCP_MAGIC_COOKIE ||
        memcmp(&ret_request->client_mac, &link->guest_mac, sizeof link->guest_mac) != 0)
        return DHCP_NONE;
    switch (dhcp_message_type(cursor.at, cursor.left)) {
    case DHCP_DISCOVER:
        return DHCP_OFFER;
    case DHCP_REQUEST:
        return DHCP_ACK;
    default: /* a byte from the guest, not an enum */
        return DHCP_NONE;
    }
}

static uint8_t *put_option(uint8_t *at, uint8_t code, const void *value, uint8_t length)
{
    at[0] = code;
    at[1] = length;
    memcpy(at + 2, value, length);
    return at + 2 + length;
}

static uint8_t *put_options(uint8_t *at, uint8_t type, const struct nat_link *link)
{
    be32 server = be32_make(link->gateway_ip);
    be32 lease_s = be32_make(DHCP_LEASE_S);
    be32 mask = be32_make(~(UINT32_MAX >> link->prefix));
    be16 mtu = be16_make(link->mtu);
    at = put_option(at, OPTION_MESSAGE_TYPE, &type, sizeof type);
    at = put_option(at, OPTION_SERVER, &server, sizeof server);
    at = put_option(at, OPTION_LEASE_TIME, &lease_s, sizeof lease_s);
    at = put_option(at, OPTION_SUBNET_MASK, &mask, sizeof mask);
    at = put_option(at, OPTION_ROUTER, &server, sizeof server);
    at = put_option(at, OPTION_MTU, &mtu, sizeof mtu);
    *at = OPTION_END;
    return at + 1;
}

size_t dhcp_answer(const struct packet *packet, const struct nat_link *link, uint8_t ret_frame[static DHCP_FRAME_BYTES])
{
    struct wire_dhcp request;
    uint8_t type = answer_type(packet, link, &request);
    if (type == DHCP_NONE)
        return 0;
    struct wire_dhcp reply = {
        .operation = BOOT_REPLY,
        .hardware_type = 1,
        .hardware_length = 6,
        .transaction = request.transaction,
        .your_ip = be32_make(link->guest_ip),
        .server_ip = be32_make(link->gateway_ip),
        .client_mac = link->guest_mac,
        .cookie = be32_make(DHCP_MAGIC_COOKIE),
    };
    memset(ret_frame, 0, DHCP_FRAME_BYTES);
    uint8_t *payload = ret_frame + WIRE_PAYLOAD;
    memcpy(payload, &reply, sizeof reply);
    uint8_t *end = put_options(payload + sizeof reply, type, link);
    REQUIRE(end <= ret_frame + DHCP_FRAME_BYTES);

    struct nat_endpoint server = {link->gateway_ip, WIRE_DHCP_SERVER_PORT};
    struct nat_endpoint client = {UINT32_MAX, WIRE_DHCP_CLIENT_PORT}; /* it has no address yet */
    return compose_udp(ret_frame, payload, DHCP_FRAME_BYTES - WIRE_PAYLOAD, link, server, client);
}

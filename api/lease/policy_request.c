#include "api/lease/policy_request.h"

#include <sodium.h>
#include <string.h>

enum {
    GUEST_PORT = 40000, /* whence a described packet comes when it does not say */
    WORD_BYTES = 16,
    IP_PROTOCOL_MAX = 255,
};

/* ---- a policy -------------------------------------------------------------------------------------------------- */

static bool is_there(const struct nat_policy *policy, size_t count, struct nat_endpoint endpoint)
{
    for (size_t i = 0; i < count; i++) {
        if (policy->allow[i].ip == endpoint.ip && policy->allow[i].port == endpoint.port)
            return true;
    }
    return false;
}

static void take_allowlist(const struct decode_node *root, const struct lease_offer *offer, struct nat_policy *policy)
{
    struct decode_node list = decode_member(root, "allowlist");
    size_t count = 0;
    if (!decode_array(&list, 1, NAT_ALLOW_MAX, &count))
        return;
    for (size_t i = 0; i < count; i++) {
        struct decode_node node = decode_element(&list, i);
        if (lease_endpoint_decode(&node, offer, &policy->allow[i]) && is_there(policy, i, policy->allow[i]))
            decode_fault(&node, NULL, "stands in the list already");
    }
    policy->allow_count = count;
}

void policy_request_decode(json_t *tree, const struct lease_offer *offer, struct decode_errors *errors,
                           struct nat_policy *ret_policy)
{
    static const char *const keys[] = {"allowlist",    "mode", "sampling_rate", "require_wireguard", "limits",
                                       "on_violation", NULL};
    struct decode_node root = decode_root(tree, errors);
    struct network_request network;
    *ret_policy = (struct nat_policy){.budget_unanswered = true};
    if (!decode_object(&root, keys))
        return;
    take_allowlist(&root, offer, ret_policy);
    struct decode_node mode = decode_member(&root, "mode");
    if (!decode_present(&mode))
        decode_fault(&mode, NULL, "is missing; a policy is replaced as a whole");
    network_request_decode_policy(&root, &offer->network, &network);
    if (network.mode == MODE_DIRECT) {
        decode_fault(&mode, NULL, "cannot become \"direct\": that network is chosen when the machine is made");
        return;
    }
    ret_policy->mode = mode_to_nat(network.mode);
    ret_policy->sampling_ppm = network.sampling_ppm;
    ret_policy->terminate = network.terminate;
    ret_policy->require_wireguard = network.require_wireguard;
    ret_policy->limits = network.limits;
}

/* ---- a packet -------------------------------------------------------------------------------------------------- */

static void take_frame(const struct decode_node *node, struct evaluation_request *request)
{
    const char *text = decode_string(node, 0, (size_t)NAT_FRAME_BYTES_MAX * 2);
    const char *end = NULL;
    if (text == NULL)
        return;
    if (sodium_hex2bin(request->frame, sizeof request->frame, text, strlen(text), NULL, &request->length, &end) != 0 ||
        *end != '\0')
        decode_fault(node, NULL, "must be hexadecimal digits, two for each byte");
}

static void take_ip(const struct decode_node *root, const char *name, uint32_t *ip)
{
    struct decode_node node = decode_member(root, name);
    const char *text = decode_present(&node) ? decode_string(&node, 1, NAT_IP_TEXT_BYTES - 1) : NULL;
    if (text != NULL && !nat_ip_parse(text, ip))
        decode_fault(&node, NULL, "must be an IPv4 address, as 203.0.113.7");
}

static void take_port(const struct decode_node *root, const char *name, uint16_t *port)
{
    struct decode_node node = decode_member(root, name);
    uint64_t number = 0;
    if (decode_present(&node) && decode_integer(&node, 0, UINT16_MAX, &number))
        *port = (uint16_t)number;
}

static void take_mac(const struct decode_node *root, struct nat_mac *mac)
{
    struct decode_node node = decode_member(root, "source_mac");
    const char *text = decode_present(&node) ? decode_string(&node, 1, NAT_MAC_TEXT_BYTES - 1) : NULL;
    if (text != NULL && !nat_mac_parse(text, mac))
        decode_fault(&node, NULL, "must be a unicast hardware address, as 02:00:00:00:00:01");
}

static void take_protocol(const struct decode_node *root, uint8_t *protocol)
{
    static const struct {
        const char *name;
        uint8_t number;
    } known[] = {{"udp", 17}, {"tcp", 6}, {"icmp", 1}};
    struct decode_node node = decode_member(root, "protocol");
    uint64_t number = 0;
    if (!decode_present(&node))
        return;
    if (json_is_integer(node.value)) {
        if (decode_integer(&node, 0, IP_PROTOCOL_MAX, &number))
            *protocol = (uint8_t)number;
        return;
    }
    const char *name = json_is_string(node.value) ? decode_string(&node, 1, WORD_BYTES) : NULL;
    for (size_t i = 0; name != NULL && i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i].name, name) == 0) {
            *protocol = known[i].number;
            return;
        }
    }
    decode_fault(&node, NULL, "must be \"udp\", \"tcp\", \"icmp\" or the number of an IP protocol");
}

void evaluation_request_decode(json_t *tree, const struct nat_link *link, struct decode_errors *errors,
                               struct evaluation_request *ret_request)
{
    static const char *const described[] = {"source_mac",       "source_ip", "source_port",   "destination_ip",
                                            "destination_port", "protocol",  "payload_bytes", NULL};
    static const char *const raw[] = {"frame", NULL};
    struct decode_node root = decode_root(tree, errors);
    struct decode_node frame = decode_member(&root, "frame");
    *ret_request = (struct evaluation_request){0};
    if (!decode_object(&root, decode_present(&frame) ? raw : described))
        return;
    if (decode_present(&frame)) {
        take_frame(&frame, ret_request);
        return;
    }
    struct nat_description packet = {
        .source_mac = link->guest_mac, .source = {link->guest_ip, GUEST_PORT}, .ip_protocol = 17};
    struct decode_node destination = decode_member(&root, "destination_ip");
    if (!decode_present(&destination))
        decode_fault(&destination, NULL, "is missing, and so is \"frame\"");
    take_mac(&root, &packet.source_mac);
    take_ip(&root, "source_ip", &packet.source.ip);
    take_port(&root, "source_port", &packet.source.port);
    take_ip(&root, "destination_ip", &packet.destination.ip);
    take_port(&root, "destination_port", &packet.destination.port);
    take_protocol(&root, &packet.ip_protocol);
    take_port(&root, "payload_bytes", &packet.payload_bytes);
    ret_request->length = nat_describe(&packet, ret_request->frame);
    struct decode_node payload = decode_member(&root, "payload_bytes");
    if (ret_request->length == 0)
        decode_fault(&payload, NULL, "makes a packet of more than %d bytes", NAT_MTU_MAX);
}

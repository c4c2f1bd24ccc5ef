#include "nat/gate.h"

#include "base/error.h"
#include "nat/wire.h"

/* Jumps are written with these in the place of distances and resolved at the end: no program is long enough for a distance to
 * be taken for one. */
enum label { LABEL_NEXT = 0, LABEL_NEXT_ENDPOINT = 3, LABEL_DHCP = 253, LABEL_DROP = 254, LABEL_PASS = 255 };

enum offset {
    AT_SOURCE_MAC = offsetof(struct wire_ethernet, source),
    AT_TYPE = offsetof(struct wire_ethernet, type),
    AT_VERSION = WIRE_IPV4,
    AT_FRAGMENT = WIRE_IPV4 + offsetof(struct wire_ipv4, fragment),
    AT_PROTOCOL = WIRE_IPV4 + offsetof(struct wire_ipv4, protocol),
    AT_SOURCE_IP = WIRE_IPV4 + offsetof(struct wire_ipv4, source),
    AT_DESTINATION_IP = WIRE_IPV4 + offsetof(struct wire_ipv4, destination),
    AT_SOURCE_PORT = WIRE_UDP + offsetof(struct wire_udp, source),
    AT_DESTINATION_PORT = WIRE_UDP + offsetof(struct wire_udp, destination),
};

_Static_assert((int)GATE_INSTRUCTIONS_MAX < (int)LABEL_DHCP, "distances and labels differ");

bool gate_is_possible(const struct nat_policy *policy)
{
    return policy->generation != 0 && policy->mode != NAT_MODE_SAMPLED && !policy->terminate;
}

static void emit(struct gate_program *program, enum gate_code code, uint32_t value, enum label if_true,
                 enum label if_false)
{
    REQUIRE(program->count < GATE_INSTRUCTIONS_MAX);
    program->code[program->count++] = (struct gate_instruction){
        .code = (uint16_t)code, .jump_true = (uint8_t)if_true, .jump_false = (uint8_t)if_false, .value = value};
}

static void load(struct gate_program *program, enum gate_code code, enum offset at)
{
    emit(program, code, (uint32_t)at, LABEL_NEXT, LABEL_NEXT);
}

static void emit_source_mac(struct gate_program *program, const struct nat_mac *mac)
{
    const uint32_t high = mac->b[0] * 16777216u + mac->b[1] * 65536u + mac->b[2] * 256u + mac->b[3];
    const uint32_t low = mac->b[4] * 256u + mac->b[5];
    if (high == 0 && low == 0)
        return;
    load(program, GATE_LOAD_WORD, AT_SOURCE_MAC);
    emit(program, GATE_JUMP_EQUAL, high, LABEL_NEXT, LABEL_DROP);
    emit(program, GATE_LOAD_HALF, AT_SOURCE_MAC + 4, LABEL_NEXT, LABEL_NEXT);
    emit(program, GATE_JUMP_EQUAL, low, LABEL_NEXT, LABEL_DROP);
}

static void emit_whole_udp(struct gate_program *program)
{
    load(program, GATE_LOAD_HALF, AT_TYPE);
    emit(program, GATE_JUMP_EQUAL, WIRE_TYPE_ARP, LABEL_PASS, LABEL_NEXT);
    emit(program, GATE_JUMP_EQUAL, WIRE_TYPE_IPV4, LABEL_NEXT, LABEL_DROP);
    load(program, GATE_LOAD_BYTE, AT_VERSION);
    emit(program, GATE_JUMP_EQUAL, WIRE_IPV4_NO_OPTIONS, LABEL_NEXT, LABEL_DROP);
    load(program, GATE_LOAD_BYTE, AT_PROTOCOL);
    emit(program, GATE_JUMP_EQUAL, WIRE_PROTOCOL_UDP, LABEL_NEXT, LABEL_DROP);
    load(program, GATE_LOAD_HALF, AT_FRAGMENT);
    emit(program, GATE_JUMP_BITS, WIRE_IPV4_FRAGMENT_MASK | WIRE_IPV4_RESERVED_BIT, LABEL_DROP, LABEL_NEXT);
}

/* The endpoint's address, or on to the next endpoint; its port, or on as well. */
static void emit_endpoint(struct gate_program *program, struct nat_endpoint endpoint)
{
    load(program, GATE_LOAD_WORD, AT_DESTINATION_IP);
    emit(program, GATE_JUMP_EQUAL, endpoint.ip, LABEL_NEXT, LABEL_NEXT_ENDPOINT - 1);
    load(program, GATE_LOAD_HALF, AT_DESTINATION_PORT);
    emit(program, GATE_JUMP_EQUAL, endpoint.port, LABEL_PASS, LABEL_NEXT);
}

static void emit_allowlist(struct gate_program *program, const struct nat_policy *policy)
{
    for (size_t i = 0; i < policy->allow_count; i++)
        emit_endpoint(program, policy->allow[i]);
    if (policy->known_as.port != 0)
        emit_endpoint(program, policy->known_as); /* what the guest calls a consumer that has moved */
}

static void emit_dhcp(struct gate_program *program)
{
    load(program, GATE_LOAD_HALF, AT_SOURCE_PORT);
    emit(program, GATE_JUMP_EQUAL, WIRE_DHCP_CLIENT_PORT, LABEL_NEXT, LABEL_DROP);
    load(program, GATE_LOAD_HALF, AT_DESTINATION_PORT);
    emit(program, GATE_JUMP_EQUAL, WIRE_DHCP_SERVER_PORT, LABEL_PASS, LABEL_DROP);
}

static uint8_t resolve(uint8_t label, size_t from, size_t dhcp, size_t drop)
{
    const size_t next = from + 1;
    switch (label) {
    case LABEL_DHCP:
        return (uint8_t)(dhcp - next);
    case LABEL_DROP:
        return (uint8_t)(drop - next);
    case LABEL_PASS:
        return (uint8_t)(drop + 1 - next);
    default: /* a distance, not a label */
        return label;
    }
}

void gate_generate(const struct nat_policy *policy, const struct nat_link *link, struct gate_program *ret_program)
{
    ret_program->count = 0;
    emit_source_mac(ret_program, &link->guest_mac);
    emit_whole_udp(ret_program);
    load(ret_program, GATE_LOAD_WORD, AT_SOURCE_IP);
    emit(ret_program, GATE_JUMP_EQUAL, 0, LABEL_DHCP, LABEL_NEXT);
    emit(ret_program, GATE_JUMP_EQUAL, link->guest_ip, LABEL_NEXT, LABEL_DROP);
    emit_allowlist(ret_program, policy);
    const size_t dhcp = ret_program->count;
    emit_dhcp(ret_program);
    const size_t drop = ret_program->count;
    emit(ret_program, GATE_RETURN, 0, LABEL_NEXT, LABEL_NEXT);
    emit(ret_program, GATE_RETURN, GATE_PASS, LABEL_NEXT, LABEL_NEXT);
    for (size_t i = 0; i < drop; i++) {
        struct gate_instruction *instruction = &ret_program->code[i];
        instruction->jump_true = resolve(instruction->jump_true, i, dhcp, drop);
        instruction->jump_false = resolve(instruction->jump_false, i, dhcp, drop);
    }
}

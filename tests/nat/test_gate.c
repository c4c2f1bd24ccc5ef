#include "tests/cmocka.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nat/gate.h"
#include "nat/judge.h"
#include "tests/nat/frames.h"

#if defined(SO_ATTACH_FILTER) && !defined(OMERTAD_PORTABLE)
#include <linux/filter.h>
#define HAS_FILTERS 1
#else
#define HAS_FILTERS 0
#endif

enum { MUTATIONS = 400000, KERNEL_FRAMES = 20000 };

/* ---- a second implementation of the machine: linux/Documentation/networking/filter.rst ------------------------------- */

static bool load(const struct frame *frame, size_t at, size_t bytes, uint32_t *ret_value)
{
    if (at + bytes > frame->length)
        return false;
    *ret_value = 0;
    for (size_t i = 0; i < bytes; i++)
        *ret_value = *ret_value * 256 + frame->bytes[at + i];
    return true;
}

/* Return: what the program returns. It has to end, and within itself. */
static uint32_t interpret(const struct gate_program *program, const struct frame *frame)
{
    uint32_t accumulator = 0;
    for (size_t at = 0;;) {
        assert_true(at < program->count);
        const struct gate_instruction *instruction = &program->code[at];
        bool jumps = false;
        switch (instruction->code) {
        case GATE_RETURN:
            return instruction->value;
        case GATE_LOAD_WORD:
        case GATE_LOAD_HALF:
        case GATE_LOAD_BYTE:
            if (!load(frame, instruction->value,
                      instruction->code == GATE_LOAD_WORD   ? 4
                      : instruction->code == GATE_LOAD_HALF ? 2
                                                            : 1,
                      &accumulator))
                return 0;
            at++;
            continue;
        case GATE_JUMP_EQUAL:
            jumps = accumulator == instruction->value;
            break;
        case GATE_JUMP_BITS:
            jumps = (accumulator & instruction->value) != 0;
            break;
        default: /* a number from memory, not an enum */
            fail_msg("instruction %#x", instruction->code);
        }
        at += 1u + (jumps ? instruction->jump_true : instruction->jump_false);
    }
}

static bool gate_drops(const struct gate_program *program, const struct frame *frame)
{
    uint32_t result = interpret(program, frame);
    assert_true(result == 0 || result == GATE_PASS);
    return result == 0;
}

/* ---- policies and frames ------------------------------------------------------------------------------------------ */

static struct nat_policy policy_of(size_t endpoints)
{
    struct nat_policy policy = test_policy;
    policy.allow_count = endpoints;
    for (size_t i = 0; i < endpoints; i++)
        policy.allow[i] = (struct nat_endpoint){0xC6336402u + (uint32_t)(i / 2), (uint16_t)(51900 + i % 3)};
    return policy;
}

/* What the guest knows a consumer as that has moved. */
static const struct nat_endpoint moved_from = {0xC6336432, 51800};

static uint32_t seed = 1;

static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

static struct frame any_good_frame(const struct nat_policy *policy)
{
    static const struct nat_endpoint dhcp_client = {0, 68};
    static const struct nat_endpoint dhcp_server = {UINT32_MAX, 67};
    switch (draw(7)) {
    case 6:
        return frame_udp(test_guest, moved_from, draw(200));
    case 0:
        return frame_arp(1, test_link.guest_ip, test_link.gateway_ip);
    case 1:
        return frame_dhcp(1, 7);
    case 2:
        return frame_udp(dhcp_client, dhcp_server, 300);
    case 3:
        return frame_ipv4((uint8_t)draw(256), test_link.guest_ip, policy->allow_count > 0 ? policy->allow[0].ip : 1,
                          40);
    default:
        return policy->allow_count > 0
                   ? frame_udp(test_guest, policy->allow[draw((uint32_t)policy->allow_count)], draw(200))
                   : frame_udp(test_guest, test_consumer, draw(200));
    }
}

/* Some bytes of the headers changed, checksums made right again more often than not, so that many still mean something. */
static struct frame any_frame(const struct nat_policy *policy)
{
    struct frame frame = any_good_frame(policy);
    for (uint32_t changes = draw(4); changes > 0; changes--) {
        size_t at = draw(46);
        if (at < frame.length)
            frame.bytes[at] = (uint8_t)(draw(2) == 0 ? draw(256) : frame.bytes[at] ^ (1u << draw(8)));
    }
    if (draw(8) == 0)
        frame.length = draw((uint32_t)frame.length + 1);
    const size_t udp_bytes = frame.bytes[38] * 256u + frame.bytes[39];
    if (draw(4) != 0 && frame.length >= 42 && udp_bytes <= frame.length - 34) {
        frame_fix_ipv4(&frame);
        frame_fix_udp(&frame);
    }
    return frame;
}

static bool may_pass(const struct nat_policy *policy, const struct frame *frame)
{
    struct verdict_memory memory = {0};
    struct packet packet = frame_parse(frame);
    struct verdict verdict = judge_packet(policy, &test_link, &memory, &packet, 0);
    return verdict.what == NAT_FORWARD || verdict.what == NAT_ANSWER;
}

static void what_the_gate_drops_the_verdict_would_not_let_pass(void **state)
{
    (void)state;
    unsigned dropped = 0;
    unsigned passed = 0;
    for (size_t endpoints = 0; endpoints <= NAT_ALLOW_MAX; endpoints++) {
        for (int mode = 0; mode < 2; mode++) {
            struct nat_policy policy = policy_of(endpoints);
            policy.mode = mode == 0 ? NAT_MODE_FILTERED : NAT_MODE_CONNTRACK;
            if (mode == 1 && endpoints > 0)
                policy.known_as = moved_from;
            struct gate_program program;
            gate_generate(&policy, &test_link, &program);
            for (int i = 0; i < MUTATIONS / NAT_ALLOW_MAX / 2; i++) {
                struct frame frame = any_frame(&policy);
                bool drops = gate_drops(&program, &frame);
                bool may = may_pass(&policy, &frame);
                if (drops && may)
                    fail_msg("a frame of %zu bytes that may pass is dropped", frame.length);
                dropped += drops;
                passed += may;
            }
        }
    }
    assert_true(dropped > MUTATIONS / 10); /* it is of use, */
    assert_true(passed > MUTATIONS / 10);  /* and the frames were worth the trial */
}

static void a_flood_to_anywhere_else_is_dropped(void **state)
{
    (void)state;
    struct gate_program program;
    gate_generate(&test_policy, &test_link, &program);
    const struct nat_endpoint elsewhere[] = {{test_consumer.ip, 53},
                                             {test_consumer.ip + 1, test_consumer.port},
                                             {0x08080808, 53},
                                             {test_link.gateway_ip, 80}};
    for (size_t i = 0; i < 4; i++) {
        struct frame frame = frame_udp(test_guest, elsewhere[i], 100);
        assert_true(gate_drops(&program, &frame));
    }
    struct frame frame = frame_udp(test_guest, test_consumer, 100);
    assert_false(gate_drops(&program, &frame));
    struct frame spoofed = frame;
    spoofed.bytes[11] ^= 1;
    assert_true(gate_drops(&program, &spoofed));
    struct nat_endpoint liar = {test_guest.ip + 1, test_guest.port};
    spoofed = frame_udp(liar, test_consumer, 100);
    assert_true(gate_drops(&program, &spoofed));
    struct frame fragment = frame;
    fragment.bytes[20] |= 0x20;
    assert_true(gate_drops(&program, &fragment));
    struct frame tcp = frame_ipv4(6, test_guest.ip, test_consumer.ip, 40);
    assert_true(gate_drops(&program, &tcp));
}

static void without_a_known_address_the_source_is_not_looked_at(void **state)
{
    (void)state;
    struct nat_link link = test_link;
    memset(&link.guest_mac, 0, sizeof link.guest_mac);
    struct gate_program program;
    gate_generate(&test_policy, &link, &program);
    struct frame frame = frame_udp(test_guest, test_consumer, 100);
    frame.bytes[11] ^= 1;
    assert_false(gate_drops(&program, &frame));
}

static void it_is_for_policies_that_drop_and_look_at_every_frame(void **state)
{
    (void)state;
    struct nat_policy policy = test_policy;
    assert_true(gate_is_possible(&policy));
    policy.mode = NAT_MODE_CONNTRACK;
    assert_true(gate_is_possible(&policy));
    policy.terminate = true;
    assert_false(gate_is_possible(&policy));
    policy = test_policy;
    policy.mode = NAT_MODE_SAMPLED;
    assert_false(gate_is_possible(&policy));
    policy = test_policy;
    policy.generation = 0;
    assert_false(gate_is_possible(&policy));
}

#if HAS_FILTERS

static void the_kernel_reads_the_program_as_we_do(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    for (size_t endpoints = 0; endpoints <= NAT_ALLOW_MAX; endpoints += 4) {
        struct nat_policy policy = policy_of(endpoints);
        struct gate_program program;
        gate_generate(&policy, &test_link, &program);
        struct sock_filter code[GATE_INSTRUCTIONS_MAX];
        memcpy(code, program.code, program.count * sizeof *code);
        struct sock_fprog filter = {.len = (unsigned short)program.count, .filter = code};
        assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter), 0);
        for (int i = 0; i < KERNEL_FRAMES / 5; i++) {
            struct frame frame = any_frame(&policy);
            uint8_t got[FRAME_BYTES];
            assert_int_equal(send(ends[1], frame.bytes, frame.length, 0), frame.length);
            ssize_t length = recv(ends[0], got, sizeof got, MSG_DONTWAIT);
            if (gate_drops(&program, &frame)) {
                assert_int_equal(length, -1);
            } else {
                assert_int_equal(length, frame.length);
                assert_memory_equal(got, frame.bytes, frame.length);
            }
        }
    }
    close(ends[0]);
    close(ends[1]);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_gate_drops_the_verdict_would_not_let_pass),
        cmocka_unit_test(a_flood_to_anywhere_else_is_dropped),
        cmocka_unit_test(without_a_known_address_the_source_is_not_looked_at),
        cmocka_unit_test(it_is_for_policies_that_drop_and_look_at_every_frame),
#if HAS_FILTERS
        cmocka_unit_test(the_kernel_reads_the_program_as_we_do),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

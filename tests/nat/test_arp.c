#include "tests/cmocka.h"

#include <string.h>

#include "nat/arp.h"
#include "tests/nat/frames.h"

static size_t answer_to(const struct frame *frame, uint8_t *ret_frame)
{
    struct packet packet = frame_parse(frame);
    return arp_answer(&packet, &test_link, ret_frame);
}

static void the_gateway_is_answered_for(void **state)
{
    (void)state;
    struct frame question = frame_arp(1, test_link.guest_ip, test_link.gateway_ip);
    uint8_t found[ARP_FRAME_BYTES];
    assert_int_equal(answer_to(&question, found), 42);
    static const uint8_t expected[42] = {
        0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x02, 0x6f, 0x6d, 0x72, 0x74, 0x01, 0x08, 0x06, /* Ethernet */
        0,    1,    0x08, 0,    6,    4,    0,    2,                                        /* reply */
        0x02, 0x6f, 0x6d, 0x72, 0x74, 0x01, 192,  168,  64,   1,                            /* the gateway */
        0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 192,  168,  64,   2,                            /* the guest */
    };
    assert_memory_equal(found, expected, sizeof expected);
}

static void nobody_else_is_answered_for(void **state)
{
    (void)state;
    uint8_t found[ARP_FRAME_BYTES];
    static const uint32_t others[] = {0xC0A84002, 0xC0A84003, 0xC0A840FF, 0x08080808, 0};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct frame question = frame_arp(1, test_link.guest_ip, others[i]);
        assert_int_equal(answer_to(&question, found), 0);
    }
    struct frame reply = frame_arp(2, test_link.guest_ip, test_link.gateway_ip);
    assert_int_equal(answer_to(&reply, found), 0);
}

static void the_answer_never_varies_with_what_the_guest_claims(void **state)
{
    (void)state;
    uint8_t first[ARP_FRAME_BYTES];
    uint8_t second[ARP_FRAME_BYTES];
    struct frame question = frame_arp(1, test_link.guest_ip, test_link.gateway_ip);
    answer_to(&question, first);
    memset(question.bytes + 22, 0xee, 10); /* sender's addresses */
    memset(question.bytes + 32, 0xdd, 6);  /* target's address */
    assert_int_equal(answer_to(&question, second), 42);
    assert_memory_equal(first, second, sizeof first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gateway_is_answered_for),
        cmocka_unit_test(nobody_else_is_answered_for),
        cmocka_unit_test(the_answer_never_varies_with_what_the_guest_claims),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

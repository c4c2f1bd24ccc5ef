#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

#include "nat/dhcp.h"
#include "tests/nat/frames.h"

static size_t answer_to(const struct frame *frame, struct frame *ret_frame)
{
    struct packet packet = frame_parse(frame);
    ret_frame->length = dhcp_answer(&packet, &test_link, ret_frame->bytes);
    return ret_frame->length;
}

static void discover_is_offered_and_request_is_acknowledged(void **state)
{
    (void)state;
    static const uint8_t pairs[][2] = {{1, 2}, {3, 5}};
    for (size_t i = 0; i < 2; i++) {
        struct frame question = frame_dhcp(pairs[i][0], 0x11223344);
        struct frame found;
        assert_int_equal(answer_to(&question, &found), DHCP_FRAME_BYTES);
        const uint8_t *dhcp = found.bytes + 42;
        static const uint8_t transaction[] = {0x11, 0x22, 0x33, 0x44};
        static const uint8_t leased[] = {192, 168, 64, 2};
        assert_int_equal(dhcp[0], 2);
        assert_memory_equal(dhcp + 4, transaction, 4);
        assert_memory_equal(dhcp + 16, leased, 4);
        static const uint8_t options[] = {54,  4,   192, 168, 64, 1,   51,  4,  0, 1,  0x51, 0x80, 1,    4,  255,
                                          255, 255, 0,   3,   4,  192, 168, 64, 1, 26, 2,    0x05, 0xdc, 255};
        assert_int_equal(dhcp[240], 53);
        assert_int_equal(dhcp[242], pairs[i][1]);
        assert_memory_equal(dhcp + 243, options, sizeof options);
    }
}

static void the_answer_is_a_frame_that_a_strict_reader_takes(void **state)
{
    (void)state;
    struct frame question = frame_dhcp(1, 5);
    struct frame found;
    answer_to(&question, &found);
    struct packet packet = frame_parse(&found);
    assert_int_equal(packet.kind, PACKET_UDP);
    assert_int_equal(packet.source.ip, test_link.gateway_ip);
    assert_int_equal(packet.source.port, 67);
    assert_int_equal(packet.destination.port, 68);
    assert_memory_equal(&packet.destination_mac, &test_link.guest_mac, 6);
    assert_true(packet.destination.ip == UINT32_MAX);
}

static void the_answer_never_varies_with_what_the_guest_claims(void **state)
{
    (void)state;
    struct frame plain = frame_dhcp(3, 5);
    struct frame wishes = plain;
    uint8_t *dhcp = wishes.bytes + 42;
    memset(dhcp + 8, 0xab, 20);   /* seconds, flags and all four addresses */
    memset(dhcp + 44, 0xcd, 192); /* server name and boot file */
    static const uint8_t options[] = {50, 4, 8, 8, 8, 8, 53, 1, 3, 55, 3, 1, 3, 6, 255};
    memcpy(dhcp + 240, options, sizeof options);
    frame_fix_udp(&wishes);
    struct frame first;
    struct frame second;
    assert_int_equal(answer_to(&plain, &first), DHCP_FRAME_BYTES);
    assert_int_equal(answer_to(&wishes, &second), DHCP_FRAME_BYTES);
    assert_memory_equal(first.bytes, second.bytes, DHCP_FRAME_BYTES);
}

static void what_is_no_request_from_this_guest_gets_no_answer(void **state)
{
    (void)state;
    static const size_t spoilt[] = {0, 1, 2, 28, 33, 236, 239, 242};
    for (size_t i = 0; i < sizeof spoilt / sizeof spoilt[0]; i++) {
        struct frame question = frame_dhcp(1, 5);
        question.bytes[42 + spoilt[i]] ^= 0x40;
        frame_fix_udp(&question);
        struct frame found;
        assert_int_equal(answer_to(&question, &found), 0);
    }
    struct nat_endpoint from = {0, 68};
    struct nat_endpoint to = {UINT32_MAX, 67};
    struct frame shorter = frame_udp(from, to, 239);
    struct frame found;
    assert_int_equal(answer_to(&shorter, &found), 0);
}

struct options_row {
    const char *what;
    size_t length;
    uint8_t bytes[12];
    uint8_t type;
};

static void the_option_walk_ends_inside_the_packet(void **state)
{
    (void)state;
    static const struct options_row rows[] = {
        {"nothing", 0, {0}, 0},
        {"a code without a length", 1, {53}, 0},
        {"a length without a value", 2, {53, 1}, 0},
        {"type at the very end", 3, {53, 1, 3}, 3},
        {"type of two bytes", 4, {53, 2, 3, 3}, 0},
        {"type of no bytes", 2, {53, 0}, 0},
        {"padding before", 6, {0, 0, 0, 53, 1, 1}, 1},
        {"padding alone", 4, {0, 0, 0, 0}, 0},
        {"end before", 4, {255, 53, 1, 1}, 0},
        {"an option that reaches past the end", 4, {12, 200, 53, 1}, 0},
        {"an option of length zero before", 5, {12, 0, 53, 1, 3}, 3},
        {"the first of two types counts", 6, {53, 1, 3, 53, 1, 1}, 3},
        {"an option whose value looks like a type", 8, {61, 3, 53, 1, 7, 53, 1, 1}, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t *exact = malloc(rows[i].length + 1);
        assert_non_null(exact);
        uint8_t *start = exact + 1; /* so that a walk past the end leaves the allocation */
        memcpy(start, rows[i].bytes, rows[i].length);
        if (dhcp_message_type(start, rows[i].length) != rows[i].type)
            fail_msg("%s: %d", rows[i].what, dhcp_message_type(start, rows[i].length));
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(discover_is_offered_and_request_is_acknowledged),
        cmocka_unit_test(the_answer_is_a_frame_that_a_strict_reader_takes),
        cmocka_unit_test(the_answer_never_varies_with_what_the_guest_claims),
        cmocka_unit_test(what_is_no_request_from_this_guest_gets_no_answer),
        cmocka_unit_test(the_option_walk_ends_inside_the_packet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

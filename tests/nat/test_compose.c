#include "tests/cmocka.h"

#include <string.h>

#include "nat/compose.h"
#include "tests/nat/frames.h"

static size_t compose(struct frame *frame, size_t payload_bytes)
{
    memset(frame->bytes, 0xa5, 42);
    for (size_t i = 0; i < payload_bytes; i++)
        frame->bytes[42 + i] = (uint8_t)(i * 3);
    frame->length = compose_udp(frame->bytes, frame->bytes + 42, payload_bytes, &test_link, test_consumer, test_guest);
    return frame->length;
}

static void every_size_up_to_the_mtu_is_read_back_the_same(void **state)
{
    (void)state;
    for (size_t size = 0; size <= 1472; size++) {
        struct frame frame;
        assert_int_equal(compose(&frame, size), 42 + size);
        struct packet packet = frame_parse(&frame);
        assert_int_equal(packet.kind, PACKET_UDP);
        assert_int_equal(packet.payload_bytes, size);
        assert_int_equal(packet.source.ip, test_consumer.ip);
        assert_int_equal(packet.source.port, test_consumer.port);
        assert_int_equal(packet.destination.ip, test_guest.ip);
        assert_int_equal(packet.destination.port, test_guest.port);
        assert_memory_equal(&packet.destination_mac, &test_link.guest_mac, 6);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(packet.payload[i], (uint8_t)(i * 3));
    }
}

static void above_the_mtu_nothing_is_composed(void **state)
{
    (void)state;
    struct frame frame;
    assert_int_equal(compose(&frame, 1473), 0);
    struct nat_link small = test_link;
    small.mtu = 576;
    assert_int_equal(compose_udp(frame.bytes, frame.bytes + 42, 549, &small, test_consumer, test_guest), 0);
    assert_int_equal(compose_udp(frame.bytes, frame.bytes + 42, 548, &small, test_consumer, test_guest), 42 + 548);
}

static void a_link_too_small_for_headers_gets_nothing(void **state)
{
    (void)state;
    struct frame frame = {0};
    struct nat_link tiny = test_link;
    tiny.mtu = 27;
    assert_int_equal(compose_udp(frame.bytes, frame.bytes + 42, 0, &tiny, test_consumer, test_guest), 0);
    tiny.mtu = 28;
    assert_int_equal(compose_udp(frame.bytes, frame.bytes + 42, 0, &tiny, test_consumer, test_guest), 42);
}

static size_t compose_from(const struct flow *flow)
{
    struct frame frame = {0};
    return compose_inbound(frame.bytes, frame.bytes + 42, 8, &test_policy, &test_link, flow);
}

static void nothing_comes_in_but_from_an_allowed_consumer_that_is_listened_to(void **state)
{
    (void)state;
    const struct flow good = {.state = FLOW_OPEN, .guest_port = 40000, .consumer = test_consumer, .listens = true};
    assert_int_equal(compose_from(&good), 50);
    struct flow deaf = good;
    deaf.listens = false;
    assert_int_equal(compose_from(&deaf), 0);
    struct flow stranger = good;
    stranger.consumer.port++;
    assert_int_equal(compose_from(&stranger), 0);
    stranger.consumer = (struct nat_endpoint){test_consumer.ip + 1, test_consumer.port};
    assert_int_equal(compose_from(&stranger), 0);
}

static void a_checksum_of_zero_is_sent_as_all_ones(void **state)
{
    (void)state;
    /* Two payload bytes are tried until the sum comes out as zero: one of the 65,536 must. */
    for (unsigned value = 0; value <= 0xffff; value++) {
        struct frame frame;
        frame.bytes[42] = (uint8_t)(value >> 8);
        frame.bytes[43] = (uint8_t)value;
        compose_udp(frame.bytes, frame.bytes + 42, 2, &test_link, test_consumer, test_guest);
        assert_true(frame.bytes[40] != 0 || frame.bytes[41] != 0);
        if (frame.bytes[40] == 0xff && frame.bytes[41] == 0xff)
            return;
    }
    fail_msg("no payload gave the checksum zero");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_up_to_the_mtu_is_read_back_the_same),
        cmocka_unit_test(above_the_mtu_nothing_is_composed),
        cmocka_unit_test(a_link_too_small_for_headers_gets_nothing),
        cmocka_unit_test(nothing_comes_in_but_from_an_allowed_consumer_that_is_listened_to),
        cmocka_unit_test(a_checksum_of_zero_is_sent_as_all_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

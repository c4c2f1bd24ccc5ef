/* A consumer whose address changes: the guest knows the old one only, and both directions go on with the new one. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#include "nat/allowlist.h"
#include "nat/flow.h"
#include "nat/nat.h"
#include "tests/cmocka.h"
#include "tests/nat/frames.h"
#include "tests/nat/lab.h"
#include "tests/nat/link.h"

static const struct nat_endpoint new_home = {0xC6336409, 51777}; /* 198.51.100.9 */

static struct nat_policy moved_policy(uint64_t generation)
{
    struct nat_policy policy = test_policy;
    policy.generation = generation;
    policy.allow[0] = new_home;
    policy.known_as = test_consumer;
    return policy;
}

/* The next frame for the guest. */
static struct packet guest_gets(const struct lab *lab)
{
    static struct frame frame;
    frame.length = (size_t)lab_guest_gets(lab, frame.bytes, sizeof frame.bytes);
    return frame_parse(&frame);
}

static void the_name_is_translated_there_and_back_and_nothing_else(void **state)
{
    (void)state;
    const struct nat_policy policy = moved_policy(1);
    const struct nat_endpoint other_port = {test_consumer.ip, 1};
    assert_int_equal(allowlist_translate(&policy, test_consumer).ip, new_home.ip);
    assert_int_equal(allowlist_translate(&policy, other_port).ip, test_consumer.ip);
    assert_int_equal(allowlist_translate(&policy, new_home).port, new_home.port);
    assert_int_equal(allowlist_name(&policy, new_home).ip, test_consumer.ip);
    assert_int_equal(allowlist_name(&policy, other_port).port, 1);
    assert_int_equal(allowlist_translate(&test_policy, new_home).ip, new_home.ip);
}

static void a_name_that_means_two_places_or_none_is_refused(void **state)
{
    (void)state;
    struct nat_policy policy = moved_policy(1);
    assert_int_equal(allowlist_check(&policy, NULL), 0);
    policy.allow_count = 2;
    policy.allow[1] = test_consumer;
    assert_int_equal(allowlist_check(&policy, NULL), -EINVAL);
    policy.allow_count = 0;
    assert_int_equal(allowlist_check(&policy, NULL), -EINVAL);
    policy = moved_policy(1);
    policy.known_as.ip = 0x7f000001;
    assert_int_equal(allowlist_check(&policy, NULL), -EINVAL);
}

static void a_consumer_that_moved_reaches_the_guest_at_the_port_it_knows(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    lab_open_flow(&lab);
    const struct sockaddr_in uplink = lab.guest_uplink;
    int moved = link_udp_socket(new_home);
    struct nat_policy policy = moved_policy(2);
    lab_apply(&lab, &policy);
    assert_int_equal(sendto(moved, "from the new home", 17, 0, (const struct sockaddr *)&uplink, sizeof uplink), 17);
    struct packet packet = guest_gets(&lab);
    assert_int_equal(packet.source.ip, test_consumer.ip); /* as the guest knows it */
    assert_int_equal(packet.source.port, test_consumer.port);
    assert_int_equal(packet.destination.port, test_guest.port);
    /* The old home is a stranger now. */
    lab_consumer_sends(&lab, "late", 4);
    assert_true(lab_silent(lab.guest));

    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    uint8_t bytes[64];
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    lab_guest_sends(&lab, &frame);
    assert_int_equal(recvfrom(moved, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length), 8);
    assert_int_equal(from.sin_port, uplink.sin_port);
    assert_true(lab_silent(lab.consumer));

    struct nat_flow flows[NAT_FLOWS_MAX];
    assert_int_equal(nat_list_flows(lab.nat, flows), 1);
    assert_int_equal(flows[0].consumer.ip, new_home.ip);
    assert_int_equal(flows[0].guest_port, test_guest.port);
    assert_true(flows[0].listens);
    assert_int_equal(flows[0].sent_packets, 2);
    assert_int_equal(flows[0].received_packets, 1);
    assert_int_equal(flows[0].received_bytes, 17);
    close(moved);
    lab_stop(&lab);
}

static void it_may_move_again_and_back_home(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    lab_open_flow(&lab);
    struct nat_policy policy = moved_policy(2);
    lab_apply(&lab, &policy);
    policy.generation = 3;
    policy.allow[0].port = 51778;
    lab_apply(&lab, &policy);
    int moved = link_udp_socket(policy.allow[0]);
    const struct sockaddr_in uplink = lab.guest_uplink;
    assert_int_equal(sendto(moved, "again", 5, 0, (const struct sockaddr *)&uplink, sizeof uplink), 5);
    assert_int_equal(guest_gets(&lab).source.port, test_consumer.port);
    policy = test_policy;
    policy.generation = 4;
    lab_apply(&lab, &policy);
    lab_consumer_sends(&lab, "home", 4);
    assert_int_equal(guest_gets(&lab).source.ip, test_consumer.ip);
    close(moved);
    lab_stop(&lab);
}

static void the_rest_of_the_old_address_stays_forbidden(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    struct nat_policy policy = moved_policy(2);
    lab_apply(&lab, &policy);
    struct frame frame = frame_udp(test_guest, (struct nat_endpoint){test_consumer.ip, 53}, 8);
    lab_guest_sends(&lab, &frame);
    assert_int_equal(lab_report(&lab, NAT_REPORT_VIOLATION).violation.reason, NAT_REASON_DESTINATION_NOT_ALLOWED);
    lab_stop(&lab);
}

static void a_moved_tunnel_goes_on_without_a_handshake_within_its_budget(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    struct nat_policy policy = test_policy;
    uint8_t bytes[256];
    uint8_t response[92] = {2};
    uint8_t transport[32] = {4};
    policy.generation = 2;
    policy.budget_unanswered = true;
    lab_apply(&lab, &policy);
    struct frame frame = frame_udp(test_guest, test_consumer, 148);
    memset(frame.bytes + 42, 0, 4);
    frame.bytes[42] = 1;
    frame_fix_udp(&frame);
    lab_guest_sends(&lab, &frame);
    assert_int_equal(lab_consumer_gets(&lab, bytes, sizeof bytes), 148);
    lab_consumer_sends(&lab, response, sizeof response);
    assert_int_equal(lab_guest_gets(&lab, bytes, sizeof bytes), 42 + 92);
    frame = frame_udp(test_guest, test_consumer, 32);
    memset(frame.bytes + 42, 0, 4);
    frame.bytes[42] = 4;
    frame_fix_udp(&frame);
    lab_guest_sends(&lab, &frame); /* the tunnel is up */
    assert_int_equal(lab_consumer_gets(&lab, bytes, sizeof bytes), 32);

    int moved = link_udp_socket(new_home);
    policy = moved_policy(3);
    policy.budget_unanswered = true;
    lab_apply(&lab, &policy);
    struct nat_stats stats;
    nat_read_stats(lab.nat, &stats);
    uint64_t before = stats.frames[NAT_REASON_ALLOWED];
    const uint64_t began_ms = clock_monotonic_ms();
    uint64_t passed_ms;
    for (int i = 0; i < 30; i++)
        lab_guest_sends(&lab, &frame);
    do {
        usleep(1000);
        passed_ms = clock_monotonic_ms() - began_ms;
        nat_read_stats(lab.nat, &stats);
    } while (stats.frames[NAT_REASON_UNANSWERED] + stats.frames[NAT_REASON_ALLOWED] < before + 30 && passed_ms < 10000);
    /* Nobody is flooded who has not agreed: twenty, and one a second. */
    assert_in_range(stats.frames[NAT_REASON_ALLOWED] - before, 20, 21 + passed_ms / 1000);
    assert_int_equal(stats.frames[NAT_REASON_UNANSWERED] + stats.frames[NAT_REASON_ALLOWED], before + 30);
    const struct sockaddr_in uplink = lab.guest_uplink;
    assert_int_equal(sendto(moved, transport, 32, 0, (const struct sockaddr *)&uplink, sizeof uplink), 32);
    assert_int_equal(lab_guest_gets(&lab, bytes, sizeof bytes), 42 + 32);
    before = stats.frames[NAT_REASON_ALLOWED];
    for (int i = 0; i < 30; i++)
        lab_guest_sends(&lab, &frame);
    lab_await(&lab, NAT_REASON_ALLOWED, before + 30);
    close(moved);
    lab_stop(&lab);
}

static void flows_follow_only_to_where_no_other_is(void **state)
{
    (void)state;
    struct flow_pool pool = {0};
    const struct nat_policy after = moved_policy(2);
    const struct nat_endpoint third = {0xC6336403, 9};
    assert_int_equal(flow_open(&pool, 1, test_consumer, 0), 0);
    assert_int_equal(flow_open(&pool, 2, test_consumer, 0), 1);
    assert_int_equal(flow_open(&pool, 2, new_home, 0), 2);
    assert_int_equal(flow_open(&pool, 3, third, 0), 3);
    for (int slot = 0; slot < 4; slot++)
        pool.slots[slot].listens = true;
    assert_int_equal(flow_follow(&pool, &test_policy, &after), 1);
    assert_int_equal(pool.slots[0].consumer.ip, new_home.ip);
    assert_int_equal(flow_retain(&pool, &after), 2 | 8); /* the one that could not, and the one that never may */
    pool.slots[2].listens = false;                       /* where unchecked packets went once and the consumer is now */
    assert_int_equal(flow_follow(&pool, &after, &after), 4);
    assert_true(pool.slots[2].listens);
}

static struct nat_evaluation evaluate(const struct nat_policy *policy, const struct nat_description *description,
                                      bool drawn)
{
    uint8_t frame[NAT_FRAME_BYTES_MAX];
    struct nat_evaluation evaluation;
    size_t length = nat_describe(description, frame);
    assert_true(length > 0);
    assert_int_equal(nat_evaluate(policy, &test_link, frame, length, drawn, &evaluation), 0);
    return evaluation;
}

static void a_described_packet_gets_the_verdict_that_a_real_one_would(void **state)
{
    (void)state;
    struct nat_policy policy = test_policy;
    struct nat_description packet = {.source_mac = test_link.guest_mac,
                                     .source = test_guest,
                                     .destination = test_consumer,
                                     .ip_protocol = 17,
                                     .payload_bytes = 100};
    assert_int_equal(evaluate(&policy, &packet, true).verdict, NAT_FORWARD);
    packet.destination.port = 53;
    struct nat_evaluation refused = evaluate(&policy, &packet, true);
    assert_int_equal(refused.reason, NAT_REASON_PORT_NOT_ALLOWED);
    assert_true(refused.violation);
    packet.destination.port = test_consumer.port;
    packet.ip_protocol = 6;
    assert_int_equal(evaluate(&policy, &packet, true).reason, NAT_REASON_PROTOCOL_NOT_ALLOWED);
    packet.ip_protocol = 17;
    packet.source_mac.b[5] ^= 1;
    assert_int_equal(evaluate(&policy, &packet, true).reason, NAT_REASON_SOURCE_MAC_SPOOFED);
    packet.source_mac.b[5] ^= 1;
    packet.source.ip++;
    assert_int_equal(evaluate(&policy, &packet, true).reason, NAT_REASON_SOURCE_IP_SPOOFED);
    packet.source.ip--;
    policy = moved_policy(2);
    struct nat_evaluation moved = evaluate(&policy, &packet, true);
    assert_int_equal(moved.verdict, NAT_FORWARD);
    assert_int_equal(moved.destination.ip, new_home.ip);
}

static void an_evaluation_tells_of_both_sides_of_a_sample(void **state)
{
    (void)state;
    struct nat_policy policy = test_policy;
    policy.mode = NAT_MODE_SAMPLED;
    policy.sampling_ppm = 999999;
    policy.terminate = true;
    const struct nat_description packet = {
        .source_mac = test_link.guest_mac, .source = test_guest, .destination = {0x08080808, 53}, .ip_protocol = 17};
    assert_int_equal(evaluate(&policy, &packet, true).verdict, NAT_TERMINATE);
    assert_int_equal(evaluate(&policy, &packet, false).reason, NAT_REASON_UNCHECKED);
}

static void a_description_that_fits_no_frame_has_none(void **state)
{
    (void)state;
    uint8_t frame[NAT_FRAME_BYTES_MAX];
    struct nat_description packet = {.ip_protocol = 17, .payload_bytes = NAT_MTU_MAX - 28};
    assert_int_equal(nat_describe(&packet, frame), NAT_FRAME_BYTES_MAX);
    packet.payload_bytes++;
    assert_int_equal(nat_describe(&packet, frame), 0);
    packet.payload_bytes = UINT16_MAX;
    assert_int_equal(nat_describe(&packet, frame), 0);
}

static void a_policy_is_recalled_only_while_it_is_not_taken(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    assert_false(nat_recall(lab.nat)); /* the first one was taken */
    struct nat_policy policy = moved_policy(2);
    assert_int_equal(nat_apply(lab.nat, &policy, NULL), 0);
    if (nat_recall(lab.nat)) /* faster than the thread: then its number is free again */
        assert_int_equal(nat_apply(lab.nat, &policy, NULL), 0);
    assert_int_equal(lab_report(&lab, NAT_REPORT_POLICY).generation, 2);
    lab_stop(&lab);
}

int main(void)
{
    if (link_enter() < 0)
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_name_is_translated_there_and_back_and_nothing_else),
        cmocka_unit_test(a_name_that_means_two_places_or_none_is_refused),
        cmocka_unit_test(a_consumer_that_moved_reaches_the_guest_at_the_port_it_knows),
        cmocka_unit_test(it_may_move_again_and_back_home),
        cmocka_unit_test(the_rest_of_the_old_address_stays_forbidden),
        cmocka_unit_test(a_moved_tunnel_goes_on_without_a_handshake_within_its_budget),
        cmocka_unit_test(flows_follow_only_to_where_no_other_is),
        cmocka_unit_test(a_described_packet_gets_the_verdict_that_a_real_one_would),
        cmocka_unit_test(an_evaluation_tells_of_both_sides_of_a_sample),
        cmocka_unit_test(a_description_that_fits_no_frame_has_none),
        cmocka_unit_test(a_policy_is_recalled_only_while_it_is_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

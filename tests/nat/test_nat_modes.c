/* The modes, limits and budgets of a running NAT, over its sockets. */
#include "tests/cmocka.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "tests/nat/lab.h"
#include "tests/nat/link.h"

static const struct nat_endpoint elsewhere = {0xC6336403, 53}; /* on the test's own network, not allowed */

static struct nat_policy policy_of(enum nat_mode mode)
{
    struct nat_policy policy = test_policy;
    policy.mode = mode;
    policy.sampling_ppm = NAT_SAMPLING_PPM_MAX;
    policy.terminate = true;
    return policy;
}

static struct lab open_with(const struct nat_policy *policy)
{
    struct lab lab;
    lab_start(&lab, &test_link);
    lab_apply(&lab, policy);
    return lab;
}

static void a_terminating_violation_shuts_the_gate_within_its_batch(void **state)
{
    (void)state;
    for (int mode = 0; mode < NAT_MODE_COUNT; mode++) {
        struct nat_policy policy = policy_of((enum nat_mode)mode);
        struct lab lab = open_with(&policy);
        struct frame good = frame_udp(test_guest, test_consumer, 8);
        struct frame bad = frame_udp(test_guest, elsewhere, 8);
        /* Most of these are in one batch; whichever way they fall, nothing behind the bad one may pass. */
        lab_guest_sends(&lab, &good);
        lab_guest_sends(&lab, &bad);
        for (int i = 0; i < 20; i++)
            lab_guest_sends(&lab, &good);
        struct nat_report report = lab_report(&lab, NAT_REPORT_VIOLATION);
        assert_true(report.violation.terminated);
        assert_int_equal(report.violation.reason, NAT_REASON_DESTINATION_NOT_ALLOWED);
        assert_int_equal(report.violation.mode, mode);
        assert_int_equal(report.violation.policy_generation, 1);
        lab_await(&lab, NAT_REASON_GATE_SHUT, 20);
        uint8_t bytes[64];
        assert_int_equal(lab_consumer_gets(&lab, bytes, sizeof bytes), 8); /* the first one */
        assert_true(lab_silent(lab.consumer));
        lab_consumer_sends(&lab, "late", 4);
        assert_true(lab_silent(lab.guest));
        /* No later policy opens it again. */
        policy.generation = 2;
        assert_int_equal(nat_apply(lab.nat, &policy, NULL), 0);
        lab_guest_sends(&lab, &good);
        lab_await(&lab, NAT_REASON_GATE_SHUT, 21);
        lab_stop(&lab);
    }
}

static void a_violation_that_was_told_before_is_told_again_when_it_terminates(void **state)
{
    (void)state;
    struct nat_policy policy = policy_of(NAT_MODE_FILTERED);
    policy.terminate = false;
    struct lab lab = open_with(&policy);
    struct frame bad = frame_udp(test_guest, elsewhere, 8);
    lab_guest_sends(&lab, &bad);
    assert_false(lab_report(&lab, NAT_REPORT_VIOLATION).violation.terminated);
    policy.terminate = true;
    policy.generation = 2;
    lab_apply(&lab, &policy);
    uint64_t before = clock_monotonic_ms();
    lab_guest_sends(&lab, &bad);
    struct nat_report report = lab_report(&lab, NAT_REPORT_VIOLATION);
    assert_true(report.violation.terminated);
    assert_int_equal(report.violation.count, 2);
    assert_true(report.violation.last_ms + 1 >= before);
    lab_stop(&lab);
}

static void own_addresses_may_change_while_it_runs(void **state)
{
    (void)state;
    struct nat_policy policy = policy_of(NAT_MODE_SAMPLED);
    policy.sampling_ppm = NAT_SAMPLING_PPM_MIN;
    policy.terminate = false;
    struct lab lab = open_with(&policy);
    struct frame frame = frame_udp(test_guest, elsewhere, 8);
    uint32_t many[NAT_OWN_MAX + 1] = {0};
    struct nat_stats stats = {0};
    assert_int_equal(nat_replace_own(lab.nat, many, NAT_OWN_MAX + 1, NULL), -E2BIG);
    assert_int_equal(nat_replace_own(lab.nat, &elsewhere.ip, 1, NULL), 0);
    for (int tries = 0; tries < 2000 && stats.frames[NAT_REASON_NEVER] == 0; tries++) {
        lab_guest_sends(&lab, &frame);
        usleep(1000);
        nat_read_stats(lab.nat, &stats);
    }
    assert_true(stats.frames[NAT_REASON_NEVER] > 0);
    assert_int_equal(stats.policy_generation, policy.generation);
    assert_int_equal(nat_replace_own(lab.nat, NULL, 0, NULL), 0);
    uint64_t unchecked = stats.frames[NAT_REASON_UNCHECKED];
    for (int tries = 0; tries < 2000 && stats.frames[NAT_REASON_UNCHECKED] == unchecked; tries++) {
        lab_guest_sends(&lab, &frame);
        usleep(1000);
        nat_read_stats(lab.nat, &stats);
    }
    assert_true(stats.frames[NAT_REASON_UNCHECKED] > unchecked);
    lab_stop(&lab);
}

static void unsampled_udp_goes_out_and_nothing_comes_back(void **state)
{
    (void)state;
    struct nat_policy policy = policy_of(NAT_MODE_SAMPLED);
    policy.sampling_ppm = NAT_SAMPLING_PPM_MIN;
    policy.terminate = false;
    struct lab lab = open_with(&policy);
    int other = link_udp_socket(elsewhere);
    struct frame frame = frame_udp(test_guest, elsewhere, 8);
    /* One in a thousand is drawn: of two hundred at least one passes with a probability of all but 10^-600. */
    for (int i = 0; i < 200; i++)
        lab_guest_sends(&lab, &frame);
    uint8_t bytes[64];
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    assert_int_equal(recvfrom(other, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length), 8);
    for (int i = 0; i < 1000; i++)
        sendto(other, "answer", 6, 0, (struct sockaddr *)&from, sizeof from);
    assert_true(lab_silent(lab.guest));
    /* The consumer's tunnel is not disturbed by it. */
    int consumer = lab.consumer;
    frame = frame_udp(test_guest, test_consumer, 9);
    lab_guest_sends(&lab, &frame);
    length = sizeof from;
    assert_int_equal(recvfrom(consumer, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length), 9);
    sendto(consumer, "answer", 6, 0, (struct sockaddr *)&from, sizeof from);
    assert_int_equal(recv(lab.guest, bytes, sizeof bytes, 0), 42 + 6);
    fd_close(&other);
    lab_stop(&lab);
}

static void the_providers_own_addresses_are_never_reached(void **state)
{
    (void)state;
    struct nat_policy policy = policy_of(NAT_MODE_SAMPLED);
    policy.sampling_ppm = NAT_SAMPLING_PPM_MIN;
    policy.terminate = false;
    policy.own_count = 1;
    policy.own[0] = elsewhere.ip;
    struct lab lab = open_with(&policy);
    int provider = link_udp_socket(elsewhere);
    struct frame frame = frame_udp(test_guest, elsewhere, 8);
    for (int i = 0; i < 200; i++)
        lab_guest_sends(&lab, &frame);
    struct nat_stats stats = {0};
    while (stats.frames[NAT_REASON_NEVER] + stats.frames[NAT_REASON_DESTINATION_NOT_ALLOWED] < 200)
        nat_read_stats(lab.nat, &stats);
    assert_true(lab_silent(provider));
    fd_close(&provider);
    lab_stop(&lab);
}

static void sampling_draws_about_its_share_and_differs_between_vms(void **state)
{
    (void)state;
    struct nat_policy policy = policy_of(NAT_MODE_SAMPLED);
    policy.sampling_ppm = 500000;
    policy.terminate = false;
    uint64_t drawn[2];
    uint64_t pattern[2] = {0, 0};
    for (int vm = 0; vm < 2; vm++) {
        struct lab lab = open_with(&policy);
        struct nat_stats stats;
        uint64_t before = 0;
        for (uint64_t sent = 1; sent <= 400; sent++) {
            struct frame frame = frame_ipv4(6, test_guest.ip, elsewhere.ip, 20);
            lab_guest_sends(&lab, &frame);
            do
                nat_read_stats(lab.nat, &stats);
            while (stats.frames[NAT_REASON_DESTINATION_NOT_ALLOWED] + stats.frames[NAT_REASON_UNSAMPLED] < sent);
            if (sent <= 64)
                pattern[vm] = pattern[vm] * 2 + (stats.frames[NAT_REASON_DESTINATION_NOT_ALLOWED] - before);
            before = stats.frames[NAT_REASON_DESTINATION_NOT_ALLOWED];
        }
        drawn[vm] = before;
        lab_stop(&lab);
    }
    /* Mean 200, standard deviation 10: ten of them either way. */
    assert_in_range(drawn[0], 100, 300);
    assert_in_range(drawn[1], 100, 300);
    assert_true(pattern[0] != pattern[1]); /* equal once in 2^64 */
}

static void until_the_consumer_answers_a_small_budget_applies(void **state)
{
    (void)state;
    struct nat_policy policy = policy_of(NAT_MODE_FILTERED);
    policy.budget_unanswered = true;
    struct lab lab = open_with(&policy);
    struct frame frame = frame_udp(test_guest, test_consumer, 148);
    memcpy(frame.bytes + 42, "\1\0\0\0", 4);
    frame_fix_udp(&frame);
    for (int i = 0; i < 50; i++)
        lab_guest_sends(&lab, &frame);
    struct nat_stats stats = {0};
    while (stats.frames[NAT_REASON_ALLOWED] + stats.frames[NAT_REASON_UNANSWERED] < 50)
        nat_read_stats(lab.nat, &stats);
    assert_in_range(stats.frames[NAT_REASON_ALLOWED], 20, 23);
    assert_int_equal(stats.violations, 0);
    uint8_t bytes[256];
    assert_int_equal(lab_consumer_gets(&lab, bytes, sizeof bytes), 148);
    /* Just any datagram is no answer; a response is. */
    lab_consumer_sends(&lab, "hello", 5);
    assert_int_equal(recv(lab.guest, bytes, sizeof bytes, 0), 42 + 5);
    uint8_t response[92] = {2};
    lab_consumer_sends(&lab, response, sizeof response);
    assert_int_equal(recv(lab.guest, bytes, sizeof bytes, 0), 42 + 92);
    uint64_t allowed = stats.frames[NAT_REASON_ALLOWED];
    for (int i = 0; i < 50; i++)
        lab_guest_sends(&lab, &frame);
    lab_await(&lab, NAT_REASON_ALLOWED, allowed + 50);
    lab_stop(&lab);
}

static void limits_drop_without_being_a_violation(void **state)
{
    (void)state;
    struct nat_policy policy = policy_of(NAT_MODE_FILTERED);
    policy.limits.egress_packets_per_s = 1;
    policy.limits.ingress_packets_per_s = 1;
    struct lab lab = open_with(&policy);
    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    for (int i = 0; i < 40; i++)
        lab_guest_sends(&lab, &frame);
    struct nat_stats stats = {0};
    while (stats.frames[NAT_REASON_ALLOWED] + stats.frames[NAT_REASON_RATE_LIMITED] < 40)
        nat_read_stats(lab.nat, &stats);
    assert_in_range(stats.frames[NAT_REASON_ALLOWED], 16, 18);
    assert_int_equal(stats.violations, 0);
    uint8_t bytes[64];
    assert_int_equal(lab_consumer_gets(&lab, bytes, sizeof bytes), 8);
    for (int i = 0; i < 40; i++)
        lab_consumer_sends(&lab, "12345678", 8);
    while (stats.inbound_packets[NAT_INBOUND_DELIVERED] + stats.inbound_packets[NAT_INBOUND_RATE_LIMITED] < 40)
        nat_read_stats(lab.nat, &stats);
    assert_in_range(stats.inbound_packets[NAT_INBOUND_DELIVERED], 16, 18);
    lab_stop(&lab);
}

static void a_limit_of_bits_counts_whole_ip_packets(void **state)
{
    (void)state;
    struct nat_policy policy = policy_of(NAT_MODE_FILTERED);
    policy.limits.egress_bits_per_s = 8; /* the burst alone: sixteen packets of 1,500 bytes */
    struct lab lab = open_with(&policy);
    struct frame frame = frame_udp(test_guest, test_consumer, 972); /* 1,000 bytes with its headers */
    for (int i = 0; i < 40; i++)
        lab_guest_sends(&lab, &frame);
    struct nat_stats stats = {0};
    while (stats.frames[NAT_REASON_ALLOWED] + stats.frames[NAT_REASON_RATE_LIMITED] < 40)
        nat_read_stats(lab.nat, &stats);
    assert_int_equal(stats.frames[NAT_REASON_ALLOWED], 24);
    lab_stop(&lab);
}

int main(void)
{
    int rc = link_enter();
    if (rc < 0) {
        fprintf(stderr, "test_nat_modes: cannot make a network namespace: %s\n", strerror(-rc));
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_terminating_violation_shuts_the_gate_within_its_batch),
        cmocka_unit_test(a_violation_that_was_told_before_is_told_again_when_it_terminates),
        cmocka_unit_test(own_addresses_may_change_while_it_runs),
        cmocka_unit_test(unsampled_udp_goes_out_and_nothing_comes_back),
        cmocka_unit_test(the_providers_own_addresses_are_never_reached),
        cmocka_unit_test(sampling_draws_about_its_share_and_differs_between_vms),
        cmocka_unit_test(until_the_consumer_answers_a_small_budget_applies),
        cmocka_unit_test(limits_drop_without_being_a_violation),
        cmocka_unit_test(a_limit_of_bits_counts_whole_ip_packets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

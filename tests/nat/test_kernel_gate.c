/* The gate in the kernel, with a running NAT: quiet, closed under a flood, open again. */
#include "tests/cmocka.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "nat/kernel_gate.h"
#include "tests/nat/lab.h"
#include "tests/nat/link.h"

#if defined(SO_ATTACH_FILTER) && !defined(OMERTAD_PORTABLE)
#define HAS_FILTERS 1
#else
#define HAS_FILTERS 0
#endif

enum { FLOOD = 20000 };

static struct nat_stats stats_of(const struct lab *lab)
{
    struct nat_stats stats;
    nat_read_stats(lab->nat, &stats);
    return stats;
}

static struct frame forbidden(uint16_t port)
{
    struct nat_endpoint elsewhere = {test_consumer.ip, port};
    return frame_udp(test_guest, elsewhere, 60);
}

static void flood(const struct lab *lab, int frames)
{
    struct frame frame = forbidden(53);
    for (int i = 0; i < frames; i++)
        lab_guest_sends(lab, &frame);
}

/* Where there are such filters. Return: how many frames it took; a busy machine sees a flood as slow at first. */
static uint64_t flood_until_closed(const struct lab *lab)
{
    const uint64_t limit_ms = clock_monotonic_ms() + 30000;
    uint64_t sent = 0;
    do {
        flood(lab, FLOOD);
        sent += FLOOD;
    } while (HAS_FILTERS && stats_of(lab).kernel_filter_closings == 0 && clock_monotonic_ms() < limit_ms);
    assert_true(!HAS_FILTERS || stats_of(lab).kernel_filter_closings > 0);
    return sent;
}

static void single_violations_are_all_seen(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    const int frames = KERNEL_GATE_FLOOD_FRAMES - 1;
    flood(&lab, frames);
    lab_await(&lab, NAT_REASON_PORT_NOT_ALLOWED, (uint64_t)frames);
    assert_int_equal(stats_of(&lab).kernel_filter,
                     HAS_FILTERS ? NAT_KERNEL_FILTER_INACTIVE : NAT_KERNEL_FILTER_UNSUPPORTED);
    assert_int_equal(stats_of(&lab).kernel_filter_closings, 0);
    lab_stop(&lab);
}

static void nine_forbidden_frames_to_one_cost_no_allowed_one(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    struct frame bad = forbidden(53);
    flood_until_closed(&lab);
    for (uint32_t number = 0; number < FLOOD / 10; number++) {
        struct frame good = frame_udp(test_guest, test_consumer, 8);
        memcpy(good.bytes + 42, &number, sizeof number);
        frame_fix_udp(&good);
        for (int i = 0; i < 9; i++)
            lab_guest_sends(&lab, &bad);
        lab_guest_sends(&lab, &good);
        uint8_t got[8];
        assert_int_equal(lab_consumer_gets(&lab, got, sizeof got), 8);
        assert_memory_equal(got, &number, sizeof number);
    }
    lab_await(&lab, NAT_REASON_ALLOWED, FLOOD / 10);
    lab_stop(&lab);
}

static void sampled_never_closes_it(void **state)
{
    (void)state;
    struct lab lab;
    lab_start(&lab, &test_link);
    struct nat_policy policy = test_policy;
    policy.mode = NAT_MODE_SAMPLED;
    policy.sampling_ppm = NAT_SAMPLING_PPM_MAX;
    lab_apply(&lab, &policy);
    flood(&lab, 1000);
    lab_await(&lab, NAT_REASON_PORT_NOT_ALLOWED, 1000);
    assert_int_equal(stats_of(&lab).kernel_filter_closings, 0);
    lab_stop(&lab);
}

static void a_stream_has_none(void **state)
{
    (void)state;
    struct lab lab;
    lab_start_with(&lab, &test_link, NAT_FRAMING_STREAM, 0);
    lab_open_gate(&lab);
    assert_int_equal(stats_of(&lab).kernel_filter, NAT_KERNEL_FILTER_UNSUPPORTED);
    flood(&lab, 1000);
    lab_await(&lab, NAT_REASON_PORT_NOT_ALLOWED, 1000);
    assert_int_equal(stats_of(&lab).kernel_filter_closings, 0);
    lab_stop(&lab);
}

#if HAS_FILTERS

static void await_open(const struct lab *lab)
{
    const uint64_t limit_ms = clock_monotonic_ms() + 10000;
    while (stats_of(lab).kernel_filter != NAT_KERNEL_FILTER_INACTIVE && clock_monotonic_ms() < limit_ms)
        poll(NULL, 0, 1);
    assert_int_equal(stats_of(lab).kernel_filter, NAT_KERNEL_FILTER_INACTIVE);
}

static void a_flood_closes_it_what_is_allowed_passes_and_it_opens_again(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    const uint64_t sent = flood_until_closed(&lab);
    assert_int_equal(lab_report(&lab, NAT_REPORT_VIOLATION).violation.reason, NAT_REASON_PORT_NOT_ALLOWED);
    assert_true(stats_of(&lab).frames[NAT_REASON_PORT_NOT_ALLOWED] < sent);
    lab_open_flow(&lab);
    struct frame frame = frame_arp(1, test_link.guest_ip, test_link.gateway_ip);
    uint8_t bytes[2048];
    lab_guest_sends(&lab, &frame);
    assert_int_equal(recv(lab.guest, bytes, sizeof bytes, 0), 42);
    frame = frame_dhcp(1, 3);
    lab_guest_sends(&lab, &frame);
    assert_int_equal(recv(lab.guest, bytes, sizeof bytes, 0), 342);

    await_open(&lab);
    const uint64_t seen = stats_of(&lab).frames[NAT_REASON_PORT_NOT_ALLOWED];
    flood(&lab, 1);
    lab_await(&lab, NAT_REASON_PORT_NOT_ALLOWED, seen + 1);
    assert_true(lab_is_asleep());
    lab_stop(&lab);
}

static void a_new_policy_takes_a_closed_gate_with_it(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    flood_until_closed(&lab);
    struct nat_policy wider = test_policy;
    wider.generation = 2;
    wider.allow[wider.allow_count++] = (struct nat_endpoint){test_consumer.ip, 53};
    lab_apply(&lab, &wider);
    const struct nat_stats before = stats_of(&lab);
    flood(&lab, 1); /* allowed now: nobody waits for the gate to open */
    lab_await(&lab, NAT_REASON_ALLOWED, before.frames[NAT_REASON_ALLOWED] + 1);
    struct frame frame = forbidden(54);
    lab_guest_sends(&lab, &frame);
    lab_open_flow(&lab);
    assert_true(before.kernel_filter == NAT_KERNEL_FILTER_INACTIVE ||
                stats_of(&lab).frames[NAT_REASON_PORT_NOT_ALLOWED] == before.frames[NAT_REASON_PORT_NOT_ALLOWED]);
    lab_stop(&lab);
}

static void a_policy_that_has_to_see_everything_opens_it(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    flood_until_closed(&lab);
    struct nat_policy strict = test_policy;
    strict.generation = 2;
    strict.terminate = true;
    lab_apply(&lab, &strict);
    assert_int_equal(stats_of(&lab).kernel_filter, NAT_KERNEL_FILTER_INACTIVE);
    flood(&lab, 1);
    while (!lab_report(&lab, NAT_REPORT_VIOLATION).violation.terminated)
        continue;
    lab_stop(&lab);
}

#endif

int main(void)
{
    int rc = link_enter();
    if (rc < 0) {
        fprintf(stderr, "test_kernel_gate: cannot make a network namespace: %s\n", strerror(-rc));
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_violations_are_all_seen),
        cmocka_unit_test(nine_forbidden_frames_to_one_cost_no_allowed_one),
        cmocka_unit_test(sampled_never_closes_it),
        cmocka_unit_test(a_stream_has_none),
#if HAS_FILTERS
        cmocka_unit_test(a_flood_closes_it_what_is_allowed_passes_and_it_opens_again),
        cmocka_unit_test(a_new_policy_takes_a_closed_gate_with_it),
        cmocka_unit_test(a_policy_that_has_to_see_everything_opens_it),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

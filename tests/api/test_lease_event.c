#include "api/lease_event.h"

#include <sodium.h>
#include <string.h>

#include "tests/cmocka.h"
#include "tests/store/store_fixture.h"

static void monotonic_times_of_a_violation_become_wall_times(void **state)
{
    (void)state;
    const struct id lease = fixture_lease(1).id;
    const struct nat_violation violation = {
        .serial = 7,
        .reason = NAT_REASON_PORT_NOT_ALLOWED,
        .count = 3,
        .first_ms = 1000,
        .last_ms = 4000,
        .ethertype = 0x0800,
        .ip_protocol = 17,
        .source_mac = {{2, 0, 0, 0, 0, 1}},
        .source = {.ip = UINT32_C(0xC0A84002), .port = 5},
        .destination = {.ip = UINT32_C(0x08080808), .port = 53},
        .frame_bytes = 60,
        .evidence_bytes = 4,
        .evidence = {1, 2, 3, 4},
    };
    const struct store_violation row = lease_event_violation(&lease, &violation, 5000, UINT64_C(1700000000000));
    assert_int_equal(row.first_seen_ms, UINT64_C(1699999996000));
    assert_int_equal(row.last_seen_ms, UINT64_C(1699999999000));
    assert_string_equal(row.code, "port_not_allowed");
    assert_string_equal(row.verdict, "dropped");
    assert_string_equal(row.source, "filter");
    assert_string_equal(row.source_ip, "192.168.64.2");
    assert_string_equal(row.destination_ip, "8.8.8.8");
    assert_int_equal(row.destination_port, 53);
    assert_int_equal(row.serial, 7);
    assert_memory_equal(row.evidence, violation.evidence, 4);
}

static void a_violation_from_the_future_or_with_too_much_evidence_does_no_harm(void **state)
{
    (void)state;
    const struct id lease = fixture_lease(1).id;
    const struct nat_violation violation = {.first_ms = 9000, .evidence_bytes = UINT16_MAX};
    const struct store_violation row = lease_event_violation(&lease, &violation, 5000, 8000);
    assert_int_equal(row.first_seen_ms, 8000);
    assert_int_equal(row.evidence_bytes, STORE_EVIDENCE_BYTES);
    assert_string_equal(row.destination_ip, "");
}

static void every_end_has_its_reason_and_who_began_it(void **state)
{
    (void)state;
    static const struct {
        enum vmm_end end;
        enum lease_reason reason;
        const char *by;
    } table[] = {
        {VMM_END_ASKED, LEASE_RELEASED, "orchestrator"},
        {VMM_END_DEADLINE, LEASE_EXPIRED, "provider"},
        {VMM_END_SHUTDOWN, LEASE_PROVIDER_SHUTDOWN, "provider"},
        {VMM_END_GUEST_SHUTDOWN, LEASE_GUEST_SHUTDOWN, "guest"},
        {VMM_END_GUEST_CRASH, LEASE_GUEST_CRASH, "guest"},
        {VMM_END_HYPERVISOR_CRASH, LEASE_VMM_CRASH, "provider"},
        {VMM_END_FILTER_FAILED, LEASE_FILTER_FAILURE, "filter"},
        {VMM_END_START_FAILED, LEASE_START_FAILED, "provider"},
        {VMM_END_START_TIMEOUT, LEASE_START_TIMEOUT, "provider"},
        {VMM_END_IMAGE_REJECTED, LEASE_IMAGE_REJECTED, "provider"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const char *by = NULL;
        assert_int_equal(lease_event_reason(table[i].end, &by), table[i].reason);
        assert_string_equal(by, table[i].by);
    }
}

/* Every step of one machine, with its hypervisor spawned twice. */
static void the_steps_of_a_machine_are_written_to_its_lease(void **state)
{
    struct store_fixture *fixture = *state;
    const struct id id = fixture_reserve(fixture, 1);
    const struct store_resources capacity = fixture_capacity(4);
    struct lease_service service;
    struct store_lease lease;
    struct error err = {0};
    lease_service_init(&service, fixture->store, NULL, &capacity);
    char digest[65];
    memset(digest, 'a', 64);
    digest[64] = '\0';
    const struct nat_violation violation = {.serial = 1,
                                            .reason = NAT_REASON_VLAN,
                                            .count = 1,
                                            .ethertype = 0x8100,
                                            .policy_generation = 1,
                                            .frame_bytes = 64};
    const struct vmm_event steps[] = {
        {.kind = VMM_EVENT_PREPARED, .image_digest = digest, .accelerator = "kvm"},
        {.kind = VMM_EVENT_SPAWNED, .pid = 100, .pid_start_ticks = 7, .accelerator = "kvm"},
        {.kind = VMM_EVENT_NOTICE, .detail = "again with tcg \x1b[31m"},
        {.kind = VMM_EVENT_SPAWNED, .pid = 200, .pid_start_ticks = 9, .accelerator = "tcg"},
        {.kind = VMM_EVENT_POLICY, .generation = 1},
        {.kind = VMM_EVENT_RUNNING, .generation = 1},
        {.kind = VMM_EVENT_TUNNEL, .tunnel = NAT_TUNNEL_ESTABLISHED},
        {.kind = VMM_EVENT_VIOLATION, .violation = &violation},
        {.kind = VMM_EVENT_VIOLATION, .violation = &violation},
        {.kind = VMM_EVENT_STOPPING, .end = VMM_END_GUEST_CRASH},
        {.kind = VMM_EVENT_ENDED,
         .end = VMM_END_GUEST_CRASH,
         .exit_code = -1,
         .signal = 9,
         .detail = "the guest's kernel panicked",
         .console = (const uint8_t *)"bye",
         .console_bytes = 3},
        {.kind = VMM_EVENT_ENDED, .end = VMM_END_ASKED}, /* too late to change anything */
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct vmm_event step = steps[i];
        step.id = id;
        step.at_ms = UINT64_C(1700000000000) + i;
        lease_event(&service, &step);
    }
    assert_works(store_lease_get(fixture->store, id.text, &lease, &err), err);
    assert_int_equal(lease.state, LEASE_TERMINATED);
    assert_int_equal(lease.reason, LEASE_GUEST_CRASH);
    assert_string_equal(lease.image_digest, digest);
    assert_string_equal(lease.tunnel_state, "established");
    assert_int_equal(lease.started_ms, UINT64_C(1700000000005));
    assert_int_equal(lease.signal, 9);
    assert_int_equal(lease.pid, 200);
    assert_string_equal(lease.accelerator, "tcg");
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'filter.armed'"), 1);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM violations"), 1);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'violation.detected'"), 1);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'lease.terminated'"), 1);
    uint8_t console[8];
    assert_int_equal(store_console_get(fixture->store, id.text, console, sizeof console, &err), 3);
    lease_service_done(&service);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic_times_of_a_violation_become_wall_times),
        cmocka_unit_test(a_violation_from_the_future_or_with_too_much_evidence_does_no_harm),
        cmocka_unit_test(every_end_has_its_reason_and_who_began_it),
        cmocka_unit_test_setup_teardown(the_steps_of_a_machine_are_written_to_its_lease, store_fixture_setup,
                                        store_fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

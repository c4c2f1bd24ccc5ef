#include "api/lease/lease_event.h"

#include "api/lease/journal.h"

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
        {VMM_END_POLICY_VIOLATION, LEASE_POLICY_VIOLATION, "filter"},
        {VMM_END_TUNNEL_TIMEOUT, LEASE_TUNNEL_TIMEOUT, "provider"},
        {VMM_END_TUNNEL_LOST, LEASE_TUNNEL_LOST, "provider"},
        {VMM_END_HEARTBEAT_LOST, LEASE_HEARTBEAT_LOST, "provider"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const char *by = NULL;
        assert_int_equal(lease_event_reason(table[i].end, &by), table[i].reason);
        assert_string_equal(by, table[i].by);
    }
}

/* A lease and the service that takes in what its machine does. */
struct world {
    struct store_fixture *fixture;
    struct id id;
    struct lease_service service;
};

static void begin(struct world *world, struct store_fixture *fixture)
{
    const struct store_resources capacity = fixture_capacity(4);
    *world = (struct world){.fixture = fixture, .id = fixture_reserve(fixture, 1)};
    assert_int_equal(lease_service_init(&world->service, fixture->store, NULL, &capacity, NULL), 0);
}

static struct store_lease read_lease(const struct world *world)
{
    struct store_lease lease;
    struct error err = {0};
    assert_works(store_lease_get(world->fixture->store, world->id.text, &lease, &err), err);
    return lease;
}

/* Takes the steps as one machine's, through a journal as the daemon does. */
static void take(struct lease_service *service, const struct id *id, const struct vmm_event *steps, size_t count)
{
    struct journal *journal;
    struct error err = {0};
    assert_works(journal_start(service, &journal, &err), err);
    for (size_t i = 0; i < count; i++) {
        struct vmm_event step = steps[i];
        step.id = *id;
        step.at_ms = UINT64_C(1700000000000) + i;
        journal_event(journal, &step);
    }
    journal_stop(journal);
}

/* Every step of one machine, with its hypervisor spawned twice. */
static void the_steps_of_a_machine_are_written_to_its_lease(void **state)
{
    struct store_fixture *fixture = *state;
    struct world world;
    struct error err = {0};
    begin(&world, fixture);
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
    take(&world.service, &world.id, steps, sizeof steps / sizeof steps[0]);
    const struct store_lease lease = read_lease(&world);
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
    assert_int_equal(store_console_get(fixture->store, world.id.text, console, sizeof console, &err), 3);
    lease_service_done(&world.service);
}

static void a_violation_that_ends_the_machine_is_linked_to_the_end(void **state)
{
    struct store_fixture *fixture = *state;
    struct world world;
    struct store_violation row;
    struct error err = {0};
    begin(&world, fixture);
    const struct nat_violation other = {.serial = 1, .reason = NAT_REASON_VLAN, .count = 1, .ethertype = 0x8100};
    const struct nat_violation last = {.serial = 2,
                                       .reason = NAT_REASON_DESTINATION_NOT_ALLOWED,
                                       .mode = NAT_MODE_SAMPLED,
                                       .terminated = true,
                                       .sampling_ppm = 1000,
                                       .count = 1,
                                       .ethertype = 0x0800};
    const struct vmm_event steps[] = {
        {.kind = VMM_EVENT_VIOLATION, .violation = &other},
        {.kind = VMM_EVENT_VIOLATION, .violation = &last},
        {.kind = VMM_EVENT_STOPPING, .end = VMM_END_POLICY_VIOLATION},
        {.kind = VMM_EVENT_ENDED,
         .end = VMM_END_POLICY_VIOLATION,
         .violation = &last,
         .stop_latency_ms = 23,
         .exit_code = -1,
         .signal = 9},
    };
    take(&world.service, &world.id, steps, sizeof steps / sizeof steps[0]);
    const struct store_lease lease = read_lease(&world);
    assert_int_equal(lease.reason, LEASE_POLICY_VIOLATION);
    assert_string_equal(lease.initiated_by, "filter");
    assert_works(store_violation_get(fixture->store, lease.violation_id, &row, &err), err);
    assert_int_equal(row.serial, 2);
    assert_string_equal(row.verdict, "terminated");
    assert_string_equal(row.mode, "sampled");
    assert_int_equal(row.sampling_ppm, 1000);
    assert_int_equal(row.stop_latency_ms, 23);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM violations"), 2);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM violations WHERE stop_latency_ms > 0"), 1);
    lease_service_done(&world.service);
}

static void a_report_of_the_end_that_comes_alone_still_makes_the_violation(void **state)
{
    struct store_fixture *fixture = *state;
    struct world world;
    begin(&world, fixture);
    const struct nat_violation last = {
        .serial = 2, .reason = NAT_REASON_IPV6, .mode = NAT_MODE_CONNTRACK, .terminated = true, .count = 1};
    const struct vmm_event ended = {.kind = VMM_EVENT_ENDED, .end = VMM_END_POLICY_VIOLATION, .violation = &last};
    take(&world.service, &world.id, &ended, 1);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM violations v JOIN terminations t"
                                             " ON t.violation_id = v.id"),
                     1);
    lease_service_done(&world.service);
}

static void what_a_guest_reports_becomes_a_violation_of_its_own_kind(void **state)
{
    struct store_fixture *fixture = *state;
    struct world world;
    begin(&world, fixture);
    struct vmm_guest_report report = {.serial = VMM_GUEST_SERIAL_FIRST,
                                      .count = 1,
                                      .ip_protocol = 6,
                                      .destination = {.ip = UINT32_C(0x08080808), .port = 443}};
    struct vmm_guest_report grown = report;
    grown.count = 5;
    const struct vmm_guest_report nothing = {.serial = VMM_GUEST_SERIAL_FIRST + 1, .count = 1, .overflow = true};
    const struct vmm_event steps[] = {
        {.kind = VMM_EVENT_GUEST_REPORT, .guest_report = &report},
        {.kind = VMM_EVENT_GUEST_REPORT, .guest_report = &grown},
        {.kind = VMM_EVENT_GUEST_REPORT, .guest_report = &nothing},
    };
    take(&world.service, &world.id, steps, 3);
    assert_string_equal(fixture_text(fixture,
                                     "SELECT source || ' ' || code || ' ' || verdict || ' ' || mode || ' ' || serial"
                                     " || ' ' || count || ' ' || destination_ip || ':' || destination_port || ' ' ||"
                                     " ip_protocol || ' ' || length(evidence) FROM violations WHERE number = 1"),
                        "guest_firewall destination_not_allowed dropped filtered 100000 5 8.8.8.8:443 6 0");
    assert_int_equal(fixture_number(fixture, "SELECT last_seen_ms - first_seen_ms FROM violations WHERE number = 1"),
                     1);
    assert_int_equal(fixture_number(fixture, "SELECT overflow FROM violations WHERE number = 2"), 1);
    /* A report for a lease that is not there does no harm. */
    const struct id stranger = fixture_lease(9).id;
    take(&world.service, &stranger, steps, 1);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM violations"), 2);
    lease_service_done(&world.service);
}

static void a_lost_tunnel_and_an_exposed_window_are_written(void **state)
{
    struct store_fixture *fixture = *state;
    struct world world;
    begin(&world, fixture);
    const struct vmm_event steps[] = {
        {.kind = VMM_EVENT_EXPOSED, .exposed_ms = 30123},
        {.kind = VMM_EVENT_TUNNEL, .tunnel = NAT_TUNNEL_ESTABLISHED},
        {.kind = VMM_EVENT_TUNNEL, .tunnel = NAT_TUNNEL_LOST},
        {.kind = VMM_EVENT_ENDED, .end = VMM_END_TUNNEL_LOST, .exit_code = -1},
    };
    take(&world.service, &world.id, steps, sizeof steps / sizeof steps[0]);
    const struct store_lease lease = read_lease(&world);
    assert_int_equal(lease.exposed_ms, 30123);
    assert_string_equal(lease.tunnel_state, "lost");
    assert_int_equal(lease.reason, LEASE_TUNNEL_LOST);
    assert_string_equal(lease.violation_id, "");
    assert_string_equal(fixture_text(fixture, "SELECT group_concat(type, ' ') FROM events WHERE sequence > 1"),
                        "lease.exposed tunnel.established tunnel.lost lease.terminated");
    lease_service_done(&world.service);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic_times_of_a_violation_become_wall_times),
        cmocka_unit_test(a_violation_from_the_future_or_with_too_much_evidence_does_no_harm),
        cmocka_unit_test(every_end_has_its_reason_and_who_began_it),
#define STORED(test) cmocka_unit_test_setup_teardown(test, store_fixture_setup, store_fixture_teardown)
        STORED(a_violation_that_ends_the_machine_is_linked_to_the_end),
        STORED(a_report_of_the_end_that_comes_alone_still_makes_the_violation),
        STORED(what_a_guest_reports_becomes_a_violation_of_its_own_kind),
        STORED(a_lost_tunnel_and_an_exposed_window_are_written),
        cmocka_unit_test_setup_teardown(the_steps_of_a_machine_are_written_to_its_lease, store_fixture_setup,
                                        store_fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

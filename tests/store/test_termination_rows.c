#include "tests/store/store_fixture.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "store/internal.h"

static struct store_lease get(struct store_fixture *fixture, struct id id)
{
    struct store_lease lease;
    struct error err = {0};
    assert_works(store_lease_get(fixture->store, id.text, &lease, &err), err);
    return lease;
}

static void an_end_is_kept_whole_and_told(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = fixture_reserve(fixture, 1);
    struct store_end end = {.reason = LEASE_POLICY_VIOLATION,
                            .initiated_by = "filter",
                            .detail = "sent to 198.51.100.7:53",
                            .violation_id = "01890000-0000-7000-8000-000000000000",
                            .exit_code = 137,
                            .signal = 9,
                            .detected_ms = 1000,
                            .stopped_ms = 1060};
    assert_works(store_lease_terminate(fixture->store, id.text, &end, &err), err);
    struct store_lease lease = get(fixture, id);
    assert_int_equal(lease.state, LEASE_TERMINATED);
    assert_int_equal(lease.generation, 2);
    assert_int_equal(lease.reason, LEASE_POLICY_VIOLATION);
    assert_string_equal(lease.initiated_by, "filter");
    assert_string_equal(lease.termination_detail, end.detail);
    assert_string_equal(lease.state_detail, end.detail);
    assert_string_equal(lease.violation_id, end.violation_id);
    assert_int_equal(lease.exit_code, 137);
    assert_int_equal(lease.signal, 9);
    assert_int_equal(lease.detected_ms, 1000);
    assert_int_equal(lease.stopped_ms, 1060);
    assert_string_equal(fixture_text(fixture, "SELECT type || at_ms || data FROM events WHERE sequence = 2"),
                        "lease.terminated1060{\"reason\":\"policy_violation\",\"initiated_by\":\"filter\",\"detail\":"
                        "\"sent to 198.51.100.7:53\",\"violation_id\":\"01890000-0000-7000-8000-000000000000\","
                        "\"exit_code\":137,\"signal\":9}");
}

static void what_an_end_does_not_have_is_null_in_its_event(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_end end = fixture_end();
    struct id id = fixture_reserve(fixture, 1);
    end.detail = NULL;
    end.violation_id = "";
    assert_works(store_lease_terminate(fixture->store, id.text, &end, &err), err);
    assert_string_equal(fixture_text(fixture, "SELECT data FROM events WHERE sequence = 2"),
                        "{\"reason\":\"released\",\"initiated_by\":\"orchestrator\",\"detail\":\"\","
                        "\"violation_id\":null,\"exit_code\":null,\"signal\":null}");
    struct store_lease lease = get(fixture, id);
    assert_string_equal(lease.violation_id, "");
    assert_int_equal(lease.exit_code, -1);
    assert_int_equal(lease.signal, 0);
}

static void a_lease_may_end_from_every_living_state(void **state)
{
    struct store_fixture *fixture = *state;
    static const enum lease_state line[] = {LEASE_PREPARING, LEASE_STARTING, LEASE_RUNNING, LEASE_STOPPING};
    struct store_end end = fixture_end();
    for (unsigned steps = 0; steps <= 5; steps++) {
        struct error err = {0};
        struct id id = fixture_reserve(fixture, steps);
        struct store_change change = {.to = LEASE_RECOVERING};
        if (steps == 5)
            assert_works(store_lease_transition(fixture->store, id.text, &change, &err), err);
        for (unsigned i = 0; steps < 5 && i < steps; i++) {
            change.to = line[i];
            assert_works(store_lease_transition(fixture->store, id.text, &change, &err), err);
        }
        assert_works(store_lease_terminate(fixture->store, id.text, &end, &err), err);
        assert_int_equal(get(fixture, id).state, LEASE_TERMINATED);
    }
}

static void an_end_that_makes_no_sense_is_refused_and_leaves_the_lease_alive(void **state)
{
    struct store_fixture *fixture = *state;
    struct id id = fixture_reserve(fixture, 1);
    for (unsigned i = 0; i < 6; i++) {
        struct error err = {0};
        struct store_end end = fixture_end();
        end.console = (const uint8_t *)"x";
        end.console_bytes = 1;
        end.reason = i == 0 ? LEASE_REASON_NONE : i == 1 ? LEASE_REASON_COUNT : end.reason;
        end.initiated_by = i == 2 ? "nobody" : i == 3 ? NULL : end.initiated_by;
        end.violation_id = i == 4 ? "short" : NULL;
        end.exit_code = i == 5 ? -2 : -1;
        assert_int_equal(store_lease_terminate(fixture->store, id.text, &end, &err), -EINVAL);
        assert_int_equal(err.code, -EINVAL);
    }
    assert_int_equal(get(fixture, id).state, LEASE_PENDING);
    assert_int_equal(fixture_number(fixture, "SELECT (SELECT count(*) FROM terminations)"
                                             " + (SELECT count(*) FROM consoles)"),
                     0);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), 1);
}

static void a_detail_that_is_not_utf8_does_not_keep_a_lease_alive(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_end end = fixture_end();
    struct id id = fixture_reserve(fixture, 1);
    end.detail = "cut \xe2\x82 here \xff";
    assert_works(store_lease_terminate(fixture->store, id.text, &end, &err), err);
    assert_string_equal(get(fixture, id).termination_detail, "cut ?? here ?");
}

static void the_newest_bytes_of_a_console_are_kept(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    static uint8_t console[STORE_CONSOLE_BYTES + 10];
    static uint8_t kept[STORE_CONSOLE_BYTES + 10];
    for (size_t i = 0; i < sizeof console; i++)
        console[i] = (uint8_t)(i * 7 + i / 256);
    struct store_end end = fixture_end();
    end.console = console;
    end.console_bytes = sizeof console;
    struct id id = fixture_reserve(fixture, 1);
    assert_int_equal(store_console_get(fixture->store, id.text, kept, sizeof kept, &err), -ENOENT);
    assert_works(store_lease_terminate(fixture->store, id.text, &end, &err), err);
    assert_int_equal(store_console_get(fixture->store, id.text, kept, sizeof kept, &err), STORE_CONSOLE_BYTES);
    assert_memory_equal(kept, console + 10, STORE_CONSOLE_BYTES);
    assert_int_equal(store_console_get(fixture->store, id.text, kept, 5, &err), 5);
    assert_memory_equal(kept, console + sizeof console - 5, 5);
    assert_int_equal(store_console_get(fixture->store, id.text, kept, 0, &err), 0);
}

static void an_empty_console_is_there_and_no_console_is_not(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    uint8_t kept[4];
    struct store_end end = fixture_end();
    struct id with = fixture_reserve(fixture, 1);
    struct id without = fixture_reserve(fixture, 2);
    assert_works(store_lease_terminate(fixture->store, without.text, &end, &err), err);
    end.console = kept;
    assert_works(store_lease_terminate(fixture->store, with.text, &end, &err), err);
    assert_int_equal(store_console_get(fixture->store, with.text, kept, sizeof kept, &err), 0);
    assert_int_equal(store_console_get(fixture->store, without.text, kept, sizeof kept, &err), -ENOENT);
    assert_string_equal(err.slug, "console-not-found");
}

/* The promise holds against any statement, not only against ours. */
/* The columns of the first schema; those that came later have defaults. */
#define COPIED_COLUMNS                                                                                                 \
    "state_detail, image, image_digest, vcpus, memory_mib, disk_mib, mode, guest_mac, guest_ip, ssh_user, labels,"     \
    " accelerator, ttl_s, created_ms, started_ms, expires_ms, policy_desired, policy_observed, pid, pid_start_ticks,"  \
    " boot_id"
#define COPIED_PEER                                                                                                    \
    "public_key, endpoint, tunnel_ip, vm_public_key, vm_tunnel_ip, tunnel_state, established_ms, last_handshake_ms"
#define FIRST_COLUMNS "id, generation, state, " COPIED_COLUMNS

static void the_schema_itself_guards_what_is_final(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    static const char *const statements[] = {
        "UPDATE leases SET state = 'running', generation = generation + 1 WHERE state = 'terminated'",
        "UPDATE leases SET image = 'other', generation = generation + 1 WHERE state = 'terminated'",
        "UPDATE peers SET endpoint = '203.0.113.9:1' WHERE lease_id IN (SELECT lease_id FROM terminations)",
        "UPDATE terminations SET reason = 'released'",
        "UPDATE consoles SET tail = x'00'",
        "UPDATE events SET data = '{}'",
        "DELETE FROM terminations",
        "DELETE FROM leases WHERE state = 'pending'",
        "UPDATE leases SET state = 'terminated', generation = generation + 1 WHERE state = 'pending'",
        "UPDATE leases SET image = 'other' WHERE state = 'pending'",
        "INSERT INTO leases (" FIRST_COLUMNS ") SELECT substr(id, 1, 35) || 'f', 1, 'running', " COPIED_COLUMNS
        " FROM leases LIMIT 1",
    };
    struct store_end end = fixture_end();
    end.console = (const uint8_t *)"c";
    end.console_bytes = 1;
    struct id id = fixture_reserve(fixture, 1);
    fixture_reserve(fixture, 2);
    assert_works(store_lease_terminate(fixture->store, id.text, &end, &err), err);
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (fixture_sql(fixture, statements[i]) != SQLITE_CONSTRAINT_TRIGGER)
            fail_msg("was not refused: %s", statements[i]);
    }
}

/* Ends @count copies of the newest ended lease in one transaction of raw SQL. */
static void add_ended_leases(struct store_fixture *fixture, int count)
{
    char sql[2048];
    snprintf(sql, sizeof sql,
             "BEGIN;"
             "CREATE TEMP TABLE copies AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
             " SELECT printf('%%036d', i) AS id FROM n;"
             "INSERT INTO leases (" FIRST_COLUMNS ") SELECT copies.id, 1, 'pending', " COPIED_COLUMNS
             " FROM copies, leases WHERE number = 1;"
             "INSERT INTO peers (lease_id, " COPIED_PEER ") SELECT copies.id, " COPIED_PEER
             " FROM copies, peers WHERE number = 1;"
             "INSERT INTO terminations SELECT NULL, id, 'released', 'provider', '', NULL, -1, 0, 0, 0 FROM copies;"
             "UPDATE leases SET state = 'terminated', generation = 2 WHERE id IN (SELECT id FROM copies);"
             "COMMIT;",
             count);
    assert_int_equal(fixture_sql(fixture, sql), SQLITE_OK);
}

static void the_newest_ended_leases_are_kept_with_all_that_is_theirs(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_end end = fixture_end();
    end.console = (const uint8_t *)"c";
    end.console_bytes = 1;
    struct id old = fixture_reserve(fixture, 1);
    struct id living = fixture_reserve(fixture, 2);
    struct store_violation violation = fixture_violation(1, old);
    assert_works(store_violation_record(fixture->store, &violation, NULL, &err), err);
    assert_works(store_lease_terminate(fixture->store, old.text, &end, &err), err);
    add_ended_leases(fixture, STORE_ENDED_KEPT - 2);
    struct id last = fixture_reserve(fixture, 3);

    /* The 10,000th end keeps all; the lease that has lived longest is in no danger for its early id. */
    assert_works(store_lease_terminate(fixture->store, last.text, &end, &err), err);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM terminations"), STORE_ENDED_KEPT);
    assert_int_equal(get(fixture, old).state, LEASE_TERMINATED);

    struct store_lease lease;
    assert_works(store_lease_terminate(fixture->store, living.text, &end, &err), err);
    assert_int_equal(get(fixture, living).state, LEASE_TERMINATED);
    assert_int_equal(store_lease_get(fixture->store, old.text, &lease, &err), -ENOENT);
    assert_int_equal(store_violation_get(fixture->store, violation.id.text, &violation, &err), -ENOENT);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM terminations"), STORE_ENDED_KEPT);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM leases"), STORE_ENDED_KEPT);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM peers"), STORE_ENDED_KEPT);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM consoles"), 2);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(an_end_is_kept_whole_and_told),
        WITH_STORE(what_an_end_does_not_have_is_null_in_its_event),
        WITH_STORE(a_lease_may_end_from_every_living_state),
        WITH_STORE(an_end_that_makes_no_sense_is_refused_and_leaves_the_lease_alive),
        WITH_STORE(a_detail_that_is_not_utf8_does_not_keep_a_lease_alive),
        WITH_STORE(the_newest_bytes_of_a_console_are_kept),
        WITH_STORE(an_empty_console_is_there_and_no_console_is_not),
        WITH_STORE(the_schema_itself_guards_what_is_final),
        WITH_STORE(the_newest_ended_leases_are_kept_with_all_that_is_theirs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/store/store_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/internal.h"

#define FILE_OF(path, text)                                                                                            \
    {                                                                                                                  \
        path, (const unsigned char *)(text), sizeof(text) - 1                                                          \
    }

static const char first[] = "PRAGMA application_id = 1869443700; CREATE TABLE a (x INTEGER) STRICT;";
static const char second[] = "ALTER TABLE a ADD COLUMN y INTEGER; INSERT INTO a VALUES (1, 2);";
static const char broken[] = "CREATE TABLE b (x INTEGER) STRICT; INSERT INTO nowhere VALUES (1);";

static const struct embed_file one[] = {
    FILE_OF("openapi.yaml", "not sql"), FILE_OF("store/migrations/0001_first.sql", first), {NULL, NULL, 0}};
static const struct embed_file two[] = {FILE_OF("store/migrations/0001_first.sql", first),
                                        FILE_OF("store/migrations/0002_second.sql", second),
                                        FILE_OF("web/index.html", "not sql"),
                                        {NULL, NULL, 0}};
static const struct embed_file two_broken[] = {FILE_OF("store/migrations/0001_first.sql", first),
                                               FILE_OF("store/migrations/0002_broken.sql", broken),
                                               {NULL, NULL, 0}};

/* Puts an empty file in the place of the fixture's database and migrates it. */
static int migrate(struct store_fixture *fixture, const struct embed_file *files, struct error *err)
{
    struct store_connection connection = {0};
    assert_works(connection_open(&connection, fixture->path, false, err), *err);
    int result = store_migrate(&connection, files, err);
    assert_int_not_equal(sqlite3_get_autocommit(connection.db), 0); /* no transaction is left open */
    connection_close(&connection);
    return result;
}

static void make_blank(struct store_fixture *fixture)
{
    store_fixture_close(fixture);
    assert_int_equal(truncate(fixture->path, 0), 0);
}

static void a_blank_file_gets_every_migration_in_order(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    make_blank(fixture);
    assert_works(migrate(fixture, two, &err), err);
    assert_int_equal(fixture_number(fixture, "PRAGMA user_version"), 2);
    assert_int_equal(fixture_number(fixture, "SELECT y FROM a"), 2);
}

static void a_migration_is_applied_once(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    make_blank(fixture);
    assert_works(migrate(fixture, one, &err), err);
    assert_int_equal(fixture_number(fixture, "PRAGMA user_version"), 1);
    for (unsigned i = 0; i < 3; i++)
        assert_works(migrate(fixture, two, &err), err);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM a"), 1);
}

static void a_migration_that_fails_leaves_the_schema_before_it(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    make_blank(fixture);
    assert_int_equal(migrate(fixture, two_broken, &err), -EINVAL);
    assert_non_null(strstr(err.message, "migration 0002_broken.sql"));
    assert_non_null(strstr(err.message, "nowhere"));
    assert_int_equal(fixture_number(fixture, "PRAGMA user_version"), 1);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM sqlite_schema"), 1);
    assert_works(migrate(fixture, two, &err), err);
    assert_int_equal(fixture_number(fixture, "PRAGMA user_version"), 2);
}

static void an_older_program_refuses_a_newer_schema(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    make_blank(fixture);
    assert_works(migrate(fixture, two, &err), err);
    assert_int_equal(migrate(fixture, one, &err), -EPROTO);
    assert_non_null(strstr(err.message, "schema 2"));
    assert_non_null(strstr(err.message, "up to 1"));
}

static void the_migrations_of_this_program_are_numbered_without_a_gap(void **state)
{
    struct store_fixture *fixture = *state;
    int64_t count = 0;
    for (const struct embed_file *file = embed_files; file->path != NULL; file++) {
        if (strncmp(file->path, "store/migrations/", 17) != 0)
            continue;
        char expected[32];
        snprintf(expected, sizeof expected, "store/migrations/%04d_", (int)++count);
        assert_memory_equal(file->path, expected, strlen(expected));
    }
    assert_true(count >= 1);
    assert_int_equal(fixture_number(fixture, "PRAGMA user_version"), count);
    assert_int_equal(fixture_number(fixture, "PRAGMA application_id"), STORE_APPLICATION_ID);
}

/* A database as the first version of this program left it: one lease that lives, one that ended, with all that they had. */
static void make_first_version(struct store_fixture *fixture)
{
    static const char rows[] =
        "INSERT INTO leases (id, state, state_detail, image, image_digest, vcpus, memory_mib, disk_mib, mode, "
        "guest_mac,"
        " guest_ip, ssh_user, labels, accelerator, ttl_s, created_ms, started_ms, expires_ms, policy_desired,"
        " policy_observed, pid, pid_start_ticks, boot_id)"
        " SELECT '0000000' || n || '-0000-7000-8000-000000000000', 'pending', '', 'micro', '', 1, 128, 0, 'filtered', "
        "'',"
        " '192.168.64.2', 'work', '{}', '', 0, n, 0, 0, 1, 1, 0, 0, '' FROM (SELECT 1 AS n UNION SELECT 2);"
        "INSERT INTO peers SELECT number, id, hex(zeroblob(21)) || number || '=', '203.0.113.7:51900', '10.99.0.1', '',"
        " '10.99.0.2', 'established', 7, 9 FROM leases;"
        "INSERT INTO terminations SELECT 1, id, 'released', 'orchestrator', '', NULL, 0, 0, 5, 6 FROM leases"
        " WHERE number = 1;"
        "UPDATE leases SET state = 'terminated', generation = 2 WHERE number = 1;"
        "INSERT INTO violations SELECT number, id, id, 3, 10, 11, 4, 'fragment', 'filtered', 'dropped', 'filter', 0,"
        " 2048, 17, '', '', 0, '', 0, 60, 1, 5, x'0102' FROM leases;";
    const struct embed_file *file = embed_files;
    while (strcmp(file->path, "store/migrations/0001_first.sql") != 0)
        file++;
    const struct embed_file first_version[] = {*file, {NULL, NULL, 0}};
    struct error err = {0};
    make_blank(fixture);
    assert_works(migrate(fixture, first_version, &err), err);
    assert_int_equal(fixture_number(fixture, "PRAGMA user_version"), 1);
    assert_int_equal(fixture_sql(fixture, rows), SQLITE_OK);
}

static void leases_of_the_first_version_are_kept_and_read_as_what_they_were(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    make_first_version(fixture);
    store_fixture_open(fixture);
    for (unsigned n = 1; n <= 2; n++) {
        struct store_lease lease;
        char id[ID_TEXT_BYTES];
        snprintf(id, sizeof id, "%08u-0000-7000-8000-000000000000", n);
        assert_works(store_lease_get(fixture->store, id, &lease, &err), err);
        assert_int_equal(lease.state, n == 1 ? LEASE_TERMINATED : LEASE_PENDING);
        assert_int_equal(lease.reason, n == 1 ? LEASE_RELEASED : LEASE_REASON_NONE);
        assert_string_equal(lease.boot_isolation, "prebuilt");
        assert_string_equal(lease.on_violation, "drop");
        assert_int_equal(lease.sampling_ppm, 0);
        assert_false(lease.require_wireguard);
        assert_int_equal(lease.egress_bits_per_s, 0);
        assert_int_equal(lease.exposed_ms, 0);
        assert_string_equal(lease.tunnel_state, "established");
        assert_int_equal(lease.tunnel_established_ms, 7);
        struct store_violation violation;
        assert_works(store_violation_get(fixture->store, id, &violation, &err), err);
        assert_int_equal(violation.evidence_bytes, 2);
        assert_int_equal(violation.sampling_ppm, 0);
        assert_false(violation.evidence_purged);
    }
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

static void what_the_first_version_guarded_is_guarded_still(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    make_first_version(fixture);
    store_fixture_open(fixture);
    const char living[] = "00000002-0000-7000-8000-000000000000";
    assert_int_equal(fixture_sql(fixture, "UPDATE peers SET tunnel_state = 'lost' WHERE number = 1"),
                     SQLITE_CONSTRAINT_TRIGGER);
    assert_int_equal(fixture_sql(fixture, "UPDATE peers SET tunnel_state = 'gone' WHERE number = 2"),
                     SQLITE_CONSTRAINT_CHECK);
    assert_int_equal(fixture_sql(fixture, "UPDATE leases SET on_violation = 'drop' WHERE number = 1"),
                     SQLITE_CONSTRAINT_TRIGGER);
    assert_works(store_lease_tunnel(fixture->store, living, "lost", (struct store_ports){0}, 20, &err), err);
    assert_string_equal(fixture_text(fixture, "SELECT tunnel_state FROM peers WHERE number = 2"), "lost");
    assert_string_equal(fixture_text(fixture, "SELECT group_concat(name) FROM (SELECT name FROM sqlite_schema"
                                              " WHERE tbl_name = 'peers' AND name NOT LIKE 'sqlite_%' ORDER BY name)"),
                        "peer_ended_is_final,peers,peers_by_public_key");
    /* The peer goes with its lease. */
    assert_int_equal(fixture_sql(fixture, "DELETE FROM leases WHERE number = 1"), SQLITE_OK);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM peers"), 1);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_blank_file_gets_every_migration_in_order),
        WITH_STORE(a_migration_is_applied_once),
        WITH_STORE(a_migration_that_fails_leaves_the_schema_before_it),
        WITH_STORE(an_older_program_refuses_a_newer_schema),
        WITH_STORE(the_migrations_of_this_program_are_numbered_without_a_gap),
        WITH_STORE(leases_of_the_first_version_are_kept_and_read_as_what_they_were),
        WITH_STORE(what_the_first_version_guarded_is_guarded_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_blank_file_gets_every_migration_in_order),
        WITH_STORE(a_migration_is_applied_once),
        WITH_STORE(a_migration_that_fails_leaves_the_schema_before_it),
        WITH_STORE(an_older_program_refuses_a_newer_schema),
        WITH_STORE(the_migrations_of_this_program_are_numbered_without_a_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

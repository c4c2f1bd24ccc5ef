#include "tests/store/store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Opens the fixture's closed database and expects @code and @words in the message. */
static void expect_refusal(const struct store_fixture *fixture, int code, const char *words)
{
    struct error err = {0};
    struct store *store = (struct store *)&err;
    assert_int_equal(store_open(fixture->path, &store, &err), code);
    assert_ptr_equal(store, &err); /* untouched */
    assert_int_equal(err.code, code);
    if (strstr(err.message, words) == NULL || strstr(err.message, fixture->folder) == NULL)
        fail_msg("message: %s", err.message);
}

static void write_file(const char *path, const char *bytes, size_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), length);
    close(fd);
}

static void files_are_made_for_their_owner_only(void **state)
{
    struct store_fixture *fixture = *state;
    static const char *const endings[] = {"", "-wal", "-shm", ".lock"};
    fixture_reserve(fixture, 1);
    for (size_t i = 0; i < 4; i++) {
        char name[320];
        struct stat status;
        snprintf(name, sizeof name, "%s%s", fixture->path, endings[i]);
        assert_int_equal(stat(name, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0600);
    }
}

static void the_database_is_durable_and_strict(void **state)
{
    struct store_fixture *fixture = *state;
    assert_string_equal(fixture_text(fixture, "PRAGMA journal_mode"), "wal");
    assert_int_equal(fixture_number(fixture,
                                    "SELECT count(*) FROM pragma_table_list WHERE type = 'table' AND strict = 0"
                                    " AND name NOT LIKE 'sqlite_%'"),
                     0);
    assert_true(fixture_number(fixture, "SELECT count(*) FROM pragma_table_list WHERE strict = 1") >= 6);
}

static void what_was_written_is_there_after_reopening(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id first = fixture_reserve(fixture, 1);
    struct id second = fixture_reserve(fixture, 2);
    struct store_end end = fixture_end();
    end.console = (const uint8_t *)"login:";
    end.console_bytes = 6;
    struct store_violation violation = fixture_violation(7, second);
    assert_works(store_violation_record(fixture->store, &violation, NULL, &err), err);
    assert_works(store_lease_terminate(fixture->store, second.text, &end, &err), err);
    int64_t events = fixture_number(fixture, "SELECT count(*) FROM events");
    store_fixture_close(fixture);
    store_fixture_open(fixture);

    struct store_lease lease;
    assert_works(store_lease_get(fixture->store, first.text, &lease, &err), err);
    assert_int_equal(lease.state, LEASE_PENDING);
    assert_works(store_lease_get(fixture->store, second.text, &lease, &err), err);
    assert_int_equal(lease.state, LEASE_TERMINATED);
    assert_int_equal(lease.reason, LEASE_RELEASED);
    uint8_t console[16];
    assert_int_equal(store_console_get(fixture->store, second.text, console, sizeof console, &err), 6);
    assert_works(store_violation_get(fixture->store, violation.id.text, &violation, &err), err);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), events);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM peers"), 2);
}

static void a_second_open_is_refused_and_names_the_holder(void **state)
{
    struct store_fixture *fixture = *state;
    char holder[32];
    snprintf(holder, sizeof holder, "(pid %ld)", (long)getpid());
    expect_refusal(fixture, -EBUSY, holder);
    expect_refusal(fixture, -EBUSY, "omertad.db.lock");
    fixture_reserve(fixture, 1); /* the first one goes on */
}

static void another_process_is_refused_too(void **state)
{
    struct store_fixture *fixture = *state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        /* The child shares the open lock of its parent, so it opens the lock file anew, as any process would. */
        struct store *store = NULL;
        _exit(store_open(fixture->path, &store, NULL) == -EBUSY ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void the_lock_ends_with_the_store(void **state)
{
    struct store_fixture *fixture = *state;
    for (unsigned i = 0; i < 3; i++) {
        store_fixture_close(fixture);
        store_fixture_open(fixture);
    }
}

static void a_newer_schema_is_refused_and_left_alone(void **state)
{
    struct store_fixture *fixture = *state;
    store_fixture_close(fixture);
    assert_int_equal(fixture_sql(fixture, "PRAGMA user_version = 9999"), 0);
    expect_refusal(fixture, -EPROTO, "schema 9999 was made by a newer omertad");
    assert_int_equal(fixture_number(fixture, "PRAGMA user_version"), 9999);
}

static void a_database_of_another_program_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    store_fixture_close(fixture);
    assert_int_equal(unlink(fixture->path), 0);
    write_file(fixture->path, "", 0);
    assert_int_equal(fixture_sql(fixture, "CREATE TABLE photos (a)"), 0);
    expect_refusal(fixture, -EPROTO, "another program");
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM sqlite_schema"), 1);
}

static void an_empty_file_is_a_database_to_be(void **state)
{
    struct store_fixture *fixture = *state;
    store_fixture_close(fixture);
    write_file(fixture->path, "", 0);
    store_fixture_open(fixture);
    fixture_reserve(fixture, 1);
}

static void garbage_is_refused_as_damaged(void **state)
{
    struct store_fixture *fixture = *state;
    store_fixture_close(fixture);
    static char garbage[8192];
    memset(garbage, 'x', sizeof garbage);
    write_file(fixture->path, garbage, sizeof garbage);
    expect_refusal(fixture, -EUCLEAN, "not a database");
}

static void a_truncated_file_is_refused_as_damaged(void **state)
{
    struct store_fixture *fixture = *state;
    for (unsigned n = 0; n < 60; n++)
        fixture_reserve(fixture, n);
    store_fixture_close(fixture);
    struct stat status;
    assert_int_equal(stat(fixture->path, &status), 0);
    assert_int_equal(truncate(fixture->path, status.st_size / 2 / 4096 * 4096), 0);
    expect_refusal(fixture, -EUCLEAN, "malformed");
}

static void a_page_of_noise_is_refused_as_damaged(void **state)
{
    struct store_fixture *fixture = *state;
    for (unsigned n = 0; n < 60; n++)
        fixture_reserve(fixture, n);
    store_fixture_close(fixture);
    int64_t page = fixture_number(fixture, "SELECT rootpage FROM sqlite_schema WHERE name = 'leases'");
    static char noise[4096];
    memset(noise, 0xa5, sizeof noise);
    int fd = open(fixture->path, O_WRONLY);
    assert_int_equal(pwrite(fd, noise, sizeof noise, (page - 1) * 4096), sizeof noise);
    close(fd);
    expect_refusal(fixture, -EUCLEAN, "omertad.db");
}

static void a_file_that_others_may_read_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    store_fixture_close(fixture);
    static const mode_t modes[] = {0640, 0620, 0604, 0602, 0601, 0666};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        assert_int_equal(chmod(fixture->path, modes[i]), 0);
        expect_refusal(fixture, -EACCES, "open to others");
    }
    assert_int_equal(chmod(fixture->path, 0600), 0);
    store_fixture_open(fixture);
}

static void a_folder_that_others_may_write_to_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    store_fixture_close(fixture);
    assert_int_equal(chmod(fixture->folder, 0720), 0);
    expect_refusal(fixture, -EACCES, "others may write");
    assert_int_equal(chmod(fixture->folder, 01777), 0);
    expect_refusal(fixture, -EACCES, "others may write");
    assert_int_equal(chmod(fixture->folder, 0700), 0);
    store_fixture_open(fixture);
}

static void links_and_pipes_in_the_place_of_the_file_are_refused(void **state)
{
    struct store_fixture *fixture = *state;
    char other[320];
    store_fixture_close(fixture);
    snprintf(other, sizeof other, "%s/other", fixture->folder);
    assert_int_equal(rename(fixture->path, other), 0);
    assert_int_equal(symlink(other, fixture->path), 0);
    expect_refusal(fixture, -ELOOP, "cannot open");
    assert_int_equal(unlink(fixture->path), 0);
    assert_int_equal(link(other, fixture->path), 0);
    expect_refusal(fixture, -EACCES, "not a plain file");
    assert_int_equal(unlink(fixture->path), 0);
    assert_int_equal(mkfifo(fixture->path, 0600), 0);
    expect_refusal(fixture, -EACCES, "not a plain file");
}

static void a_file_of_another_user_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    store_fixture_close(fixture);
    if (chown(fixture->path, 65534, (gid_t)-1) < 0)
        skip(); /* only root can give a file away */
    expect_refusal(fixture, -EACCES, "belongs to user 65534");
}

static void a_folder_that_is_not_there_is_told(void **state)
{
    struct store_fixture *fixture = *state;
    store_fixture_close(fixture);
    snprintf(fixture->path, sizeof fixture->path, "%s/none/omertad.db", fixture->folder);
    expect_refusal(fixture, -ENOENT, "cannot use the folder");
}

static void a_path_without_a_folder_is_in_the_one_we_are_in(void **state)
{
    struct store_fixture *fixture = *state;
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    store_fixture_close(fixture);
    assert_int_equal(chdir(fixture->folder), 0);
    struct store *store = NULL;
    struct error err = {0};
    int result = store_open("omertad.db", &store, &err);
    store_close(store);
    int refused = chmod(".", 0777) == 0 ? store_open("omertad.db", &store, &err) : 0;
    assert_int_equal(chmod(".", 0700), 0);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(result, 0);
    assert_int_equal(refused, -EACCES);
}

static void a_path_that_is_too_long_is_refused(void **state)
{
    (void)state;
    static char path[8192];
    struct store *store = NULL;
    struct error err = {0};
    memset(path, 'x', sizeof path - 1);
    path[0] = '/';
    assert_int_equal(store_open(path, &store, &err), -ENAMETOOLONG);
    path[6000] = '/';
    assert_int_equal(store_open(path, &store, &err), -ENAMETOOLONG);
    assert_null(store);
}

/* Root may write anywhere, so the attempt is made by a child that is not root. */
static void a_read_only_folder_is_told(void **state)
{
    struct store_fixture *fixture = *state;
    store_fixture_close(fixture);
    char name[320];
    snprintf(name, sizeof name, "%s/closed", fixture->folder);
    assert_int_equal(mkdir(name, 0500), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(name, 65534, 65534), 0);
        assert_int_equal(chmod(fixture->folder, 0711), 0);
    }
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct error err = {0};
        struct store *store = NULL;
        if (geteuid() == 0 && setuid(65534) < 0)
            _exit(2);
        strncat(name, "/omertad.db", sizeof name - strlen(name) - 1);
        int result = store_open(name, &store, &err);
        _exit(result == -EACCES && strstr(err.message, "/closed") != NULL ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void closing_nothing_is_allowed(void **state)
{
    (void)state;
    store_close(NULL);
}

static void a_check_writes_and_leaves_nothing(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    for (unsigned i = 0; i < 5; i++)
        assert_works(store_check(fixture->store, &err), err);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), 0);
    fixture_reserve(fixture, 1);
    assert_int_equal(fixture_number(fixture, "SELECT max(sequence) FROM events"), 1);
}

static void a_check_tells_that_the_file_is_gone(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    assert_int_equal(unlink(fixture->path), 0);
    assert_int_equal(store_check(fixture->store, &err), -EIO);
    assert_non_null(strstr(err.message, "removed"));
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(files_are_made_for_their_owner_only),
        WITH_STORE(the_database_is_durable_and_strict),
        WITH_STORE(what_was_written_is_there_after_reopening),
        WITH_STORE(a_second_open_is_refused_and_names_the_holder),
        WITH_STORE(another_process_is_refused_too),
        WITH_STORE(the_lock_ends_with_the_store),
        WITH_STORE(a_newer_schema_is_refused_and_left_alone),
        WITH_STORE(a_database_of_another_program_is_refused),
        WITH_STORE(an_empty_file_is_a_database_to_be),
        WITH_STORE(garbage_is_refused_as_damaged),
        WITH_STORE(a_truncated_file_is_refused_as_damaged),
        WITH_STORE(a_page_of_noise_is_refused_as_damaged),
        WITH_STORE(a_file_that_others_may_read_is_refused),
        WITH_STORE(a_folder_that_others_may_write_to_is_refused),
        WITH_STORE(links_and_pipes_in_the_place_of_the_file_are_refused),
        WITH_STORE(a_file_of_another_user_is_refused),
        WITH_STORE(a_folder_that_is_not_there_is_told),
        WITH_STORE(a_path_without_a_folder_is_in_the_one_we_are_in),
        cmocka_unit_test(a_path_that_is_too_long_is_refused),
        WITH_STORE(a_read_only_folder_is_told),
        cmocka_unit_test(closing_nothing_is_allowed),
        WITH_STORE(a_check_writes_and_leaves_nothing),
        WITH_STORE(a_check_tells_that_the_file_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

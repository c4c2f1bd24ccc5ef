/* What happens to the store when memory or disk gets in the way. */
#include "tests/store/store_fixture.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "store/internal.h"

/* ---- seams: SQLite's allocator and its file system, which fail when they are told to ---- */

enum { NEVER = -1 };

static atomic_int allocations_left = NEVER; /* the one after so many fails, once */
static atomic_int writes_left = NEVER;      /* the write or sync after so many fails, and all after it */
static atomic_int write_code;
static sqlite3_mem_methods real_memory;
static sqlite3_vfs shim;
static sqlite3_vfs *real_vfs;

/* The methods of the database [0] and of its write-ahead log [1], which needs no locks and has others. */
static const sqlite3_io_methods *real_methods[2];
static sqlite3_io_methods shim_methods[2];

static bool allocation_fails(void)
{
    return atomic_load(&allocations_left) >= 0 && atomic_fetch_sub(&allocations_left, 1) == 0;
}

static void *shim_malloc(int size)
{
    return allocation_fails() ? NULL : real_memory.xMalloc(size);
}

static void *shim_realloc(void *pointer, int size)
{
    return allocation_fails() ? NULL : real_memory.xRealloc(pointer, size);
}

static bool write_fails(void)
{
    int left = atomic_load(&writes_left);
    if (left > 0)
        atomic_store(&writes_left, left - 1);
    return left == 0;
}

static const sqlite3_io_methods *real_of(const sqlite3_file *file)
{
    return real_methods[file->pMethods == &shim_methods[1]];
}

static int shim_write(sqlite3_file *file, const void *bytes, int length, sqlite3_int64 at)
{
    return write_fails() ? atomic_load(&write_code) : real_of(file)->xWrite(file, bytes, length, at);
}

static int shim_sync(sqlite3_file *file, int flags)
{
    return write_fails() ? SQLITE_IOERR_FSYNC : real_of(file)->xSync(file, flags);
}

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
    (void)vfs;
    int code = real_vfs->xOpen(real_vfs, name, file, flags, ret_flags);
    if (code != SQLITE_OK || (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) == 0)
        return code;
    size_t kind = (flags & SQLITE_OPEN_WAL) != 0;
    if (real_methods[kind] == NULL) {
        real_methods[kind] = file->pMethods;
        shim_methods[kind] = *file->pMethods;
        shim_methods[kind].xWrite = shim_write;
        shim_methods[kind].xSync = shim_sync;
    }
    assert_ptr_equal(real_methods[kind], file->pMethods);
    file->pMethods = &shim_methods[kind];
    return code;
}

static int install_seams(void **state)
{
    (void)state;
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory);
    sqlite3_mem_methods memory = real_memory;
    memory.xMalloc = shim_malloc;
    memory.xRealloc = shim_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &memory) != SQLITE_OK || sqlite3_initialize() != SQLITE_OK)
        return -1;
    real_vfs = sqlite3_vfs_find(NULL);
    shim = *real_vfs;
    shim.zName = "shim";
    shim.xOpen = shim_open;
    return sqlite3_vfs_register(&shim, 1);
}

static int calm(void **state)
{
    atomic_store(&allocations_left, NEVER);
    atomic_store(&writes_left, NEVER);
    return store_fixture_teardown(state);
}

/* ---- tests ---- */

static void any_allocation_may_fail_and_nothing_is_half_done(void **state)
{
    struct store_fixture *fixture = *state;
    unsigned failed = 0;
    int64_t made = 0;
    for (int n = 0;; n++) {
        struct error err = {0};
        if (n % 2 == 0) { /* with nothing prepared, all of the way is walked */
            store_fixture_close(fixture);
            store_fixture_open(fixture);
        }
        atomic_store(&allocations_left, n);
        int result = fixture_try_reserve(fixture, (unsigned)n, &err);
        bool unused = atomic_exchange(&allocations_left, NEVER) >= 0;
        made += result == 0;
        if (result != 0) {
            assert_int_equal(result, -ENOMEM);
            assert_int_equal(err.code, -ENOMEM);
            failed++;
        }
        if (unused)
            break;
        assert_works(fixture_try_reserve(fixture, 100000 + (unsigned)n, &err), err); /* it goes on at once */
        made++;
    }
    fixture_expect_whole(fixture, made);
    assert_true(failed > 10);
}

/* One of each change of a lease. Return: the result of the first that fails. */
static int change_all(struct store_fixture *fixture, struct id id, unsigned n, struct error *err)
{
    struct store_violation violation = fixture_violation(n, id);
    struct store_change change = {.to = LEASE_PREPARING, .at_ms = 1, .detail = "d"};
    struct store_end end = fixture_end();
    end.console = (const uint8_t *)"c";
    end.console_bytes = 1;
    int result = store_violation_record(fixture->store, &violation, NULL, err);
    if (result == 0)
        result = store_lease_transition(fixture->store, id.text, &change, err);
    if (result == 0)
        result = store_lease_policy(fixture->store, id.text, 1, 1, err);
    if (result == 0)
        result = store_lease_tunnel(fixture->store, id.text, "established", (struct store_ports){0}, 1, err);
    return result == 0 ? store_lease_terminate(fixture->store, id.text, &end, err) : result;
}

static void any_allocation_may_fail_in_any_change_of_a_lease(void **state)
{
    struct store_fixture *fixture = *state;
    unsigned failed = 0;
    bool unused = false;
    for (int n = 0; !unused; n++) {
        struct error err = {0};
        struct id id = fixture_reserve(fixture, (unsigned)n);
        if (n % 2 == 0) {
            store_fixture_close(fixture);
            store_fixture_open(fixture);
        }
        atomic_store(&allocations_left, n);
        int result = change_all(fixture, id, (unsigned)n, &err);
        unused = atomic_exchange(&allocations_left, NEVER) >= 0;
        struct store_lease lease;
        assert_works(store_lease_get(fixture->store, id.text, &lease, NULL), err);
        assert_int_equal(lease.state == LEASE_TERMINATED, result == 0);
        if (result != 0) {
            if (result != -ENOMEM || err.code != -ENOMEM)
                fail_msg("%d: %d %s", n, result, err.message);
            failed++;
        }
    }
    assert_true(failed > 10);
    /* Each row has its event. */
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type <> 'lease.created'"),
                     fixture_number(fixture, "SELECT (SELECT count(*) FROM violations)"
                                             " + (SELECT count(*) FROM terminations)"
                                             " + (SELECT count(*) FROM peers WHERE established_ms <> 0)"
                                             " + (SELECT count(*) FROM events WHERE type = 'lease.state_changed')"
                                             " + (SELECT count(*) FROM events WHERE type = 'filter.armed')"));
}

static void opening_without_memory_fails_cleanly(void **state)
{
    struct store_fixture *fixture = *state;
    unsigned failed = 0;
    fixture_reserve(fixture, 1);
    store_fixture_close(fixture);
    for (int n = 0; fixture->store == NULL; n += 1 + n / 16) {
        struct error err = {0};
        atomic_store(&allocations_left, n);
        int result = store_open(fixture->path, &fixture->store, &err);
        bool unused = atomic_exchange(&allocations_left, NEVER) >= 0;
        assert_true(result == 0 || (err.code == result && err.message[0] != '\0'));
        failed += result != 0;
        if (result == 0 && !unused)
            store_fixture_close(fixture); /* an allocation that SQLite can do without */
    }
    assert_true(failed > 10);
    fixture_expect_whole(fixture, 1);
}

static void fail_writes(struct store_fixture *fixture, int code, int expected)
{
    int64_t made = 0;
    unsigned failed = 0;
    for (int n = 0;; n++) {
        struct error err = {0};
        atomic_store(&write_code, code);
        atomic_store(&writes_left, n);
        int result = fixture_try_reserve(fixture, (unsigned)n, &err);
        bool unused = atomic_exchange(&writes_left, NEVER) > 0;
        made += result == 0;
        failed += result != 0;
        if (result != 0 && result != -EIO)
            assert_int_equal(result, expected);
        fixture_expect_whole(fixture, made);
        if (unused)
            break;
        assert_works(fixture_try_reserve(fixture, 100000 + (unsigned)n, &err), err);
        made++;
    }
    assert_true(failed >= 3);
    store_fixture_close(fixture);
    store_fixture_open(fixture);
    fixture_expect_whole(fixture, made);
}

static void a_disk_that_fills_up_at_any_write_is_told_and_nothing_is_half_done(void **state)
{
    fail_writes(*state, SQLITE_FULL, -ENOSPC);
}

static void a_disk_that_breaks_at_any_write_is_told_and_nothing_is_half_done(void **state)
{
    fail_writes(*state, SQLITE_IOERR_WRITE, -EIO);
}

static void a_full_database_refuses_new_leases_but_can_be_read(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_lease lease;
    int result = 0;
    int64_t made = 0;
    char limit[64];
    snprintf(limit, sizeof limit, "PRAGMA max_page_count = %lld",
             (long long)fixture_number(fixture, "PRAGMA page_count") + 4);
    assert_int_equal(sqlite3_exec(fixture->store->writer.db, limit, NULL, NULL, NULL), SQLITE_OK);
    while (made < 1000 && (result = fixture_try_reserve(fixture, (unsigned)made, &err)) == 0)
        made++;
    assert_int_equal(result, -ENOSPC);
    assert_null(err.slug); /* not to be taken for a lack of capacity */
    assert_true(made > 0);
    assert_works(store_lease_get(fixture->store, fixture_lease(0).id.text, &lease, &err), err);
    fixture_expect_whole(fixture, made);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, calm)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(any_allocation_may_fail_and_nothing_is_half_done),
        WITH_STORE(any_allocation_may_fail_in_any_change_of_a_lease),
        WITH_STORE(opening_without_memory_fails_cleanly),
        WITH_STORE(a_disk_that_fills_up_at_any_write_is_told_and_nothing_is_half_done),
        WITH_STORE(a_disk_that_breaks_at_any_write_is_told_and_nothing_is_half_done),
        WITH_STORE(a_full_database_refuses_new_leases_but_can_be_read),
    };
    return cmocka_run_group_tests(tests, install_seams, NULL);
}

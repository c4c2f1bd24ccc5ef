/* Group commit: who waits for the writer shares one commit, and nobody hears of what is not on the disk. */
#include "tests/store/store_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "store/internal.h"

enum { WRITERS = 5 };

/* struct writer - A thread that reserves one lease while others do. */
struct writer {
    struct store_fixture *fixture;
    struct store_lease lease;
    pthread_t thread;
    struct error err;
    int result;
};

static void *reserve(void *context)
{
    struct writer *writer = context;
    const struct store_resources capacity = fixture_capacity(100);
    writer->result = store_lease_reserve(writer->fixture->store, &writer->lease, &capacity, &writer->err);
    return NULL;
}

/* Lets writers begin while this thread holds the writer, and returns once all of them wait for it. */
static void gather(struct store_fixture *fixture, struct writer writers[static WRITERS])
{
    struct error err = {0};
    assert_works(store_begin(fixture->store, &err), err);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].fixture = fixture;
        if (writers[i].lease.id.text[0] == '\0')
            writers[i].lease = fixture_lease(i);
        assert_int_equal(pthread_create(&writers[i].thread, NULL, reserve, &writers[i]), 0);
    }
    while (atomic_load(&fixture->store->wanted) < WRITERS)
        sched_yield();
}

static void join(struct writer writers[static WRITERS])
{
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
}

static uint64_t commits(struct store_fixture *fixture)
{
    struct histogram_view view;
    store_commit_times(fixture->store, &view);
    return view.total;
}

static int write_event(struct store *store, struct error *err)
{
    return lease_tell(store, "INSERT INTO events (at_ms, type, lease_id, data) SELECT ?2, 'node.started', NULL, ?1",
                      "{}", 1, err);
}

static void count(void *context)
{
    ++*(unsigned *)context;
}

static void who_waits_for_the_writer_shares_a_commit(void **state)
{
    struct store_fixture *fixture = *state;
    struct writer writers[WRITERS] = {0};
    struct error err = {0};
    unsigned told = 0;
    store_on_event(fixture->store, count, &told);
    uint64_t before = commits(fixture);
    gather(fixture, writers);
    assert_works(store_finish(fixture->store, 0, &err), err);
    join(writers);
    for (unsigned i = 0; i < WRITERS; i++)
        assert_works(writers[i].result, writers[i].err);
    assert_int_equal(commits(fixture), before + 1);
    assert_int_equal(told, 1);
    store_on_event(fixture->store, NULL, NULL);
    fixture_expect_whole(fixture, WRITERS);
}

static void what_one_undoes_takes_nothing_from_the_others(void **state)
{
    struct store_fixture *fixture = *state;
    struct writer writers[WRITERS] = {0};
    struct error err = {0};
    writers[1].lease = fixture_lease(0); /* the peer of another one: whichever comes second is refused */
    writers[1].lease.id = fixture_lease(90).id;
    gather(fixture, writers);
    assert_works(store_finish(fixture->store, 0, &err), err);
    join(writers);
    unsigned refused = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        refused += writers[i].result != 0;
        if (writers[i].result != 0) {
            assert_in_range(i, 0, 1);
            assert_int_equal(writers[i].result, -EEXIST);
            assert_string_equal(writers[i].err.slug, "peer-in-use");
        }
    }
    assert_int_equal(refused, 1);
    fixture_expect_whole(fixture, WRITERS - 1);
}

static void who_is_first_and_fails_keeps_nobody_from_writing(void **state)
{
    struct store_fixture *fixture = *state;
    struct writer writers[WRITERS] = {0};
    struct error err = {0};
    gather(fixture, writers);
    assert_int_equal(write_event(fixture->store, &err), 0);
    assert_int_equal(store_finish(fixture->store, -ECANCELED, &err), -ECANCELED);
    join(writers);
    for (unsigned i = 0; i < WRITERS; i++)
        assert_works(writers[i].result, writers[i].err);
    fixture_expect_whole(fixture, WRITERS);
}

static int refuse_commit(void *context)
{
    (void)context;
    return 1;
}

static void a_failed_commit_is_told_to_all(void **state)
{
    struct store_fixture *fixture = *state;
    struct writer writers[WRITERS] = {0};
    struct error err = {0};
    writers[1].lease = fixture_lease(0);
    writers[1].lease.id = fixture_lease(90).id;
    gather(fixture, writers);
    sqlite3_commit_hook(fixture->store->writer.db, refuse_commit, NULL);
    int result = store_finish(fixture->store, write_event(fixture->store, &err), &err);
    join(writers);
    sqlite3_commit_hook(fixture->store->writer.db, NULL, NULL);
    assert_true(result < 0);
    for (unsigned i = 0; i < WRITERS; i++) { /* the one too that was refused for what now never was */
        assert_int_equal(writers[i].result, result);
        assert_int_equal(writers[i].err.code, err.code);
        assert_string_equal(writers[i].err.message, err.message);
    }
    fixture_expect_whole(fixture, 0);
    fixture_reserve(fixture, 1);
    fixture_expect_whole(fixture, 1);
}

static void what_was_undone_is_not_taken_for_written(void **state)
{
    struct store_fixture *fixture = *state;
    struct writer writers[WRITERS] = {0};
    struct error err = {0};
    gather(fixture, writers);
    assert_int_equal(write_event(fixture->store, &err), 0);
    assert_works(connection_run(&fixture->store->writer, "ROLLBACK", &err), err); /* as a full disk does */
    assert_int_equal(store_finish(fixture->store, 0, &err), -EIO);
    join(writers);
    for (unsigned i = 0; i < WRITERS; i++)
        assert_works(writers[i].result, writers[i].err);
    fixture_expect_whole(fixture, WRITERS);
}

/* RAISE(ROLLBACK) is what a full disk does as well: SQLite undoes the whole transaction in the middle of one's part. */
static void what_sqlite_undoes_with_others_work_is_told_to_them(void **state)
{
    struct store_fixture *fixture = *state;
    struct writer writers[WRITERS] = {0};
    struct error err = {0};
    const char trigger[] = "CREATE TEMP TRIGGER undo BEFORE INSERT ON main.leases"
                           " WHEN (SELECT count(*) FROM main.leases) = 2"
                           " BEGIN SELECT RAISE(ROLLBACK, 'undone'); END";
    assert_works(connection_run(&fixture->store->writer, trigger, &err), err);
    gather(fixture, writers);
    int mine = store_finish(fixture->store, write_event(fixture->store, &err), &err);
    join(writers);
    /* Three parts stood in the first transaction when it was undone; after that two more leases have room. */
    unsigned written = 0;
    assert_true(mine < 0);
    for (unsigned i = 0; i < WRITERS; i++)
        written += writers[i].result == 0;
    assert_int_equal(written, WRITERS - 3);
    assert_works(connection_run(&fixture->store->writer, "DROP TRIGGER undo", &err), err);
    fixture_expect_whole(fixture, written);
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, store_fixture_setup, store_fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_STORE(who_waits_for_the_writer_shares_a_commit),
        WITH_STORE(what_one_undoes_takes_nothing_from_the_others),
        WITH_STORE(who_is_first_and_fails_keeps_nobody_from_writing),
        WITH_STORE(a_failed_commit_is_told_to_all),
        WITH_STORE(what_was_undone_is_not_taken_for_written),
        WITH_STORE(what_sqlite_undoes_with_others_work_is_told_to_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

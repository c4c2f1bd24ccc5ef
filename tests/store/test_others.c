/* The store and others: threads of the daemon, another program with the database open, a daemon that is killed. */
#include "tests/store/store_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* ---- another program ---- */

static void another_writer_makes_it_busy_and_not_stuck(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_resources used;
    sqlite3 *other = NULL;
    assert_int_equal(sqlite3_open(fixture->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(fixture_try_reserve(fixture, 1, &err), -EBUSY);
    assert_int_equal(store_check(fixture->store, &err), -EBUSY);
    assert_works(store_capacity_used(fixture->store, &used, &err), err); /* readers do not wait for writers */
    assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_works(fixture_try_reserve(fixture, 1, &err), err);
    assert_works(store_check(fixture->store, &err), err);
    sqlite3_close(other);
}

struct visit {
    sqlite3 *other;
    uint64_t began_ms;
    uint64_t took_ms;
    int result;
};

static void *commit_soon(void *argument)
{
    struct visit *visit = argument;
    struct timespec pause = {.tv_nsec = 50000000};
    nanosleep(&pause, NULL);
    visit->result = sqlite3_exec(visit->other, "COMMIT", NULL, NULL, NULL);
    visit->took_ms = clock_monotonic_ms() - visit->began_ms;
    return NULL;
}

static void a_short_visit_of_another_writer_is_waited_for(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct visit visit = {0};
    int result;
    assert_int_equal(sqlite3_open(fixture->path, &visit.other), SQLITE_OK);
    do {
        pthread_t thread;
        visit.began_ms = clock_monotonic_ms();
        assert_int_equal(
            sqlite3_exec(visit.other, "BEGIN IMMEDIATE; DELETE FROM events; PRAGMA user_version = 1", NULL, NULL, NULL),
            SQLITE_OK);
        assert_int_equal(pthread_create(&thread, NULL, commit_soon, &visit), 0);
        result = fixture_try_reserve(fixture, 1, &err);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(visit.result, SQLITE_OK);
    } while (result == -EBUSY && visit.took_ms > 200); /* on a busy machine it was no short one */
    assert_works(result, err);
    sqlite3_close(visit.other);
}

/* ---- threads ---- */

enum { THREADS = 8, ROUNDS = 6 };

struct racer {
    struct store_fixture *fixture;
    pthread_barrier_t *start;
    const char *slug;
    struct store_resources capacity;
    unsigned n;
    int result;
};

static void *race(void *argument)
{
    struct racer *racer = argument;
    struct store_lease lease = fixture_lease(racer->n);
    struct error err = {0};
    pthread_barrier_wait(racer->start);
    racer->result = store_lease_reserve(racer->fixture->store, &lease, &racer->capacity, &err);
    racer->slug = err.slug;
    return NULL;
}

static void exactly_one_of_many_threads_gets_the_last_place(void **state)
{
    struct store_fixture *fixture = *state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        pthread_barrier_t start;
        pthread_t threads[THREADS];
        struct racer racers[THREADS];
        unsigned won = 0;
        assert_int_equal(pthread_barrier_init(&start, NULL, THREADS), 0);
        for (unsigned i = 0; i < THREADS; i++) {
            racers[i] = (struct racer){
                .fixture = fixture, .start = &start, .n = round * THREADS + i, .capacity = fixture_capacity(round + 1)};
            assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
        }
        for (unsigned i = 0; i < THREADS; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        pthread_barrier_destroy(&start);
        for (unsigned i = 0; i < THREADS; i++) {
            won += racers[i].result == 0;
            if (racers[i].result != 0) {
                assert_int_equal(racers[i].result, -ENOSPC);
                assert_string_equal(racers[i].slug, "insufficient-capacity");
            }
        }
        assert_int_equal(won, 1);
        fixture_expect_whole(fixture, round + 1);
    }
}

static int count_lease(void *context, const struct store_lease *lease)
{
    *(unsigned *)context += lease->tunnel_state[0] != '\0';
    return 0;
}

static int count_event(void *context, const struct store_event *event)
{
    *(unsigned *)context += event->data[0] == '{';
    return 0;
}

static void *read_along(void *argument)
{
    struct racer *racer = argument;
    struct store_filter filter = {.limit = STORE_PAGE_MAX};
    unsigned leases = 0;
    pthread_barrier_wait(racer->start);
    while (leases < 20 && racer->result == 0) {
        unsigned events = 0;
        unsigned before = leases;
        leases = 0;
        racer->result = store_lease_list(racer->fixture->store, &filter, count_lease, &leases, NULL);
        if (racer->result == 0)
            racer->result = store_event_list(racer->fixture->store, &filter, count_event, &events, NULL);
        if (racer->result == 0 && (leases < before || events < leases))
            racer->result = -EPROTO; /* a lease was seen before its event, or vanished */
    }
    return NULL;
}

static void readers_see_whole_transactions_while_others_write(void **state)
{
    struct store_fixture *fixture = *state;
    pthread_barrier_t start;
    pthread_t threads[4];
    struct racer readers[4];
    assert_int_equal(pthread_barrier_init(&start, NULL, 5), 0);
    for (unsigned i = 0; i < 4; i++) {
        readers[i] = (struct racer){.fixture = fixture, .start = &start};
        assert_int_equal(pthread_create(&threads[i], NULL, read_along, &readers[i]), 0);
    }
    pthread_barrier_wait(&start);
    for (unsigned n = 0; n < 20; n++)
        fixture_reserve(fixture, n);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(readers[i].result, 0);
    }
    pthread_barrier_destroy(&start);
}

/* ---- death ---- */

static _Noreturn void reserve_until_killed(struct store_fixture *fixture, int acknowledge)
{
    struct store *store = NULL;
    if (store_open(fixture->path, &store, NULL) < 0)
        _exit(1);
    fixture->store = store;
    for (unsigned n = 0;; n++) {
        if (fixture_try_reserve(fixture, n, NULL) < 0 || write(acknowledge, &n, sizeof n) != (ssize_t)sizeof n)
            _exit(1);
    }
}

static void what_was_acknowledged_survives_a_kill(void **state)
{
    struct store_fixture *fixture = *state;
    store_fixture_close(fixture);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        reserve_until_killed(fixture, ends[1]);
    close(ends[1]);
    unsigned n = 0;
    unsigned acknowledged = 0;
    while (acknowledged < 25 && read(ends[0], &n, sizeof n) == (ssize_t)sizeof n)
        acknowledged++;
    assert_int_equal(kill(child, SIGKILL), 0);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    while (read(ends[0], &n, sizeof n) == (ssize_t)sizeof n)
        acknowledged++;
    close(ends[0]);

    store_fixture_open(fixture); /* the lock went with the process */
    struct error err = {0};
    for (unsigned i = 0; i < acknowledged; i++) {
        struct store_lease lease;
        assert_works(store_lease_get(fixture->store, fixture_lease(i).id.text, &lease, &err), err);
    }
    assert_true(acknowledged >= 25);
    int64_t leases = fixture_number(fixture, "SELECT count(*) FROM leases");
    assert_in_range(leases, acknowledged, acknowledged + 1); /* one may have been written and not told */
    fixture_expect_whole(fixture, leases);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(another_writer_makes_it_busy_and_not_stuck),
        WITH_STORE(a_short_visit_of_another_writer_is_waited_for),
        WITH_STORE(exactly_one_of_many_threads_gets_the_last_place),
        WITH_STORE(readers_see_whole_transactions_while_others_write),
        WITH_STORE(what_was_acknowledged_survives_a_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

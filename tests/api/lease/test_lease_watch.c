#include "api/lease/lease_watch.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "tests/cmocka.h"
#include "tests/store/store_fixture.h"

enum {
    WAIT_S = 20, /* far more than any machine needs */
    TOLD_MAX = 16,
};

/* What the watch said, in its order. */
struct told {
    pthread_mutex_t lock;
    pthread_cond_t grown;
    size_t count;
    enum lease_due dues[TOLD_MAX];
};

static struct told told = {.lock = PTHREAD_MUTEX_INITIALIZER, .grown = PTHREAD_COND_INITIALIZER};

static void note(void *context, const struct id *id, enum lease_due due)
{
    assert_ptr_equal(context, &told);
    (void)id;
    pthread_mutex_lock(&told.lock);
    if (told.count < TOLD_MAX)
        told.dues[told.count++] = due;
    pthread_cond_broadcast(&told.grown);
    pthread_mutex_unlock(&told.lock);
}

static size_t await(size_t count)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    pthread_mutex_lock(&told.lock);
    while (told.count < count && pthread_cond_timedwait(&told.grown, &told.lock, &until) == 0)
        ;
    size_t found = told.count;
    pthread_mutex_unlock(&told.lock);
    return found;
}

static struct lease_watch *open_watch(void)
{
    struct lease_watch *watch = NULL;
    struct error err = {0};
    told.count = 0;
    assert_works(lease_watch_open(note, &told, &watch, &err), err);
    return watch;
}

static void limits_are_told_in_time_and_in_order(void **state)
{
    (void)state;
    struct lease_watch *watch = open_watch();
    struct id id = fixture_lease(1).id;
    struct id far = fixture_lease(2).id;
    uint64_t now_ms = lease_watch_now().boot_ms;
    const struct lease_span later = {.deadline_ms = now_ms + 3600000};
    /* One whose deadline is past before its warning was told is not warned: a busy machine needs time between them. */
    const struct lease_span soon = {.deadline_ms = now_ms + 1030, .warn_ms = now_ms + 30};
    assert_int_equal(lease_watch_add(watch, &far, &later), 0);
    assert_int_equal(lease_watch_add(watch, &id, &soon), 0); /* wakes a thread that sleeps for longer */
    assert_true(await(2) >= 2);
    assert_int_equal(told.dues[0], LEASE_DUE_WARNING);
    assert_int_equal(told.dues[1], LEASE_DUE_DEADLINE);
    assert_true(lease_watch_now().boot_ms >= soon.deadline_ms);
    assert_int_equal(lease_watch_hold(watch, &id), -EALREADY);
    lease_watch_remove(watch, &id);
    assert_int_equal(lease_watch_beat(watch, &id), -ENOENT);
    lease_watch_close(watch);
}

static void a_renewal_to_an_earlier_end_is_seen_at_once(void **state)
{
    (void)state;
    struct lease_watch *watch = open_watch();
    struct id id = fixture_lease(1).id;
    const struct lease_span none = {0};
    assert_int_equal(lease_watch_add(watch, &id, &none), 0);
    assert_int_equal(lease_watch_hold(watch, &id), 0);
    const struct lease_span soon = {.deadline_ms = lease_watch_now().boot_ms + 20};
    lease_watch_release(watch, &id, &soon);
    assert_true(await(1) >= 1); /* what is still there is told of again */
    assert_int_equal(told.dues[0], LEASE_DUE_DEADLINE);
    lease_watch_close(watch);
}

static void silence_is_told(void **state)
{
    (void)state;
    struct lease_watch *watch = open_watch();
    struct id id = fixture_lease(1).id;
    const struct lease_span span = {.silence_ms = 50};
    assert_int_equal(lease_watch_add(watch, &id, &span), 0);
    assert_true(await(1) >= 1); /* what is still there is told of again */
    assert_int_equal(told.dues[0], LEASE_DUE_SILENCE);
    lease_watch_close(watch);
}

struct holder {
    struct lease_watch *watch;
    struct id id;
    int result;
};

static void *hold(void *context)
{
    struct holder *holder = context;
    holder->result = lease_watch_hold(holder->watch, &holder->id);
    if (holder->result == 0)
        lease_watch_release(holder->watch, &holder->id, NULL);
    return NULL;
}

static void renewals_of_one_lease_wait_for_each_other_and_for_its_end(void **state)
{
    (void)state;
    for (int ends = 0; ends < 2; ends++) {
        struct lease_watch *watch = open_watch();
        struct holder holder = {.watch = watch, .id = fixture_lease(1).id};
        const struct lease_span none = {0};
        pthread_t thread;
        assert_int_equal(lease_watch_add(watch, &holder.id, &none), 0);
        assert_int_equal(lease_watch_hold(watch, &holder.id), 0);
        assert_int_equal(pthread_create(&thread, NULL, hold, &holder), 0);
        if (ends != 0)
            lease_watch_remove(watch, &holder.id);
        lease_watch_release(watch, &holder.id, NULL);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(holder.result, ends != 0 ? -ENOENT : 0);
        lease_watch_close(watch);
    }
    lease_watch_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_told_in_time_and_in_order),
        cmocka_unit_test(a_renewal_to_an_earlier_end_is_seen_at_once),
        cmocka_unit_test(silence_is_told),
        cmocka_unit_test(renewals_of_one_lease_wait_for_each_other_and_for_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

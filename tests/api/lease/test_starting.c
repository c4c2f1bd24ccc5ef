#include "api/lease/starting.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "tests/cmocka.h"

/* struct waiter - A thread that waits for one lease. */
struct waiter {
    struct starting *starting;
    struct id id;
    pthread_t thread;
    atomic_bool over;
};

static void *await(void *context)
{
    struct waiter *waiter = context;
    starting_await(waiter->starting, &waiter->id);
    atomic_store(&waiter->over, true);
    return NULL;
}

static void nap(void)
{
    const struct timespec moment = {.tv_nsec = 20000000};
    nanosleep(&moment, NULL);
}

static void one_waits_for_its_own_lease_alone(void **state)
{
    (void)state;
    struct starting starting;
    starting_init(&starting);
    const struct id ids[] = {id_new(), id_new(), id_new()};
    struct start starts[] = {{.id = &ids[0]}, {.id = &ids[1]}, {.id = &ids[2]}};
    for (size_t i = 0; i < 3; i++)
        starting_add(&starting, &starts[i]);
    struct waiter waiter = {.starting = &starting, .id = ids[1]};
    assert_int_equal(pthread_create(&waiter.thread, NULL, await, &waiter), 0);
    starting_remove(&starting, &starts[0]);
    starting_remove(&starting, &starts[2]);
    nap();
    assert_false(atomic_load(&waiter.over));
    starting_remove(&starting, &starts[1]);
    assert_int_equal(pthread_join(waiter.thread, NULL), 0);
    assert_true(atomic_load(&waiter.over));
    starting_done(&starting);
}

static void what_is_not_on_its_way_is_not_waited_for(void **state)
{
    (void)state;
    struct starting starting;
    starting_init(&starting);
    const struct id ids[] = {id_new(), id_new()};
    struct start start = {.id = &ids[0]};
    starting_await(&starting, &ids[1]);
    starting_add(&starting, &start);
    starting_await(&starting, &ids[1]);
    starting_remove(&starting, &start);
    starting_await(&starting, &ids[0]);
    starting_done(&starting);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_waits_for_its_own_lease_alone),
        cmocka_unit_test(what_is_not_on_its_way_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

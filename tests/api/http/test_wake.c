#include "api/http/wake.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "tests/cmocka.h"

enum {
    WAKERS = 4,
    WAKES = 20000,
    WAIT_MS = 20000, /* a sanitizer on a busy machine is slow */
};

static bool is_awake(const struct wake *wake, int timeout_ms)
{
    struct pollfd polled = {.fd = wake->fds[0], .events = POLLIN};
    return poll(&polled, 1, timeout_ms) == 1;
}

static void many_wakes_are_one_until_it_is_taken(void **state)
{
    (void)state;
    struct wake wake;
    char bytes[4];
    assert_int_equal(wake_open(&wake), 0);
    assert_false(is_awake(&wake, 0));
    for (int i = 0; i < 100000; i++) /* more than a pipe holds */
        wake_up(&wake);
    assert_true(is_awake(&wake, 0));
    assert_int_equal(read(wake.fds[0], bytes, sizeof bytes), 1);
    wake_take(&wake);
    assert_false(is_awake(&wake, 0));
    wake_up(&wake);
    assert_true(is_awake(&wake, 0));
    wake_take(&wake);
    wake_take(&wake); /* nothing to take */
    assert_false(is_awake(&wake, 0));
    wake_close(&wake);
}

struct world {
    struct wake wake;
    atomic_int done;
};

static void *work(void *context)
{
    struct world *world = context;
    for (int i = 0; i < WAKES; i++) {
        atomic_fetch_add(&world->done, 1);
        wake_up(&world->wake);
    }
    return NULL;
}

/* A poller that looks at what was done after each take never sleeps with something left. */
static void nothing_that_was_done_is_slept_over(void **state)
{
    (void)state;
    struct world world = {.done = 0};
    pthread_t threads[WAKERS];
    assert_int_equal(wake_open(&world.wake), 0);
    for (size_t i = 0; i < WAKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &world), 0);
    int seen = 0;
    while (seen < WAKERS * WAKES) {
        assert_true(is_awake(&world.wake, WAIT_MS));
        wake_take(&world.wake);
        seen = atomic_load(&world.done);
    }
    for (size_t i = 0; i < WAKERS; i++)
        pthread_join(threads[i], NULL);
    wake_close(&world.wake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_wakes_are_one_until_it_is_taken),
        cmocka_unit_test(nothing_that_was_done_is_slept_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

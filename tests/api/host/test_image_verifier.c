/* Images are read by another thread. */
#include "api/host/image_verifier.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/cmocka.h"
#include "tests/vmm/image_fixture.h"

enum { PATIENCE_MS = 20000 };

static struct vmm_image load(const struct image_fixture *fixture)
{
    struct vmm_image image;
    struct error err = {0};
    if (vmm_image_load(fixture->folder, "micro", &image, &err) != 0)
        fail_msg("%s", err.message);
    return image;
}

static struct image_verifier *open_verifier(const struct image_fixture *fixture)
{
    struct image_verifier *verifier = NULL;
    struct error err = {0};
    if (image_verifier_open(fixture->folder, &verifier, &err) != 0)
        fail_msg("%s", err.message);
    return verifier;
}

static void each_answer_is_of_a_reading_that_began_after_the_one_before(void **state)
{
    const struct image_fixture *fixture = *state;
    struct image_verifier *verifier = open_verifier(fixture);
    const struct vmm_image image = load(fixture);
    uint64_t duration_ms = UINT64_MAX;
    struct error err = {0};
    assert_int_equal(image_verifier_run(verifier, &image, PATIENCE_MS, &duration_ms, &err), 0);
    assert_true(duration_ms < PATIENCE_MS);
    image_put_file(fixture, "micro/initrd", "changed", 7);
    assert_int_equal(image_verifier_run(verifier, &image, PATIENCE_MS, &duration_ms, &err), -EBADMSG);
    assert_string_equal(err.slug, "image-digest-mismatch");
    image_verifier_close(verifier);
}

static void who_does_not_wait_is_told_to_ask_again_and_then_told(void **state)
{
    const struct image_fixture *fixture = *state;
    struct image_verifier *verifier = open_verifier(fixture);
    const struct vmm_image image = load(fixture);
    uint64_t duration_ms;
    struct error err = {0};
    int result = image_verifier_run(verifier, &image, 0, &duration_ms, &err);
    for (int waited = 0; result == -EBUSY && waited < PATIENCE_MS; waited++) {
        assert_string_equal(err.message, "micro is being read; ask again.");
        usleep(1000);
        result = image_verifier_run(verifier, &image, 0, &duration_ms, &err);
    }
    assert_int_equal(result, 0);
    image_verifier_close(verifier);
}

struct waiter {
    struct image_verifier *verifier;
    const struct vmm_image *image;
    int result;
};

static void *wait_for_it(void *context)
{
    struct waiter *waiter = context;
    struct error err = {0};
    uint64_t duration_ms;
    waiter->result = image_verifier_run(waiter->verifier, waiter->image, PATIENCE_MS, &duration_ms, &err);
    return NULL;
}

/* Whoever comes second is sent away at once rather than kept, and nobody is told of another image's reading. */
static void one_waits_at_a_time(void **state)
{
    enum { WAITERS = 8 };
    const struct image_fixture *fixture = *state;
    struct image_verifier *verifier = open_verifier(fixture);
    const struct vmm_image image = load(fixture);
    struct waiter waiters[WAITERS];
    pthread_t threads[WAITERS];
    int good = 0;
    for (size_t at = 0; at < WAITERS; at++) {
        waiters[at] = (struct waiter){.verifier = verifier, .image = &image, .result = 1};
        assert_int_equal(pthread_create(&threads[at], NULL, wait_for_it, &waiters[at]), 0);
    }
    for (size_t at = 0; at < WAITERS; at++) {
        pthread_join(threads[at], NULL);
        assert_true(waiters[at].result == 0 || waiters[at].result == -EBUSY);
        good += waiters[at].result == 0;
    }
    assert_true(good >= 1);
    image_verifier_close(verifier);
}

int main(void)
{
#define IMAGE_TEST(test) cmocka_unit_test_setup_teardown(test, image_set_up, image_tear_down)
    const struct CMUnitTest tests[] = {
        IMAGE_TEST(each_answer_is_of_a_reading_that_began_after_the_one_before),
        IMAGE_TEST(who_does_not_wait_is_told_to_ask_again_and_then_told),
        IMAGE_TEST(one_waits_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "base/histogram.h"

#include <pthread.h>

#include "tests/cmocka.h"

static void a_duration_on_a_bound_belongs_to_its_step(void **state)
{
    (void)state;
    for (unsigned step = 0; step < HISTOGRAM_STEPS; step++) {
        struct histogram histogram = {0};
        struct histogram_view view;
        histogram_add(&histogram, histogram_bound_us(step));
        histogram_add(&histogram, histogram_bound_us(step) + 1);
        histogram_read(&histogram, &view);
        assert_int_equal(view.counts[step], 1);
        assert_int_equal(view.counts[step + 1], 1);
        assert_int_equal(view.total, 2);
        assert_int_equal(view.sum_us, 2 * histogram_bound_us(step) + 1);
    }
}

static void bounds_rise(void **state)
{
    (void)state;
    for (unsigned step = 1; step < HISTOGRAM_STEPS; step++)
        assert_true(histogram_bound_us(step) > histogram_bound_us(step - 1));
}

static void the_shortest_and_the_longest_have_a_place(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    struct histogram_view view;
    histogram_add(&histogram, 0);
    histogram_add(&histogram, UINT64_C(1) << 40);
    histogram_read(&histogram, &view);
    assert_int_equal(view.counts[0], 1);
    assert_int_equal(view.counts[HISTOGRAM_STEPS], 1);
}

enum { ADDERS = 4, EACH = 20000 };

static void *add_many(void *histogram)
{
    for (int i = 0; i < EACH; i++)
        histogram_add(histogram, 300);
    return NULL;
}

static void threads_lose_nothing_and_a_reader_never_sees_less(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    struct histogram_view view = {0};
    pthread_t threads[ADDERS];
    for (int i = 0; i < ADDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &histogram), 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t before = view.total;
        histogram_read(&histogram, &view);
        assert_true(view.total >= before);
    }
    for (int i = 0; i < ADDERS; i++)
        pthread_join(threads[i], NULL);
    histogram_read(&histogram, &view);
    assert_int_equal(view.total, ADDERS * EACH);
    assert_int_equal(view.sum_us, UINT64_C(300) * ADDERS * EACH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_duration_on_a_bound_belongs_to_its_step),
        cmocka_unit_test(bounds_rise),
        cmocka_unit_test(the_shortest_and_the_longest_have_a_place),
        cmocka_unit_test(threads_lose_nothing_and_a_reader_never_sees_less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/cmocka.h"

#include "nat/bucket.h"
#include "nat/nat.h"

static uint64_t take_all(struct bucket *bucket, uint64_t now_ms)
{
    uint64_t taken = 0;
    while (bucket_holds(bucket, 1, now_ms)) {
        bucket_take(bucket, 1);
        taken++;
    }
    return taken;
}

static void no_rate_is_no_limit(void **state)
{
    (void)state;
    struct bucket bucket = bucket_for(0, 1, 0);
    assert_true(bucket_holds(&bucket, UINT64_MAX, 0));
    bucket_take(&bucket, UINT64_MAX);
    assert_true(bucket_holds(&bucket, UINT64_MAX, 0));
}

static void a_burst_passes_and_then_the_rate(void **state)
{
    (void)state;
    struct bucket bucket = bucket_make(100, 20, 5000);
    assert_int_equal(take_all(&bucket, 5000), 20);
    assert_int_equal(take_all(&bucket, 5009), 0);
    assert_int_equal(take_all(&bucket, 5010), 1);
    assert_int_equal(take_all(&bucket, 5115), 10);
    assert_int_equal(take_all(&bucket, 5120), 1); /* the 5 ms left over before were not lost */
    assert_int_equal(take_all(&bucket, 900000), 20);
}

static void a_second_lets_through_the_rate_whatever_the_steps(void **state)
{
    (void)state;
    static const uint64_t steps[] = {1, 3, 7, 50, 100};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct bucket bucket = bucket_make(1000, 200, 0);
        uint64_t taken = take_all(&bucket, 0);
        assert_int_equal(taken, 200);
        for (uint64_t now = steps[i]; now <= 10000; now += steps[i])
            taken += take_all(&bucket, now);
        assert_in_range(taken, 200 + 10000 - steps[i], 200 + 10000);
    }
}

static void a_clock_that_steps_back_gives_nothing(void **state)
{
    (void)state;
    struct bucket bucket = bucket_make(1000, 10, 1000);
    assert_int_equal(take_all(&bucket, 1000), 10);
    assert_int_equal(take_all(&bucket, 10), 0);
    assert_int_equal(take_all(&bucket, 1000), 0);
    assert_int_equal(take_all(&bucket, 1001), 1);
}

static void the_largest_rate_and_the_longest_pause_do_not_overflow(void **state)
{
    (void)state;
    struct bucket bucket = bucket_for(NAT_RATE_MAX, 12000, 0);
    assert_true(bucket_holds(&bucket, NAT_RATE_MAX / 10, 0));
    bucket_take(&bucket, NAT_RATE_MAX / 10);
    assert_false(bucket_holds(&bucket, 1, 0));
    assert_true(bucket_holds(&bucket, NAT_RATE_MAX / 10, UINT64_MAX));
    assert_false(bucket_holds(&bucket, NAT_RATE_MAX / 10 + 1, UINT64_MAX));
}

static void a_small_rate_still_takes_packets_of_full_size(void **state)
{
    (void)state;
    struct bucket bucket = bucket_for(8, 12000, 0);
    assert_true(bucket_holds(&bucket, 12000, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_rate_is_no_limit),
        cmocka_unit_test(a_burst_passes_and_then_the_rate),
        cmocka_unit_test(a_second_lets_through_the_rate_whatever_the_steps),
        cmocka_unit_test(a_clock_that_steps_back_gives_nothing),
        cmocka_unit_test(the_largest_rate_and_the_longest_pause_do_not_overflow),
        cmocka_unit_test(a_small_rate_still_takes_packets_of_full_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

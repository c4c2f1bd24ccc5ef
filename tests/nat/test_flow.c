#include "tests/cmocka.h"

#include <stdlib.h>

#include "nat/flow.h"
#include "tests/nat/frames.h"

static void a_flow_is_found_by_both_of_its_ends(void **state)
{
    (void)state;
    struct flow_pool pool = {0};
    assert_int_equal(flow_find(&pool, 40000, test_consumer), FLOW_NONE);
    int slot = flow_open(&pool, 40000, test_consumer, 100);
    assert_int_equal(flow_find(&pool, 40000, test_consumer), slot);
    assert_int_equal(flow_find(&pool, 40001, test_consumer), FLOW_NONE);
    struct nat_endpoint other = {test_consumer.ip, 51901};
    assert_int_equal(flow_find(&pool, 40000, other), FLOW_NONE);
}

static void idle_flows_expire_at_their_limit_and_not_before(void **state)
{
    (void)state;
    struct flow_pool pool = {0};
    int idle = flow_open(&pool, 1, test_consumer, 1000);
    int busy = flow_open(&pool, 2, test_consumer, 1000);
    flow_touch(&pool, busy, 2000);
    assert_int_equal(flow_next_expiry(&pool), 1000 + FLOW_IDLE_MS);
    assert_int_equal(flow_expire(&pool, 1000 + FLOW_IDLE_MS - 1), 0);
    assert_int_equal(flow_expire(&pool, 1000 + FLOW_IDLE_MS), UINT64_C(1) << idle);
    assert_int_equal(pool.open_count, 1);
    assert_int_equal(flow_next_expiry(&pool), 2000 + FLOW_IDLE_MS);
    assert_int_equal(flow_expire(&pool, 2000 + FLOW_IDLE_MS), UINT64_C(1) << busy);
    assert_true(flow_next_expiry(&pool) == UINT64_MAX);
}

static void a_full_pool_gives_up_its_idlest_flow_but_no_busy_one(void **state)
{
    (void)state;
    struct flow_pool pool = {0};
    for (int i = 0; i < FLOW_MAX; i++)
        assert_true(flow_open(&pool, (uint16_t)(1 + i), test_consumer, (uint64_t)(5000 + i)) >= 0);
    assert_int_equal(flow_open(&pool, 900, test_consumer, 5000 + FLOW_EVICT_IDLE_MS - 1), FLOW_NONE);
    int first = flow_find(&pool, 1, test_consumer);
    assert_int_equal(flow_open(&pool, 900, test_consumer, 5000 + FLOW_EVICT_IDLE_MS), first);
    assert_int_equal(flow_find(&pool, 1, test_consumer), FLOW_NONE);
    assert_int_equal(flow_find(&pool, 900, test_consumer), first);
    assert_int_equal(pool.open_count, FLOW_MAX);
}

static void a_policy_without_the_endpoint_closes_its_flows(void **state)
{
    (void)state;
    struct flow_pool pool = {0};
    struct nat_endpoint other = {0xCB007150, 51900};
    int kept = flow_open(&pool, 1, test_consumer, 0);
    int closed = flow_open(&pool, 1, other, 0);
    assert_int_equal(flow_retain(&pool, &test_policy), UINT64_C(1) << closed);
    assert_int_equal(flow_find(&pool, 1, test_consumer), kept);
    struct nat_policy nothing = {.generation = 2};
    assert_int_equal(flow_retain(&pool, &nothing), UINT64_C(1) << kept);
    assert_int_equal(pool.open_count, 0);
}

/* The pool against a list that is searched from its front, over random steps. */
static void agrees_with_an_oracle_over_random_steps(void **state)
{
    (void)state;
    struct flow_pool pool = {0};
    int slot_of[96];
    for (size_t i = 0; i < 96; i++)
        slot_of[i] = FLOW_NONE;
    uint32_t seed = 11;
    uint64_t now = 0;
    for (int step = 0; step < 50000; step++) {
        seed = seed * 1664525u + 1013904223u;
        uint16_t port = (uint16_t)((seed >> 10) % 96);
        now += (seed >> 20) % 50;
        int found = flow_find(&pool, port, test_consumer);
        assert_int_equal(found, slot_of[port]);
        if (found != FLOW_NONE && (seed & 7) == 0) {
            flow_close(&pool, found);
            slot_of[port] = FLOW_NONE;
        } else if (found != FLOW_NONE) {
            flow_touch(&pool, found, now);
        } else {
            int slot = flow_open(&pool, port, test_consumer, now);
            for (size_t i = 0; slot != FLOW_NONE && i < 96; i++)
                slot_of[i] = slot_of[i] == slot ? FLOW_NONE : slot_of[i];
            slot_of[port] = slot;
        }
    }
    size_t open = 0;
    for (size_t i = 0; i < 96; i++)
        open += slot_of[i] != FLOW_NONE;
    assert_int_equal(pool.open_count, open);
}

static void a_pool_with_a_limit_holds_no_more(void **state)
{
    (void)state;
    struct flow_pool pool = {.limit = 4};
    for (uint16_t port = 1; port <= 4; port++)
        assert_int_equal(flow_open(&pool, port, (struct nat_endpoint){1, 2}, 0), port - 1);
    assert_int_equal(flow_open(&pool, 5, (struct nat_endpoint){1, 2}, FLOW_EVICT_IDLE_MS - 1), FLOW_NONE);
    assert_int_equal(flow_open(&pool, 5, (struct nat_endpoint){1, 2}, FLOW_EVICT_IDLE_MS), 0);
    assert_int_equal(pool.open_count, 4);
}

static void a_limit_above_the_pool_is_the_pool(void **state)
{
    (void)state;
    for (uint32_t above = 0; above < 2; above++) {
        struct flow_pool pool = {.limit = FLOW_MAX + above};
        for (uint16_t port = 1; port <= FLOW_MAX; port++)
            assert_int_equal(flow_open(&pool, port, test_consumer, 0), port - 1);
        assert_int_equal(flow_open(&pool, FLOW_MAX + 1, test_consumer, 0), FLOW_NONE);
    }
}

static void a_flow_follows_its_consumer_but_to_no_endpoint_that_is_not_allowed(void **state)
{
    (void)state;
    const struct nat_endpoint moved_to = {0xCB007150, 51900};
    const struct nat_endpoint elsewhere = {0x08080808, 53};
    struct nat_policy after = test_policy;
    after.generation++;
    after.known_as = test_consumer;
    after.allow[0] = moved_to;
    after.allow_count = 1;
    struct flow_pool pool = {0};
    int follows = flow_open(&pool, 1, test_consumer, 0);
    int stays = flow_open(&pool, 2, elsewhere, 0); /* as a packet of `sampled` that was not drawn opens it */
    pool.slots[follows].listens = true;
    pool.slots[stays].listens = false;
    assert_int_equal(flow_follow(&pool, &test_policy, &after), UINT64_C(1) << follows);
    assert_int_equal(flow_find(&pool, 1, moved_to), follows);
    assert_int_equal(flow_find(&pool, 2, elsewhere), stays);
    assert_false(pool.slots[stays].listens);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_with_a_limit_holds_no_more),
        cmocka_unit_test(a_limit_above_the_pool_is_the_pool),
        cmocka_unit_test(a_flow_follows_its_consumer_but_to_no_endpoint_that_is_not_allowed),
        cmocka_unit_test(a_flow_is_found_by_both_of_its_ends),
        cmocka_unit_test(idle_flows_expire_at_their_limit_and_not_before),
        cmocka_unit_test(a_full_pool_gives_up_its_idlest_flow_but_no_busy_one),
        cmocka_unit_test(a_policy_without_the_endpoint_closes_its_flows),
        cmocka_unit_test(agrees_with_an_oracle_over_random_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/cmocka.h"

#include "nat/conntrack.h"
#include "tests/nat/frames.h"

static void a_destination_is_known_once_it_was_added(void **state)
{
    (void)state;
    struct conntrack table = {0};
    assert_false(conntrack_hit(&table, 1, test_consumer, 0));
    conntrack_add(&table, 1, test_consumer, 0);
    assert_true(conntrack_hit(&table, 1, test_consumer, 1));
}

static void every_bit_of_address_and_port_is_part_of_the_key(void **state)
{
    (void)state;
    struct conntrack table = {0};
    conntrack_add(&table, 1, test_consumer, 0);
    for (int bit = 0; bit < 32; bit++) {
        struct nat_endpoint other = {test_consumer.ip ^ UINT32_C(1) << bit, test_consumer.port};
        assert_false(conntrack_hit(&table, 1, other, 1));
    }
    for (int bit = 0; bit < 16; bit++) {
        struct nat_endpoint other = {test_consumer.ip, (uint16_t)(test_consumer.port ^ 1u << bit)};
        assert_false(conntrack_hit(&table, 1, other, 1));
    }
}

static void another_generation_knows_nothing(void **state)
{
    (void)state;
    struct conntrack table = {0};
    conntrack_add(&table, 1, test_consumer, 0);
    assert_false(conntrack_hit(&table, 2, test_consumer, 1));
    assert_false(conntrack_hit(&table, 1, test_consumer, 2)); /* nor does the first when it comes again */
}

static void a_destination_expires_when_it_is_not_used(void **state)
{
    (void)state;
    struct conntrack table = {0};
    conntrack_add(&table, 1, test_consumer, 0);
    assert_true(conntrack_hit(&table, 1, test_consumer, CONNTRACK_IDLE_MS - 1));
    assert_true(conntrack_hit(&table, 1, test_consumer, 2 * CONNTRACK_IDLE_MS - 2));
    assert_false(conntrack_hit(&table, 1, test_consumer, 3 * CONNTRACK_IDLE_MS - 2));
    assert_false(conntrack_hit(&table, 1, test_consumer, 3 * CONNTRACK_IDLE_MS - 2));
}

static void a_full_table_forgets_the_idlest_and_never_invents(void **state)
{
    (void)state;
    struct conntrack table = {0};
    uint32_t known = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        struct nat_endpoint destination = {0xCB000000 + i * 7919, (uint16_t)(1 + i % 60000)};
        conntrack_add(&table, 1, destination, i);
        assert_true(conntrack_hit(&table, 1, destination, i));
    }
    for (uint32_t i = 0; i < 1000; i++) {
        struct nat_endpoint destination = {0xCB000000 + i * 7919, (uint16_t)(1 + i % 60000)};
        struct nat_endpoint never_added = {0xCB000000 + i * 7919, (uint16_t)(1 + (i + 1) % 60000)};
        known += conntrack_hit(&table, 1, destination, 1000);
        assert_false(conntrack_hit(&table, 1, never_added, 1000));
    }
    assert_in_range(known, CONNTRACK_SETS, CONNTRACK_SETS * CONNTRACK_WAYS);
    struct nat_endpoint newest = {0xCB000000 + 999 * 7919, 1 + 999};
    assert_true(conntrack_hit(&table, 1, newest, 1000));
}

static void port_zero_is_never_known(void **state)
{
    (void)state;
    struct conntrack table = {.generation = 1};
    struct nat_endpoint nothing = {0, 0};
    assert_false(conntrack_hit(&table, 1, nothing, 0));
}

static void a_destination_that_is_added_again_keeps_one_place(void **state)
{
    (void)state;
    struct conntrack table = {0};
    size_t places = 0;
    conntrack_add(&table, 1, test_consumer, 0);
    conntrack_add(&table, 1, test_consumer, 5);
    for (size_t i = 0; i < CONNTRACK_ENTRIES; i++)
        places += table.entries[i].destination.port != 0;
    assert_int_equal(places, 1);
    assert_true(conntrack_hit(&table, 1, test_consumer, 4 + CONNTRACK_IDLE_MS));
}

static void neighbours_in_a_set_are_told_apart_by_address(void **state)
{
    (void)state;
    struct conntrack table = {0};
    conntrack_add(&table, 1, test_consumer, 0);
    for (uint32_t more = 1; more < 1000; more++) {
        struct nat_endpoint other = {test_consumer.ip + more, test_consumer.port};
        assert_false(conntrack_hit(&table, 1, other, 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_destination_is_known_once_it_was_added),
        cmocka_unit_test(every_bit_of_address_and_port_is_part_of_the_key),
        cmocka_unit_test(another_generation_knows_nothing),
        cmocka_unit_test(a_destination_expires_when_it_is_not_used),
        cmocka_unit_test(a_full_table_forgets_the_idlest_and_never_invents),
        cmocka_unit_test(port_zero_is_never_known),
        cmocka_unit_test(a_destination_that_is_added_again_keeps_one_place),
        cmocka_unit_test(neighbours_in_a_set_are_told_apart_by_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

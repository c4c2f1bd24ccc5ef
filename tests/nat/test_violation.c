#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

#include "nat/violation.h"
#include "tests/nat/frames.h"

static struct nat_violation *record(struct violation_table *table, enum nat_reason reason, struct nat_endpoint to,
                                    uint64_t now_ms)
{
    struct frame frame = frame_udp(test_guest, to, 100);
    struct packet packet = frame_parse(&frame);
    struct violation_frame broken = {reason, false, &packet, frame.bytes, frame.length};
    return violation_record(table, &broken, &test_policy, now_ms);
}

static void the_first_frame_is_kept_and_later_ones_are_counted(void **state)
{
    (void)state;
    struct violation_table *table = calloc(1, sizeof *table);
    struct nat_endpoint to = {0x08080808, 53};
    struct nat_violation *first = record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, to, 1000);
    assert_non_null(first);
    assert_int_equal(first->count, 1);
    assert_int_equal(first->destination.ip, 0x08080808);
    assert_int_equal(first->destination.port, 53);
    assert_int_equal(first->source.port, test_guest.port);
    assert_int_equal(first->ip_protocol, 17);
    assert_int_equal(first->policy_generation, 1);
    assert_int_equal(first->frame_bytes, 142);
    assert_int_equal(first->evidence_bytes, NAT_EVIDENCE_BYTES);
    struct frame frame = frame_udp(test_guest, to, 100);
    assert_memory_equal(first->evidence, frame.bytes, NAT_EVIDENCE_BYTES);
    assert_null(record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, to, 2000));
    assert_int_equal(first->count, 2);
    assert_int_equal(first->first_ms, 1000);
    assert_int_equal(first->last_ms, 2000);
    free(table);
}

static void reason_destination_port_and_protocol_tell_kinds_apart(void **state)
{
    (void)state;
    struct violation_table *table = calloc(1, sizeof *table);
    struct nat_endpoint to = {0x08080808, 53};
    struct nat_endpoint port = {0x08080808, 54};
    struct nat_endpoint ip = {0x08080809, 53};
    assert_non_null(record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, to, 1));
    assert_non_null(record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, port, 1));
    assert_non_null(record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, ip, 1));
    assert_non_null(record(table, NAT_REASON_PORT_NOT_ALLOWED, to, 1));
    assert_null(record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, to, 1));
    assert_int_equal(table->made, 4);
    free(table);
}

static void a_scan_fills_the_table_and_no_more(void **state)
{
    (void)state;
    struct violation_table *table = calloc(1, sizeof *table);
    int made = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        struct nat_endpoint to = {0x08000000 + i, 80};
        struct nat_violation *violation = record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, to, i);
        made += violation != NULL;
        if (i == VIOLATION_DISTINCT_MAX) {
            assert_non_null(violation);
            assert_true(violation->overflow);
            assert_int_equal(violation->destination.ip, 0);
            assert_int_equal(violation->evidence_bytes, 0);
        }
    }
    assert_int_equal(made, VIOLATION_DISTINCT_MAX + 1);
    uint64_t total = 0;
    for (size_t i = 0; i < VIOLATION_ENTRIES; i++)
        total += table->entries[i].violation.count;
    assert_int_equal(total, 20000);
    struct nat_endpoint first = {0x08000000, 80};
    assert_null(record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, first, 1));
    assert_int_equal(table->entries[0].violation.count, 2);
    free(table);
}

static void each_entry_is_unreported_until_told_and_again_once_it_grows(void **state)
{
    (void)state;
    struct violation_table *table = calloc(1, sizeof *table);
    assert_int_equal(violation_next_unreported(table, 0), -1);
    struct nat_endpoint a = {0x08080808, 53};
    struct nat_endpoint b = {0x08080808, 54};
    record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, a, 1);
    record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, b, 1);
    int first = violation_next_unreported(table, 0);
    int second = violation_next_unreported(table, first + 1);
    assert_int_equal(first, 0);
    assert_int_equal(second, 1);
    violation_reported(table, first);
    violation_reported(table, second);
    assert_int_equal(violation_next_unreported(table, 0), -1);
    assert_int_equal(table->unreported, 0);
    record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, b, 2);
    record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, b, 3);
    assert_int_equal(table->unreported, 1);
    assert_int_equal(violation_next_unreported(table, 0), 1);
    free(table);
}

static void the_entry_that_ended_the_machine_is_found(void **state)
{
    (void)state;
    struct violation_table *table = calloc(1, sizeof *table);
    const struct nat_endpoint harmless = {0x08080808, 53};
    const struct nat_endpoint fatal = {0x08080808, 54};
    struct frame frame = frame_udp(test_guest, fatal, 100);
    const struct packet packet = frame_parse(&frame);
    struct violation_frame broken = {
        .reason = NAT_REASON_DESTINATION_NOT_ALLOWED, .packet = &packet, .bytes = frame.bytes, .length = frame.length};
    record(table, NAT_REASON_DESTINATION_NOT_ALLOWED, harmless, 1);
    assert_non_null(violation_record(table, &broken, &test_policy, 2));
    assert_null(violation_terminating(table));
    broken.terminates = true;
    assert_null(violation_record(table, &broken, &test_policy, 3));
    assert_ptr_equal(violation_terminating(table), &table->entries[1].violation);
    broken.terminates = false; /* and stays so */
    assert_null(violation_record(table, &broken, &test_policy, 4));
    assert_ptr_equal(violation_terminating(table), &table->entries[1].violation);
    free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_frame_is_kept_and_later_ones_are_counted),
        cmocka_unit_test(reason_destination_port_and_protocol_tell_kinds_apart),
        cmocka_unit_test(a_scan_fills_the_table_and_no_more),
        cmocka_unit_test(the_entry_that_ended_the_machine_is_found),
        cmocka_unit_test(each_entry_is_unreported_until_told_and_again_once_it_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

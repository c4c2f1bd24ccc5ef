#include "tests/store/store_fixture.h"

#include <errno.h>
#include <string.h>

/* What a callback saw. */
struct seen {
    size_t count;
    size_t stop_after; /* 0: never */
    struct id ids[STORE_PAGE_MAX];
};

static int remember(void *context, const struct store_violation *violation)
{
    struct seen *seen = context;
    assert_true(seen->count < STORE_PAGE_MAX);
    seen->ids[seen->count++] = violation->id;
    return seen->count == seen->stop_after ? 77 : 0;
}

static struct seen list(struct store_fixture *fixture, struct store_filter filter)
{
    struct seen seen = {0};
    struct error err = {0};
    assert_works(store_violation_list(fixture->store, &filter, remember, &seen, &err), err);
    return seen;
}

static void record(struct store_fixture *fixture, const struct store_violation *violation)
{
    struct error err = {0};
    assert_works(store_violation_record(fixture->store, violation, NULL, &err), err);
}

static struct store_violation get(struct store_fixture *fixture, struct id id)
{
    struct store_violation violation;
    struct error err = {0};
    assert_works(store_violation_get(fixture->store, id.text, &violation, &err), err);
    return violation;
}

static void a_violation_reads_back_as_it_was_given(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = {""};
    struct store_violation given = fixture_violation(4, fixture_reserve(fixture, 1));
    given.overflow = true;
    given.serial = UINT32_MAX;
    given.detection_latency_us = UINT32_MAX;
    given.count = INT64_MAX;
    given.evidence_bytes = STORE_EVIDENCE_BYTES;
    memset(given.evidence, 0xee, sizeof given.evidence);
    assert_works(store_violation_record(fixture->store, &given, &id, &err), err);
    assert_string_equal(id.text, given.id.text);
    struct store_violation kept = get(fixture, id);
    fixture_assert_same_violation(&kept, &given);
}

static void a_new_violation_is_told_once(void **state)
{
    struct store_fixture *fixture = *state;
    struct store_violation violation = fixture_violation(4, fixture_reserve(fixture, 1));
    record(fixture, &violation);
    record(fixture, &violation);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), 2);
    assert_string_equal(fixture_text(fixture, "SELECT type || at_ms || json_remove(data, '$.violation_id')"
                                              " FROM events WHERE sequence = 2"),
                        "violation.detected1700000001004{\"code\":\"destination_not_allowed\",\"verdict\":\"dropped\","
                        "\"source\":\"filter\",\"ip_protocol\":17,\"destination_ip\":\"198.51.100.7\","
                        "\"destination_port\":53}");
    assert_string_equal(fixture_text(fixture, "SELECT json_extract(data, '$.violation_id') FROM events"
                                              " WHERE sequence = 2"),
                        violation.id.text);
}

static void reports_of_one_aggregate_grow_one_row(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = {""};
    struct store_violation first = fixture_violation(4, fixture_reserve(fixture, 1));
    record(fixture, &first);
    struct store_violation later = fixture_violation(5, first.lease_id);
    later.serial = first.serial;
    later.count = 900;
    later.verdict[0] = '\0';
    set_text(later.verdict, "terminated");
    later.evidence_bytes = 0;
    assert_works(store_violation_record(fixture->store, &later, &id, &err), err);
    assert_string_equal(id.text, first.id.text); /* the row's own id stays */

    struct store_violation expected = first;
    expected.count = 900;
    expected.last_seen_ms = later.last_seen_ms;
    memcpy(expected.verdict, later.verdict, sizeof expected.verdict);
    struct store_violation kept = get(fixture, id);
    fixture_assert_same_violation(&kept, &expected);
    assert_int_equal(store_violation_get(fixture->store, later.id.text, &kept, &err), -ENOENT);

    record(fixture, &first); /* a late report takes nothing back */
    kept = get(fixture, id);
    fixture_assert_same_violation(&kept, &expected);
}

static void the_same_serial_in_another_lease_is_another_violation(void **state)
{
    struct store_fixture *fixture = *state;
    struct store_violation one = fixture_violation(4, fixture_reserve(fixture, 1));
    struct store_violation two = fixture_violation(5, fixture_reserve(fixture, 2));
    two.serial = one.serial;
    record(fixture, &one);
    record(fixture, &two);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 10}).count, 2);
}

static void a_violation_of_no_lease_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = {"unset"};
    struct store_violation violation = fixture_violation(4, fixture_lease(1).id);
    assert_int_equal(store_violation_record(fixture->store, &violation, &id, &err), -ENOENT);
    assert_string_equal(err.slug, "lease-not-found");
    assert_string_equal(id.text, "unset");
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), 0);
}

static void a_report_that_comes_after_the_end_still_counts(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_end end = fixture_end();
    struct store_violation violation = fixture_violation(4, fixture_reserve(fixture, 1));
    assert_works(store_lease_terminate(fixture->store, violation.lease_id.text, &end, &err), err);
    record(fixture, &violation);
    assert_int_equal(get(fixture, violation.id).count, 1);
}

static void values_outside_the_api_are_refused_and_leave_nothing(void **state)
{
    struct store_fixture *fixture = *state;
    struct id lease_id = fixture_reserve(fixture, 1);
    for (unsigned i = 0; i < 9; i++) {
        struct error err = {0};
        struct store_violation violation = fixture_violation(i, lease_id);
        switch (i) {
        case 0:
            set_text(violation.code, "other");
            break;
        case 1:
            set_text(violation.verdict, "allowed");
            break;
        case 2:
            set_text(violation.mode, "open");
            break;
        case 3:
            set_text(violation.source, "guess");
            break;
        case 4:
            violation.destination_port = 65536;
            break;
        case 5:
            violation.ip_protocol = 256;
            break;
        case 6:
            violation.count = 0;
            break;
        case 7:
            violation.evidence_bytes = STORE_EVIDENCE_BYTES + 1;
            break;
        case 8:
            memset(violation.source_ip, '1', sizeof violation.source_ip);
            break;
        }
        if (store_violation_record(fixture->store, &violation, NULL, &err) != -EINVAL)
            fail_msg("case %u: %d %s", i, err.code, err.message);
    }
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM violations"), 0);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), 1);
}

static void every_code_of_the_api_is_accepted(void **state)
{
    struct store_fixture *fixture = *state;
    static const char *const codes[] = {"destination_not_allowed",
                                        "port_not_allowed",
                                        "protocol_not_allowed",
                                        "source_mac_spoofed",
                                        "source_ip_spoofed",
                                        "arp_spoofed",
                                        "fragment",
                                        "ip_options",
                                        "ipv6",
                                        "vlan",
                                        "malformed",
                                        "not_wireguard",
                                        "rate_exceeded"};
    struct id lease_id = fixture_reserve(fixture, 1);
    for (unsigned i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct store_violation violation = fixture_violation(i, lease_id);
        memset(violation.code, 0, sizeof violation.code);
        set_text(violation.code, codes[i]);
        record(fixture, &violation);
        assert_string_equal(get(fixture, violation.id).code, codes[i]);
    }
}

static void pages_join_for_all_and_for_one_lease(void **state)
{
    struct store_fixture *fixture = *state;
    struct id leases[2] = {fixture_reserve(fixture, 1), fixture_reserve(fixture, 2)};
    for (unsigned n = 0; n < 20; n++) {
        struct store_violation violation = fixture_violation(n, leases[n % 2]);
        record(fixture, &violation);
    }
    struct seen first = list(fixture, (struct store_filter){.limit = 15});
    struct seen second = list(fixture, (struct store_filter){.limit = 15, .after = first.ids[14].text});
    assert_int_equal(first.count, 15);
    assert_int_equal(second.count, 5);
    for (unsigned n = 0; n < 20; n++)
        assert_string_equal(n < 15 ? first.ids[n].text : second.ids[n - 15].text,
                            fixture_violation(n, leases[0]).id.text);
    first = list(fixture, (struct store_filter){.limit = 7, .lease_id = leases[1].text});
    second = list(fixture, (struct store_filter){.limit = 7, .lease_id = leases[1].text, .after = first.ids[6].text});
    assert_int_equal(first.count, 7);
    assert_int_equal(second.count, 3);
    assert_string_equal(second.ids[2].text, fixture_violation(19, leases[1]).id.text);
    first = list(fixture, (struct store_filter){.limit = 3, .newest_first = true});
    assert_string_equal(first.ids[0].text, fixture_violation(19, leases[1]).id.text);
    second = list(fixture, (struct store_filter){.limit = 3, .newest_first = true, .lease_id = leases[0].text});
    assert_string_equal(second.ids[0].text, fixture_violation(18, leases[0]).id.text);
    assert_string_equal(second.ids[2].text, fixture_violation(14, leases[0]).id.text);
}

static void lists_refuse_what_they_cannot_honour(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct seen seen = {0};
    struct store_filter filter = {.limit = 0};
    assert_int_equal(store_violation_list(fixture->store, &filter, remember, &seen, &err), -EINVAL);
    filter = (struct store_filter){.limit = 1, .after = "gone"};
    assert_int_equal(store_violation_list(fixture->store, &filter, remember, &seen, &err), -EINVAL);
    assert_string_equal(err.slug, "cursor-unknown");
    struct store_violation violation = fixture_violation(1, fixture_reserve(fixture, 1));
    record(fixture, &violation);
    seen.stop_after = 1;
    filter.after = NULL;
    assert_int_equal(store_violation_list(fixture->store, &filter, remember, &seen, &err), 77);
    assert_int_equal(store_violation_get(fixture->store, "gone", &violation, &err), -ENOENT);
    assert_string_equal(err.slug, "violation-not-found");
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_violation_reads_back_as_it_was_given),
        WITH_STORE(a_new_violation_is_told_once),
        WITH_STORE(reports_of_one_aggregate_grow_one_row),
        WITH_STORE(the_same_serial_in_another_lease_is_another_violation),
        WITH_STORE(a_violation_of_no_lease_is_refused),
        WITH_STORE(a_report_that_comes_after_the_end_still_counts),
        WITH_STORE(values_outside_the_api_are_refused_and_leave_nothing),
        WITH_STORE(every_code_of_the_api_is_accepted),
        WITH_STORE(pages_join_for_all_and_for_one_lease),
        WITH_STORE(lists_refuse_what_they_cannot_honour),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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
    given.sampling_ppm = 1000000;
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

static void the_time_to_the_machine_s_end_is_noted_for_what_ended_it(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_violation violation = fixture_violation(1, fixture_reserve(fixture, 1));
    record(fixture, &violation);
    assert_int_equal(store_violation_stopped(fixture->store, violation.id.text, 42, &err), -ENOENT);
    assert_string_equal(err.slug, "violation-not-found");
    set_text(violation.verdict, "terminated");
    record(fixture, &violation);
    assert_works(store_violation_stopped(fixture->store, violation.id.text, 42, &err), err);
    assert_int_equal(get(fixture, violation.id).stop_latency_ms, 42);
    assert_int_equal(store_violation_stopped(fixture->store, "gone", 42, &err), -ENOENT);
}

/* ---- what is bounded --------------------------------------------------------------------------------------------- */

static void a_flood_from_one_lease_makes_a_bounded_number_of_rows(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = {""};
    struct id other = fixture_reserve(fixture, 2);
    struct store_violation violation = fixture_violation(0, fixture_reserve(fixture, 1));
    for (unsigned n = 0; n < STORE_VIOLATIONS_MAX + 40; n++) {
        violation = fixture_violation(n, violation.lease_id);
        if (n % 2 == 1) {
            violation.code[0] = '\0';
            set_text(violation.code, "fragment");
        }
        violation.count = 7;
        record(fixture, &violation);
    }
    /* One overflow row for each of the two codes, which count what had no row. */
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM violations"), STORE_VIOLATIONS_MAX + 2);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM violations WHERE overflow = 1"), 2);
    assert_int_equal(fixture_number(fixture, "SELECT min(count) FROM violations WHERE overflow = 1"), 7 + 19);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'violation.detected'"),
                     STORE_VIOLATIONS_MAX + 2);
    /* Rows that are there grow still, another lease is not concerned, and an end is told by the row that took it. */
    violation = fixture_violation(0, violation.lease_id);
    violation.count = 1000;
    record(fixture, &violation);
    assert_int_equal(get(fixture, violation.id).count, 1000);
    violation = fixture_violation(9000, other);
    record(fixture, &violation);
    violation = fixture_violation(9001, fixture_lease(1).id);
    set_text(violation.verdict, "terminated");
    assert_works(store_violation_record(fixture->store, &violation, &id, &err), err);
    assert_string_not_equal(id.text, violation.id.text);
    assert_string_equal(get(fixture, id).verdict, "terminated");
    assert_true(get(fixture, id).overflow);
}

static void evidence_is_purged_by_age_and_its_row_stays(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id lease_id = fixture_reserve(fixture, 1);
    struct store_violation old = fixture_violation(1, lease_id);
    struct store_violation none = fixture_violation(2, lease_id);
    struct store_violation young = fixture_violation(3, lease_id);
    const uint64_t age_ms = UINT64_C(1000) * STORE_EVIDENCE_AGE_S;
    none.evidence_bytes = 0;
    none.first_seen_ms = old.first_seen_ms;
    young.first_seen_ms = old.first_seen_ms + 1;
    record(fixture, &old);
    record(fixture, &none);
    record(fixture, &young);
    assert_works(store_evidence_purge(fixture->store, old.first_seen_ms + age_ms, &err), err);
    assert_int_equal(get(fixture, old.id).evidence_bytes, 3); /* to the millisecond */
    assert_works(store_evidence_purge(fixture->store, old.first_seen_ms + age_ms + 1, &err), err);
    assert_int_equal(get(fixture, old.id).evidence_bytes, 0);
    assert_true(get(fixture, old.id).evidence_purged);
    assert_false(get(fixture, none.id).evidence_purged); /* there was none */
    assert_int_equal(get(fixture, young.id).evidence_bytes, 3);
    assert_false(get(fixture, young.id).evidence_purged);
    assert_works(store_evidence_purge(fixture->store, 0, &err), err);
}

static void evidence_is_kept_of_a_bounded_number_of_violations(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id lease_id = fixture_reserve(fixture, 1);
    struct store_violation first = fixture_violation(1, lease_id);
    record(fixture, &first);
    /* 20 leases' worth of rows, written at once. */
    char sql[1024];
    snprintf(sql, sizeof sql,
             "INSERT INTO violations SELECT NULL, printf('%%036d', n), '%s', n + 100, 1700000001000, 1700000001000, 1,"
             " 'fragment', 'filtered', 'dropped', 'filter', 0, 2048, 17, '', '', 0, '', 0, 60, 1, 5, x'0102', 0, 0, 0"
             " FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT %d) SELECT n FROM c)",
             lease_id.text, STORE_EVIDENCE_KEPT);
    assert_int_equal(fixture_sql(fixture, sql), 0);
    assert_works(store_evidence_purge(fixture->store, first.last_seen_ms, &err), err);
    assert_int_equal(fixture_number(fixture, "SELECT sum(length(evidence) > 0) FROM violations"), STORE_EVIDENCE_KEPT);
    assert_true(get(fixture, first.id).evidence_purged);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM violations"), STORE_EVIDENCE_KEPT + 1);
    assert_works(store_evidence_purge(fixture->store, first.last_seen_ms, &err), err);
    assert_int_equal(fixture_number(fixture, "SELECT sum(length(evidence) > 0) FROM violations"), STORE_EVIDENCE_KEPT);
}

static void recording_purges_now_and_then_by_itself(void **state)
{
    struct store_fixture *fixture = *state;
    struct id lease_id = fixture_reserve(fixture, 1);
    struct store_violation old = fixture_violation(0, lease_id);
    record(fixture, &old);
    unsigned made = 1;
    while (!get(fixture, old.id).evidence_purged && made < 200) {
        struct store_violation young = fixture_violation(made++, lease_id);
        young.first_seen_ms = old.first_seen_ms + UINT64_C(1000) * STORE_EVIDENCE_AGE_S + 1;
        young.last_seen_ms = young.first_seen_ms;
        record(fixture, &young);
    }
    assert_int_equal(made, 64);
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
        WITH_STORE(the_time_to_the_machine_s_end_is_noted_for_what_ended_it),
        WITH_STORE(a_flood_from_one_lease_makes_a_bounded_number_of_rows),
        WITH_STORE(evidence_is_purged_by_age_and_its_row_stays),
        WITH_STORE(evidence_is_kept_of_a_bounded_number_of_violations),
        WITH_STORE(recording_purges_now_and_then_by_itself),
        WITH_STORE(pages_join_for_all_and_for_one_lease),
        WITH_STORE(lists_refuse_what_they_cannot_honour),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

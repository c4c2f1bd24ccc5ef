#include "tests/store/store_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

/* What a callback saw. */
struct seen {
    size_t count;
    size_t stop_after; /* 0: never */
    uint64_t first;
    struct store_event last;
    char data[128];
};

static int remember(void *context, const struct store_event *event)
{
    struct seen *seen = context;
    if (seen->count > 0)
        assert_true(event->sequence > seen->last.sequence);
    else
        seen->first = event->sequence;
    seen->count++;
    seen->last = *event;
    snprintf(seen->data, sizeof seen->data, "%s", event->data);
    return seen->count == seen->stop_after ? 77 : 0;
}

static struct seen list(struct store_fixture *fixture, struct store_filter filter)
{
    struct seen seen = {0};
    struct error err = {0};
    assert_works(store_event_list(fixture->store, &filter, remember, &seen, &err), err);
    return seen;
}

static void append(struct store_fixture *fixture, const char *lease_id)
{
    struct error err = {0};
    assert_works(store_event_append(fixture->store, "node.drain_changed", lease_id, "{\"drain\":true}", 5, &err), err);
}

static void an_event_reads_back_as_it_was_given(void **state)
{
    struct store_fixture *fixture = *state;
    struct id id = fixture_lease(1).id; /* events need no lease row: they outlive it */
    append(fixture, NULL);
    struct seen seen = list(fixture, (struct store_filter){.limit = 10});
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.last.sequence, 1);
    assert_int_equal(seen.last.at_ms, 5);
    assert_string_equal(seen.last.type, "node.drain_changed");
    assert_string_equal(seen.last.lease_id, "");
    assert_string_equal(seen.data, "{\"drain\":true}");
    append(fixture, id.text);
    seen = list(fixture, (struct store_filter){.limit = 10});
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.last.lease_id, id.text);
}

static void sequences_rise_by_one_past_a_transaction_that_failed(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    append(fixture, NULL);
    assert_int_equal(store_event_append(fixture->store, "node.drain_changed", NULL, "nothing", 1, &err), -EINVAL);
    append(fixture, NULL);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 10}).last.sequence, 2);
    store_fixture_close(fixture);
    store_fixture_open(fixture);
    append(fixture, NULL);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 10}).last.sequence, 3);
}

static void a_page_begins_after_its_cursor(void **state)
{
    struct store_fixture *fixture = *state;
    for (unsigned i = 0; i < 25; i++)
        append(fixture, NULL);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 10, .after = "0"}).last.sequence, 10);
    struct seen seen = list(fixture, (struct store_filter){.limit = 10, .after = "20"});
    assert_int_equal(seen.count, 5);
    assert_int_equal(seen.first, 21);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 10, .after = "25"}).count, 0);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 10, .after = "999999999999999999"}).count, 0);
}

static void events_of_one_lease_are_found_among_all(void **state)
{
    struct store_fixture *fixture = *state;
    struct id id = fixture_reserve(fixture, 1);
    fixture_reserve(fixture, 2);
    append(fixture, id.text);
    append(fixture, NULL);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 10, .lease_id = id.text}).count, 2);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 10, .lease_id = id.text, .after = "1"}).count, 1);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 10, .lease_id = ""}).count, 0);
}

static void a_cursor_that_is_no_number_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    static const char *const cursors[] = {"", "-1", "1x", " 1", "0x1", "1234567890123456789", "18446744073709551616"};
    for (size_t i = 0; i < sizeof cursors / sizeof cursors[0]; i++) {
        struct error err = {0};
        struct seen seen = {0};
        struct store_filter filter = {.limit = 1, .after = cursors[i]};
        assert_int_equal(store_event_list(fixture->store, &filter, remember, &seen, &err), -EINVAL);
        assert_string_equal(err.slug, "cursor-unknown");
    }
}

static void a_callback_stops_the_list(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    for (unsigned i = 0; i < 5; i++)
        append(fixture, NULL);
    struct seen seen = {.stop_after = 2};
    struct store_filter filter = {.limit = 5};
    assert_int_equal(store_event_list(fixture->store, &filter, remember, &seen, &err), 77);
    assert_int_equal(seen.count, 2);
}

static void what_is_no_event_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    static const struct {
        const char *type;
        const char *lease_id;
        const char *data;
    } cases[] = {
        {"node", NULL, "{}"},
        {"Node.changed", NULL, "{}"},
        {"node.changed now", NULL, "{}"},
        {"node.a_word_that_is_far_too_long_for_it", NULL, "{}"},
        {NULL, NULL, "{}"},
        {"node.changed", "short", "{}"},
        {"node.changed", NULL, "[]"},
        {"node.changed", NULL, "{"},
        {"node.changed", NULL, "{a}"},
        {"node.changed", NULL, ""},
        {"node.changed", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {0};
        if (store_event_append(fixture->store, cases[i].type, cases[i].lease_id, cases[i].data, 1, &err) != -EINVAL)
            fail_msg("case %zu: %d %s", i, err.code, err.message);
    }
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), 0);
}

static void data_is_bounded(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    static char data[STORE_EVENT_DATA_BYTES + 1];
    memset(data, ' ', STORE_EVENT_DATA_BYTES);
    data[0] = '{';
    data[STORE_EVENT_DATA_BYTES - 1] = '}';
    assert_int_equal(store_event_append(fixture->store, "node.changed", NULL, data, 1, &err), -EINVAL);
    data[STORE_EVENT_DATA_BYTES - 2] = '}';
    data[STORE_EVENT_DATA_BYTES - 1] = '\0';
    assert_works(store_event_append(fixture->store, "node.changed", NULL, data, 1, &err), err);
}

static void the_newest_events_are_kept_and_the_oldest_go(void **state)
{
    struct store_fixture *fixture = *state;
    char sql[256];
    append(fixture, NULL);
    snprintf(sql, sizeof sql,
             "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
             " INSERT INTO events SELECT i, 0, 'node.changed', NULL, '{}' FROM n",
             STORE_EVENTS_KEPT);
    assert_int_equal(fixture_sql(fixture, sql), 0);
    for (int i = 0; i < STORE_EVENTS_PRUNE; i++) {
        append(fixture, NULL);
        int64_t newest = STORE_EVENTS_KEPT + i + 1;
        int64_t oldest = (int64_t)list(fixture, (struct store_filter){.limit = 1}).first;
        if (newest % STORE_EVENTS_PRUNE == 0)
            assert_int_equal(oldest, newest - STORE_EVENTS_KEPT + 1);
        assert_true(oldest <= newest - STORE_EVENTS_KEPT + 1); /* never fewer than promised */
    }
    int64_t kept = fixture_number(fixture, "SELECT count(*) FROM events");
    assert_in_range(kept, STORE_EVENTS_KEPT, STORE_EVENTS_KEPT + STORE_EVENTS_PRUNE - 1);
    assert_int_equal(fixture_number(fixture, "SELECT max(sequence) - min(sequence) + 1 FROM events"), kept);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(an_event_reads_back_as_it_was_given),
        WITH_STORE(sequences_rise_by_one_past_a_transaction_that_failed),
        WITH_STORE(a_page_begins_after_its_cursor),
        WITH_STORE(events_of_one_lease_are_found_among_all),
        WITH_STORE(a_cursor_that_is_no_number_is_refused),
        WITH_STORE(a_callback_stops_the_list),
        WITH_STORE(what_is_no_event_is_refused),
        WITH_STORE(data_is_bounded),
        WITH_STORE(the_newest_events_are_kept_and_the_oldest_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

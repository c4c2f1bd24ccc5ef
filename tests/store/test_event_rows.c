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

static void an_event_is_told_with_the_trace_of_its_lease(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_lease lease = fixture_lease(1);
    struct store_resources room = fixture_capacity(9);
    set_text(lease.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_works(store_lease_reserve(fixture->store, &lease, &room, &err), err);
    struct seen seen = list(fixture, (struct store_filter){.limit = 10, .lease_id = lease.id.text});
    assert_string_equal(seen.last.trace_id, lease.trace_id);
    append(fixture, NULL);
    seen = list(fixture, (struct store_filter){.limit = 10});
    assert_string_equal(seen.last.trace_id, "");
    struct store_lease back;
    assert_works(store_lease_get(fixture->store, lease.id.text, &back, &err), err);
    assert_string_equal(back.trace_id, lease.trace_id);
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

/* The cursor of an event; the text is valid until the next call. */
static const char *cursor_of(struct store_fixture *fixture, uint64_t sequence)
{
    static char text[STORE_CURSOR_BYTES];
    snprintf(text, sizeof text, "%s-%llu", store_epoch(fixture->store), (unsigned long long)sequence);
    return text;
}

static void a_page_begins_after_its_cursor(void **state)
{
    struct store_fixture *fixture = *state;
    for (unsigned i = 0; i < 25; i++)
        append(fixture, NULL);
    struct store_filter filter = {.limit = 10, .after = cursor_of(fixture, 0)};
    assert_int_equal(list(fixture, filter).last.sequence, 10);
    filter.after = cursor_of(fixture, 20);
    struct seen seen = list(fixture, filter);
    assert_int_equal(seen.count, 5);
    assert_int_equal(seen.first, 21);
    filter.after = cursor_of(fixture, 25);
    assert_int_equal(list(fixture, filter).count, 0);
}

/* What the list and the place say of a cursor; both must agree. */
static void assert_refused(struct store_fixture *fixture, const char *cursor, int code, const char *slug)
{
    struct error err = {0};
    struct seen seen = {0};
    uint64_t sequence = 77;
    struct store_filter filter = {.limit = 5, .after = cursor};
    assert_int_equal(store_event_list(fixture->store, &filter, remember, &seen, &err), code);
    assert_string_equal(err.slug, slug);
    assert_int_equal(seen.count, 0);
    assert_int_equal(store_event_place(fixture->store, cursor, &sequence, &err), code);
    assert_string_equal(err.slug, slug);
    assert_int_equal(sequence, 77);
}

static void a_cursor_that_would_leave_a_gap_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    for (unsigned i = 0; i < 9; i++)
        append(fixture, NULL);
    assert_refused(fixture, cursor_of(fixture, 10), -ERANGE, "events-ahead");
    assert_refused(fixture, cursor_of(fixture, 999999999999999999), -ERANGE, "events-ahead");
    assert_refused(fixture, "0123456789abcdef-3", -ESTALE, "events-epoch-changed");
    assert_int_equal(fixture_sql(fixture, "DELETE FROM events WHERE sequence <= 4"), 0);
    assert_refused(fixture, cursor_of(fixture, 0), -ENODATA, "events-pruned");
    assert_refused(fixture, cursor_of(fixture, 3), -ENODATA, "events-pruned");
    uint64_t sequence = 0;
    assert_works(store_event_place(fixture->store, cursor_of(fixture, 4), &sequence, &err), err);
    assert_int_equal(sequence, 4);
    struct store_event_bounds bounds;
    assert_works(store_event_bounds(fixture->store, &bounds, &err), err);
    assert_int_equal(bounds.oldest, 5);
    assert_int_equal(bounds.newest, 9);
}

static void the_log_keeps_its_name_and_a_new_one_has_another(void **state)
{
    struct store_fixture *fixture = *state;
    char first[STORE_EPOCH_BYTES];
    set_text(first, store_epoch(fixture->store));
    assert_int_equal(strlen(first), STORE_EPOCH_BYTES - 1);
    store_fixture_close(fixture);
    store_fixture_open(fixture);
    assert_string_equal(store_epoch(fixture->store), first);
    store_fixture_close(fixture);
    assert_int_equal(remove(fixture->path), 0);
    store_fixture_open(fixture);
    assert_string_not_equal(store_epoch(fixture->store), first);
}

static void note(void *context)
{
    ++*(unsigned *)context;
}

static void commits_with_events_are_told_and_failures_are_not(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    unsigned told = 0;
    store_on_event(fixture->store, note, &told);
    append(fixture, NULL);
    assert_int_equal(told, 1);
    assert_int_equal(store_event_append(fixture->store, "node.drain_changed", NULL, "nothing", 1, &err), -EINVAL);
    assert_works(store_check(fixture->store, &err), err);
    assert_int_equal(told, 1);
    struct id id = fixture_reserve(fixture, 1);
    assert_int_equal(told, 2);
    const struct store_process process = {.pid = 7, .start_ticks = 1, .boot_id = id.text, .accelerator = "tcg"};
    assert_works(store_lease_spawned(fixture->store, id.text, &process, &err), err); /* no event */
    assert_int_equal(told, 2);
    store_on_event(fixture->store, NULL, NULL);
    append(fixture, NULL);
    assert_int_equal(told, 2);
}

static void a_follower_reads_on_and_sees_what_was_pruned(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct seen seen = {0};
    struct store_event_bounds bounds;
    for (unsigned i = 0; i < 9; i++)
        append(fixture, NULL);
    assert_int_equal(fixture_sql(fixture, "DELETE FROM events WHERE sequence <= 4"), 0);
    const struct store_follow follow = {.after = 2, .limit = 3};
    assert_works(store_event_follow(fixture->store, &follow, remember, &seen, &bounds, &err), err);
    assert_int_equal(seen.first, 5);
    assert_int_equal(seen.count, 3);
    assert_int_equal(bounds.oldest, 5);
    assert_int_equal(bounds.newest, 9);
}

static void events_of_one_lease_are_found_among_all(void **state)
{
    struct store_fixture *fixture = *state;
    struct id id = fixture_reserve(fixture, 1);
    fixture_reserve(fixture, 2);
    append(fixture, id.text);
    append(fixture, NULL);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 10, .lease_id = id.text}).count, 2);
    assert_int_equal(
        list(fixture, (struct store_filter){.limit = 10, .lease_id = id.text, .after = cursor_of(fixture, 1)}).count,
        1);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 10, .lease_id = ""}).count, 0);
}

static void what_is_no_cursor_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    static const char *const cursors[] = {"",
                                          "7",
                                          "0123456789abcdef",
                                          "0123456789abcdef-",
                                          "0123456789abcdef--1",
                                          "0123456789abcdef-1x",
                                          "0123456789abcdef- 1",
                                          "0123456789abcdef-01",
                                          "0123456789ABCDEF-1",
                                          "0123456789abcde-1",
                                          "0123456789abcdef0-1",
                                          "0123456789abcdef-1234567890123456789"};
    for (size_t i = 0; i < sizeof cursors / sizeof cursors[0]; i++)
        assert_refused(fixture, cursors[i], -EINVAL, "cursor-unknown");
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
        WITH_STORE(an_event_is_told_with_the_trace_of_its_lease),
        WITH_STORE(sequences_rise_by_one_past_a_transaction_that_failed),
        WITH_STORE(a_page_begins_after_its_cursor),
        WITH_STORE(events_of_one_lease_are_found_among_all),
        WITH_STORE(what_is_no_cursor_is_refused),
        WITH_STORE(a_cursor_that_would_leave_a_gap_is_refused),
        WITH_STORE(the_log_keeps_its_name_and_a_new_one_has_another),
        WITH_STORE(commits_with_events_are_told_and_failures_are_not),
        WITH_STORE(a_follower_reads_on_and_sees_what_was_pruned),
        WITH_STORE(a_callback_stops_the_list),
        WITH_STORE(what_is_no_event_is_refused),
        WITH_STORE(data_is_bounded),
        WITH_STORE(the_newest_events_are_kept_and_the_oldest_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/store/store_fixture.h"

#include <errno.h>
#include <string.h>

/* What a callback saw. */
struct seen {
    size_t count;
    size_t stop_after; /* 0: never */
    struct store_lease last;
    struct id ids[STORE_PAGE_MAX];
};

static int remember(void *context, const struct store_lease *lease)
{
    struct seen *seen = context;
    assert_true(seen->count < STORE_PAGE_MAX);
    seen->ids[seen->count++] = lease->id;
    seen->last = *lease;
    return seen->count == seen->stop_after ? 77 : 0;
}

static struct seen list(struct store_fixture *fixture, struct store_filter filter)
{
    static struct seen seen;
    struct error err = {0};
    memset(&seen, 0, sizeof seen);
    assert_works(store_lease_list(fixture->store, &filter, remember, &seen, &err), err);
    return seen;
}

static void pages_of_more_rows_than_the_limit_join_without_gap_or_repetition(void **state)
{
    struct store_fixture *fixture = *state;
    struct id made[23];
    for (unsigned n = 0; n < 23; n++)
        made[n] = fixture_reserve(fixture, 100 - n); /* ids fall while time goes on, as after a step of the clock */
    struct id cursor = {""};
    size_t total = 0;
    for (size_t pages = 0; pages < 3; pages++) {
        struct store_filter filter = {.limit = 10, .after = pages == 0 ? NULL : cursor.text};
        struct seen page = list(fixture, filter);
        assert_int_equal(page.count, pages < 2 ? 10 : 3);
        for (size_t i = 0; i < page.count; i++)
            assert_string_equal(page.ids[i].text, made[total++].text);
        cursor = page.ids[page.count - 1];
    }
    assert_int_equal(list(fixture, (struct store_filter){.limit = 10, .after = cursor.text}).count, 0);
}

static void the_newest_come_first_when_asked_for_and_pages_join_too(void **state)
{
    struct store_fixture *fixture = *state;
    struct id made[7];
    for (unsigned n = 0; n < 7; n++)
        made[n] = fixture_reserve(fixture, 100 - n);
    struct seen first = list(fixture, (struct store_filter){.limit = 5, .newest_first = true});
    struct store_filter filter = {.limit = 5, .newest_first = true, .after = first.ids[4].text};
    struct id kept = first.ids[4];
    assert_int_equal(first.count, 5);
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(first.ids[i].text, made[6 - i].text);
    filter.after = kept.text;
    struct seen second = list(fixture, filter);
    assert_int_equal(second.count, 2);
    assert_string_equal(second.ids[0].text, made[1].text);
    assert_string_equal(second.ids[1].text, made[0].text);
    filter = (struct store_filter){.limit = 5, .newest_first = true, .state = "pending", .after = kept.text};
    assert_int_equal(list(fixture, filter).count, 2);
}

static void a_list_of_nothing_is_empty(void **state)
{
    struct store_fixture *fixture = *state;
    assert_int_equal(list(fixture, (struct store_filter){.limit = 1}).count, 0);
}

static void filters_by_state_mode_and_id_leave_out_all_else(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_end end = fixture_end();
    struct store_resources capacity = fixture_capacity(100);
    for (unsigned n = 0; n < 12; n++) {
        struct store_lease lease = fixture_lease(n);
        set_text(lease.mode, n % 3 == 0 ? "direct" : "filtered");
        assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err);
        if (n % 2 == 0)
            assert_works(store_lease_terminate(fixture->store, lease.id.text, &end, &err), err);
    }
    assert_int_equal(list(fixture, (struct store_filter){.limit = 200}).count, 12);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 200, .state = "pending"}).count, 6);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 200, .state = "running"}).count, 0);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 200, .mode = "direct"}).count, 4);
    assert_int_equal(list(fixture, (struct store_filter){.limit = 200, .mode = "' OR 1"}).count, 0);
    struct seen both = list(fixture, (struct store_filter){.limit = 200, .mode = "direct", .state = "terminated"});
    assert_int_equal(both.count, 2);
    assert_string_equal(both.last.mode, "direct");
    assert_int_equal(both.last.state, LEASE_TERMINATED);
    assert_int_equal(both.last.reason, LEASE_RELEASED);
    struct id one = fixture_lease(5).id;
    struct seen single = list(fixture, (struct store_filter){.limit = 200, .lease_id = one.text});
    assert_int_equal(single.count, 1);
    assert_string_equal(single.ids[0].text, one.text);
    struct id second = fixture_lease(1).id;
    assert_int_equal(list(fixture, (struct store_filter){.limit = 2, .state = "pending", .after = second.text}).count,
                     2);
}

static void terminations_are_the_leases_that_have_ended(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_end end = fixture_end();
    for (unsigned n = 0; n < 9; n++) {
        struct id id = fixture_reserve(fixture, n);
        if (n >= 4)
            assert_works(store_lease_terminate(fixture->store, id.text, &end, &err), err);
    }
    struct seen seen = {0};
    struct store_filter filter = {.limit = 3};
    assert_works(store_termination_list(fixture->store, &filter, remember, &seen, &err), err);
    assert_int_equal(seen.count, 3);
    assert_string_equal(seen.ids[0].text, fixture_lease(4).id.text);
    struct id cursor = seen.ids[2];
    filter.after = cursor.text;
    seen = (struct seen){0};
    assert_works(store_termination_list(fixture->store, &filter, remember, &seen, &err), err);
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.ids[1].text, fixture_lease(8).id.text);
}

static void a_callback_stops_the_list_and_its_answer_is_handed_on(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    for (unsigned n = 0; n < 5; n++)
        fixture_reserve(fixture, n);
    struct seen seen = {.stop_after = 2};
    struct store_filter filter = {.limit = 5};
    assert_int_equal(store_lease_list(fixture->store, &filter, remember, &seen, &err), 77);
    assert_int_equal(seen.count, 2);
    assert_int_equal(list(fixture, filter).count, 5); /* the reader is free again */
}

static void conditions_that_make_no_sense_are_refused(void **state)
{
    struct store_fixture *fixture = *state;
    fixture_reserve(fixture, 1);
    static const struct {
        struct store_filter filter;
        const char *slug;
    } cases[] = {
        {{.limit = 0}, "limit-invalid"},
        {{.limit = STORE_PAGE_MAX + 1}, "limit-invalid"},
        {{.limit = 1, .state = "asleep"}, "state-unknown"},
        {{.limit = 1, .after = "01890000-0000-7000-8000-000000000000"}, "cursor-unknown"},
        {{.limit = 1, .after = ""}, "cursor-unknown"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {0};
        struct seen seen = {0};
        assert_int_equal(store_lease_list(fixture->store, &cases[i].filter, remember, &seen, &err), -EINVAL);
        assert_string_equal(err.slug, cases[i].slug);
        assert_int_equal(store_termination_list(fixture->store, &cases[i].filter, remember, &seen, NULL), -EINVAL);
        assert_int_equal(seen.count, 0);
    }
    assert_int_equal(list(fixture, (struct store_filter){.limit = STORE_PAGE_MAX}).count, 1);
}

static void a_stored_text_longer_than_its_field_is_an_error_and_not_cut(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = fixture_reserve(fixture, 1);
    struct store_lease lease = {.generation = 123};
    /* 64 characters pass the schema's CHECK, but these have two bytes each. */
    assert_int_equal(fixture_sql(fixture, "UPDATE leases SET generation = generation + 1,"
                                          " image = replace(printf('%64s', ''), ' ', char(233))"),
                     0);
    assert_int_equal(store_lease_get(fixture->store, id.text, &lease, &err), -EUCLEAN);
    assert_non_null(strstr(err.message, "image"));
    assert_int_equal(lease.generation, 123); /* untouched */
    struct seen seen = {0};
    struct store_filter filter = {.limit = 1};
    assert_int_equal(store_lease_list(fixture->store, &filter, remember, &seen, &err), -EUCLEAN);
    assert_int_equal(seen.count, 0);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

static int note_number(void *context, const struct store_lease *lease)
{
    char *text = context;
    size_t used = strlen(text);
    snprintf(text + used, 64 - used, "%c", lease->labels[strlen(lease->labels) - 3]);
    return 0;
}

/* The last letter of the labels of each lease in the list. */
static const char *labelled(struct store_fixture *fixture, const char *key, const char *value, const char *state,
                            bool newest, char ret_text[static 64])
{
    struct error err = {0};
    const struct store_filter filter = {
        .label_key = key, .label_value = value, .state = state, .limit = 10, .newest_first = newest};
    ret_text[0] = '\0';
    assert_works(store_lease_list(fixture->store, &filter, note_number, ret_text, &err), err);
    return ret_text;
}

static void a_label_finds_its_leases_and_goes_with_them(void **state)
{
    struct store_fixture *fixture = *state;
    static const char *const labels[] = {"{\"team\":\"a\"}", "{\"x/team\":\"\",\"team\":\"b\"}", "{}",
                                         "{\"n\":\"1\",\"team\":\"a\"}"};
    const struct store_resources capacity = fixture_capacity(4);
    const struct store_end end = fixture_end();
    struct error err = {0};
    char text[64];
    for (unsigned n = 0; n < 4; n++) {
        struct store_lease lease = fixture_lease(n);
        set_text(lease.labels, labels[n]);
        assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err);
    }
    assert_string_equal(labelled(fixture, "team", "a", NULL, false, text), "aa");
    assert_string_equal(labelled(fixture, "team", "b", NULL, true, text), "b");
    assert_string_equal(labelled(fixture, "x/team", "", NULL, false, text), "b");
    assert_string_equal(labelled(fixture, "team", "A", NULL, false, text), "");
    assert_string_equal(labelled(fixture, "team", "", NULL, false, text), "");
    assert_works(store_lease_terminate(fixture->store, fixture_lease(0).id.text, &end, &err), err);
    assert_string_equal(labelled(fixture, "team", "a", "terminated", false, text), "a");
    assert_string_equal(labelled(fixture, "team", "a", "pending", true, text), "a");
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM lease_labels"), 5);
    assert_int_equal(fixture_sql(fixture, "PRAGMA foreign_keys = ON; DELETE FROM leases WHERE state = 'terminated'"),
                     0);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM lease_labels"), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(pages_of_more_rows_than_the_limit_join_without_gap_or_repetition),
        WITH_STORE(a_label_finds_its_leases_and_goes_with_them),
        WITH_STORE(the_newest_come_first_when_asked_for_and_pages_join_too),
        WITH_STORE(a_list_of_nothing_is_empty),
        WITH_STORE(filters_by_state_mode_and_id_leave_out_all_else),
        WITH_STORE(terminations_are_the_leases_that_have_ended),
        WITH_STORE(a_callback_stops_the_list_and_its_answer_is_handed_on),
        WITH_STORE(conditions_that_make_no_sense_are_refused),
        WITH_STORE(a_stored_text_longer_than_its_field_is_an_error_and_not_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

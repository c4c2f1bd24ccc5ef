/* Pages of events, and what begins a stream of them; the store is real. */
#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "api/resource/api.h"
#include "api/resource/handle.h"
#include "tests/cmocka.h"
#include "tests/store/store_fixture.h"

/* One GET /v1/events. @query: as "limit=2&after=x", or "". Owner of the result: the caller. */
static json_t *ask(struct store_fixture *fixture, const char *query, unsigned *ret_status)
{
    const struct api api = {.store = fixture->store};
    static struct request request;
    struct response response = {0};
    char target[256];
    request = (struct request){.method = REQUEST_GET};
    snprintf(target, sizeof target, "/v1/events?%s", query);
    assert_int_equal(request_parse_target(&request, target, NULL), 0);
    handle_event_list((void *)(uintptr_t)&api, &request, &response);
    *ret_status = response.status;
    json_t *tree = json_loadb((const char *)response.body, response.body_bytes, 0, NULL);
    response_done(&response);
    assert_non_null(tree);
    return tree;
}

static const char *text(const json_t *tree, const char *name)
{
    return json_string_value(json_object_get(tree, name));
}

static void pages_follow_each_other_and_leave_nothing_out(void **state)
{
    struct store_fixture *fixture = *state;
    char query[128] = "limit=3";
    unsigned status;
    json_int_t next = 1;
    for (unsigned i = 0; i < 8; i++)
        fixture_reserve(fixture, i);
    for (size_t left = 8; left > 0;) {
        json_t *page = ask(fixture, query, &status);
        assert_int_equal(status, 200);
        const json_t *items = json_object_get(page, "items");
        assert_int_equal(json_array_size(items), left < 3 ? left : 3);
        for (size_t at = 0; at < json_array_size(items); at++)
            assert_int_equal(json_integer_value(json_object_get(json_array_get(items, at), "sequence")), next++);
        left -= json_array_size(items);
        snprintf(query, sizeof query, "limit=3&after=%s", text(page, "next_cursor"));
        json_decref(page);
    }
    /* The end of the log keeps its cursor, so that a poller can go on with it. */
    json_t *empty = ask(fixture, query, &status);
    assert_int_equal(json_array_size(json_object_get(empty, "items")), 0);
    assert_string_equal(text(empty, "next_cursor"), strrchr(query, '=') + 1);
    json_decref(empty);
}

static void a_filtered_page_moves_its_cursor_past_what_it_left_out(void **state)
{
    struct store_fixture *fixture = *state;
    char query[128];
    unsigned status;
    struct id id = fixture_reserve(fixture, 1);
    for (unsigned i = 2; i < 7; i++)
        fixture_reserve(fixture, i);
    snprintf(query, sizeof query, "lease_id=%s", id.text);
    json_t *page = ask(fixture, query, &status);
    assert_int_equal(json_array_size(json_object_get(page, "items")), 1);
    const char *cursor = text(page, "next_cursor");
    assert_string_equal(strrchr(cursor, '-'), "-6"); /* not -1, which may be pruned long before the next one comes */
    json_decref(page);
    page = ask(fixture, "after=latest", &status);
    assert_int_equal(json_array_size(json_object_get(page, "items")), 0);
    assert_string_equal(strrchr(text(page, "next_cursor"), '-'), "-6");
    json_decref(page);
}

static void cursors_that_are_none_and_that_were_pruned_are_told(void **state)
{
    struct store_fixture *fixture = *state;
    unsigned status;
    char query[128];
    for (unsigned i = 0; i < 5; i++)
        fixture_reserve(fixture, i);
    const char *const bad[] = {"after=x", "after=", "limit=0", "limit=x", "lease_id=x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_decref(ask(fixture, bad[i], &status));
        assert_int_equal(status, 400);
    }
    assert_int_equal(fixture_sql(fixture, "DELETE FROM events WHERE sequence <= 3"), 0);
    snprintf(query, sizeof query, "after=%s-1", store_epoch(fixture->store));
    json_t *gone = ask(fixture, query, &status);
    assert_int_equal(status, 410);
    assert_string_equal(text(gone, "type"), "/v1/problems/events-pruned");
    json_decref(gone);
}

/* One request for a stream. Return: the status, or 0 when a stream is ready. */
static unsigned follow(struct store_fixture *fixture, struct event_feed *feed, const char *query, const char *last)
{
    const struct api api = {.store = fixture->store, .feed = feed};
    static struct request request;
    struct response response = {0};
    char target[256];
    request = (struct request){.method = REQUEST_GET, .wants_stream = true, .last_event_id = last};
    snprintf(target, sizeof target, "/v1/events?%s", query);
    assert_int_equal(request_parse_target(&request, target, NULL), 0);
    handle_event_list((void *)(uintptr_t)&api, &request, &response);
    unsigned status = response.stream.read != NULL ? 0 : response.status;
    response_done(&response);
    return status;
}

static void a_stream_begins_where_its_reader_ended(void **state)
{
    struct store_fixture *fixture = *state;
    struct streams *streams;
    struct event_feed *feed;
    struct error err = {0};
    char last[64];
    fixture_reserve(fixture, 1);
    fixture_reserve(fixture, 2);
    assert_works(streams_open(NULL, &streams, &err), err);
    assert_works(event_feed_open(fixture->store, streams, &feed, &err), err);
    snprintf(last, sizeof last, "%s-1", store_epoch(fixture->store));
    assert_int_equal(follow(fixture, feed, "", NULL), 0);
    assert_int_equal(follow(fixture, feed, "after=latest", NULL), 0);
    assert_int_equal(follow(fixture, feed, "", last), 0);
    assert_int_equal(follow(fixture, feed, "after=latest", last), 0); /* who comes again sends both */
    assert_int_equal(follow(fixture, feed, "", "nothing"), 400);
    assert_int_equal(follow(fixture, feed, "limit=5", NULL), 400);
    assert_int_equal(follow(fixture, feed, "after=nothing", NULL), 400);
    snprintf(last, sizeof last, "%s-99", store_epoch(fixture->store));
    assert_true(follow(fixture, feed, "", last) >= 400); /* nobody was ever told of that one */
    event_feed_close(feed);
    streams_close(streams);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, store_fixture_setup, store_fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_STORE(pages_follow_each_other_and_leave_nothing_out),
        WITH_STORE(a_filtered_page_moves_its_cursor_past_what_it_left_out),
        WITH_STORE(cursors_that_are_none_and_that_were_pruned_are_told),
        WITH_STORE(a_stream_begins_where_its_reader_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

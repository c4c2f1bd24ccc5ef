/* The source is asked as the streams' thread would ask it; no socket is needed. */
#include "api/resource/event_feed.h"

#include <stdlib.h>
#include <string.h>

#include "tests/store/store_fixture.h"

struct world {
    struct store_fixture *fixture;
    struct streams *streams;
    struct event_feed *feed;
};

static int open_world(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    struct error err = {0};
    store_fixture_setup((void **)&world->fixture);
    assert_works(streams_open(NULL, &world->streams, &err), err);
    assert_works(event_feed_open(world->fixture->store, world->streams, &world->feed, &err), err);
    *state = world;
    return 0;
}

static int close_world(void **state)
{
    struct world *world = *state;
    streams_close(world->streams);
    event_feed_close(world->feed);
    store_fixture_teardown((void **)&world->fixture);
    free(world);
    return 0;
}

static void append(struct world *world, const char *lease_id, const char *data)
{
    struct error err = {0};
    assert_works(store_event_append(world->fixture->store, "test.made", lease_id, data, 5, &err), err);
}

static struct stream_source follow(struct world *world, uint64_t after, const char *lease_id)
{
    struct stream_source source;
    assert_int_equal(event_feed_follow(world->feed, after, lease_id, &source), 0);
    return source;
}

/* What a follower was told since the last look. */
struct told {
    size_t opened;
    size_t gaps;
    size_t events;
    unsigned long long first;
    unsigned long long last;
    unsigned long long gap_first;
    unsigned long long gap_last;
};

static unsigned long long number_after(const char *text, const char *word)
{
    const char *found = strstr(text, word);
    assert_non_null(found);
    return strtoull(found + strlen(word) + STORE_EPOCH_BYTES, NULL, 10); /* past "EPOCH-" */
}

static void count_frame(const char *frame, struct told *told)
{
    if (strstr(frame, "\nevent: stream.opened\n") != NULL) {
        told->opened++;
    } else if (strstr(frame, "\nevent: stream.gap\n") != NULL) {
        told->gaps++;
        told->gap_first = number_after(frame, "\"first_missing\":\"");
        told->gap_last = number_after(frame, "\"last_missing\":\"");
    } else {
        unsigned long long sequence = number_after(frame, "id: ");
        assert_non_null(strstr(frame, "\nevent: test.made\ndata: {\"id\":\""));
        assert_true(told->events == 0 || sequence > told->last);
        told->first = told->events == 0 ? sequence : told->first;
        told->last = sequence;
        told->events++;
    }
}

/* Ask until there is nothing more. */
static struct told read_all(struct stream_source *source)
{
    static char bytes[STREAM_BUFFER_BYTES + 1];
    struct told told = {0};
    enum stream_step step;
    do {
        struct stream_text text = {.bytes = bytes, .capacity = STREAM_BUFFER_BYTES};
        step = source->read(source->state, &text);
        assert_int_not_equal(step, STREAM_END);
        bytes[text.used] = '\0';
        for (char *frame = bytes, *end; (end = strstr(frame, "\n\n")) != NULL; frame = end + 2) {
            *end = '\0';
            count_frame(frame, &told);
        }
    } while (step == STREAM_MORE);
    return told;
}

static void a_follower_hears_what_comes_and_nothing_twice(void **state)
{
    struct world *world = *state;
    struct stream_source source = follow(world, 0, NULL);
    struct told told = read_all(&source);
    assert_int_equal(told.opened, 1);
    assert_int_equal(told.events, 0);
    append(world, NULL, "{}");
    append(world, NULL, "{}");
    told = read_all(&source);
    assert_int_equal(told.opened, 0);
    assert_int_equal(told.events, 2);
    assert_int_equal(told.first, 1);
    assert_int_equal(read_all(&source).events, 0);
    append(world, NULL, "{}");
    assert_int_equal(read_all(&source).first, 3);
    source.done(source.state);
}

static void one_that_is_far_behind_reads_the_store_and_catches_up(void **state)
{
    struct world *world = *state;
    struct stream_source live = follow(world, 0, NULL);
    for (int i = 0; i < EVENT_FEED_FRAMES * 2 + 7; i++) {
        append(world, NULL, "{\"x\": 1}");
        if (i % 100 == 0)
            read_all(&live);
    }
    struct stream_source late = follow(world, 1, NULL);
    struct told told = read_all(&late);
    assert_int_equal(told.events, EVENT_FEED_FRAMES * 2 + 6);
    assert_int_equal(told.first, 2);
    assert_int_equal(told.last, EVENT_FEED_FRAMES * 2 + 7);
    assert_int_equal(told.gaps, 0);
    append(world, NULL, "{}");
    assert_int_equal(read_all(&late).events, 1);
    told = read_all(&live);
    assert_int_equal(told.last, EVENT_FEED_FRAMES * 2 + 8);
    live.done(live.state);
    late.done(late.state);
}

static void a_follower_of_one_lease_hears_of_it_alone(void **state)
{
    struct world *world = *state;
    struct id mine = fixture_lease(1).id;
    struct id other = fixture_lease(2).id;
    append(world, mine.text, "{}");
    append(world, other.text, "{}");
    append(world, NULL, "{}");
    struct stream_source source = follow(world, 0, mine.text);
    struct told told = read_all(&source);
    assert_int_equal(told.events, 1);
    assert_int_equal(told.first, 1);
    append(world, other.text, "{}");
    append(world, mine.text, "{}");
    told = read_all(&source);
    assert_int_equal(told.events, 1);
    assert_int_equal(told.first, 5);
    source.done(source.state);
}

static void events_that_are_gone_are_told_as_a_gap(void **state)
{
    struct world *world = *state;
    struct stream_source early = follow(world, 0, NULL);
    for (int i = 0; i < EVENT_FEED_FRAMES + 100; i++)
        append(world, NULL, "{}");
    assert_int_equal(fixture_sql(world->fixture, "DELETE FROM events WHERE sequence <= 20"), 0);
    struct told told = read_all(&early);
    assert_int_equal(told.gaps, 1);
    assert_int_equal(told.gap_first, 1);
    assert_int_equal(told.gap_last, 20);
    assert_int_equal(told.first, 21);
    assert_int_equal(told.events, EVENT_FEED_FRAMES + 80);
    early.done(early.state);
}

static void the_largest_events_are_told_too(void **state)
{
    struct world *world = *state;
    static char data[STORE_EVENT_DATA_BYTES];
    snprintf(data, sizeof data, "{\"x\":\"");
    memset(data + 6, 'y', sizeof data - 9);
    snprintf(data + sizeof data - 3, 3, "\"}");
    struct stream_source source = follow(world, 0, NULL);
    for (int i = 0; i < 80; i++) /* more than the ring may hold in bytes */
        append(world, NULL, data);
    struct told told = read_all(&source);
    assert_int_equal(told.events, 80);
    assert_int_equal(told.gaps, 0);
    append(world, NULL, data);
    assert_int_equal(read_all(&source).events, 1);
    source.done(source.state);
}

#define WITH_WORLD(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(a_follower_hears_what_comes_and_nothing_twice),
        WITH_WORLD(one_that_is_far_behind_reads_the_store_and_catches_up),
        WITH_WORLD(a_follower_of_one_lease_hears_of_it_alone),
        WITH_WORLD(events_that_are_gone_are_told_as_a_gap),
        WITH_WORLD(the_largest_events_are_told_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The console of a lease that has ended, told frame by frame into texts of any size. */
#include "api/resource/console_feed.h"

#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cmocka.h"
#include "tests/store/store_fixture.h"

/* struct told - What a follower heard. */
struct told {
    uint8_t bytes[2 * STORE_CONSOLE_BYTES];
    uint64_t first; /* offset of bytes[0] */
    size_t length;
    unsigned outputs;
    unsigned gaps;
    bool restarted;
    uint64_t missing_first;
    uint64_t missing_last;
    bool ended;
    bool complete;
    uint64_t id; /* of the last frame */
};

/* struct world - A service without machines over a store. Owner: the test. */
struct world {
    struct store_fixture *fixture;
    struct lease_service service;
    struct id id;
};

static void begin(struct world *world, struct store_fixture *fixture)
{
    const struct store_resources capacity = fixture_capacity(4);
    *world = (struct world){.fixture = fixture};
    assert_int_equal(lease_service_init(&world->service, fixture->store, NULL, &capacity, NULL), 0);
    world->id = fixture_reserve(fixture, 1);
}

static void end_lease(struct world *world, const uint8_t *console, size_t length)
{
    struct error err = {0};
    struct store_end end = fixture_end();
    end.console = console;
    end.console_bytes = length;
    assert_works(store_lease_terminate(world->fixture->store, world->id.text, &end, &err), err);
}

static void take_output(struct told *told, const json_t *data)
{
    const char *base64 = json_string_value(json_object_get(data, "base64"));
    const uint64_t offset = (uint64_t)json_integer_value(json_object_get(data, "offset"));
    size_t length = 0;
    if (told->length == 0)
        told->first = offset;
    assert_int_equal(offset, told->first + told->length); /* no byte twice and none left out */
    assert_int_equal(sodium_base642bin(told->bytes + told->length, sizeof told->bytes - told->length, base64,
                                       strlen(base64), NULL, &length, NULL, sodium_base64_VARIANT_ORIGINAL),
                     0);
    told->length += length;
    told->outputs++;
    assert_int_equal(told->id, offset + length);
}

static void take_frame(struct told *told, char *frame)
{
    char event[32] = "";
    int at = 0;
    unsigned long long id = 0;
    assert_int_equal(sscanf(frame, "id: %llu\nevent: %31s\ndata: %n", &id, event, &at), 2);
    json_t *data = json_loads(frame + at, 0, NULL);
    assert_non_null(data);
    told->id = id;
    assert_false(told->ended);
    if (strcmp(event, "console.output") == 0) {
        take_output(told, data);
    } else if (strcmp(event, "stream.gap") == 0) {
        told->gaps++;
        told->restarted = json_is_null(json_object_get(data, "first_missing"));
        told->missing_first = (uint64_t)json_integer_value(json_object_get(data, "first_missing"));
        told->missing_last = (uint64_t)json_integer_value(json_object_get(data, "last_missing"));
    } else {
        assert_string_equal(event, "console.ended");
        told->ended = true;
        told->complete = json_is_true(json_object_get(data, "complete"));
    }
    json_decref(data);
}

/* Follows until the source ends or waits. @capacity: of each text that it is given. */
static enum stream_step follow(struct world *world, uint64_t after, size_t capacity, struct told *ret_told)
{
    struct stream_source source;
    char *bytes = malloc(capacity + 1);
    enum stream_step step;
    *ret_told = (struct told){.first = 0};
    assert_int_equal(console_feed_follow(&world->service, world->fixture->store, &world->id, after, &source), 0);
    do {
        struct stream_text text = {.bytes = bytes, .capacity = capacity};
        step = source.read(source.state, &text);
        bytes[text.used] = '\0';
        assert_true(text.used > 0 || step != STREAM_MORE); /* else it would never get on */
        for (char *frame = bytes, *rest; (rest = strstr(frame, "\n\n")) != NULL; frame = rest + 2) {
            *rest = '\0';
            take_frame(ret_told, frame);
        }
    } while (step == STREAM_MORE);
    source.done(source.state);
    free(bytes);
    return step;
}

static void fill(uint8_t *console, size_t length)
{
    for (size_t i = 0; i < length; i++)
        console[i] = (uint8_t)(i * 7 + (i >> 8));
}

static void a_short_console_is_told_whole_in_texts_of_any_size(void **state)
{
    static uint8_t console[40000];
    static struct told told;
    struct world world;
    begin(&world, *state);
    fill(console, sizeof console);
    assert_int_equal(follow(&world, CONSOLE_FEED_OLDEST, 32768, &told), STREAM_WAIT); /* nothing printed yet */
    assert_int_equal(told.length, 0);
    end_lease(&world, console, sizeof console);
    const size_t capacities[] = {22000, 32768, 200000};
    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        assert_int_equal(follow(&world, CONSOLE_FEED_OLDEST, capacities[i], &told), STREAM_END);
        assert_int_equal(told.length, sizeof console);
        assert_memory_equal(told.bytes, console, sizeof console);
        assert_int_equal(told.outputs, 3); /* of at most CONSOLE_FEED_CHUNK_BYTES each */
        assert_int_equal(told.gaps, 0);
        assert_true(told.ended && told.complete);
    }
    lease_service_done(&world.service);
}

static void a_reader_that_comes_again_hears_the_rest(void **state)
{
    static const uint8_t console[] = "booted\nready\n";
    static struct told told;
    struct world world;
    begin(&world, *state);
    end_lease(&world, console, sizeof console - 1);
    assert_int_equal(follow(&world, 7, 32768, &told), STREAM_END);
    assert_int_equal(told.first, 7);
    assert_int_equal(told.length, 6);
    assert_memory_equal(told.bytes, "ready\n", 6);
    assert_true(told.ended);
    assert_int_equal(told.id, sizeof console - 1);
    assert_int_equal(follow(&world, sizeof console - 1, 32768, &told), STREAM_END); /* all was told */
    assert_int_equal(told.outputs, 0);
    assert_true(told.ended);
    /* A place that this daemon never came to is an earlier daemon's: all is told anew, and the reader knows. */
    assert_int_equal(follow(&world, 5000, 32768, &told), STREAM_END);
    assert_true(told.restarted);
    assert_int_equal(told.length, sizeof console - 1);
    lease_service_done(&world.service);
}

static void of_a_long_console_the_kept_end_is_told_and_said_to_be_a_part(void **state)
{
    static uint8_t console[STORE_CONSOLE_BYTES + 1000];
    static struct told told;
    struct world world;
    begin(&world, *state);
    fill(console, sizeof console);
    end_lease(&world, console, sizeof console);
    assert_int_equal(follow(&world, CONSOLE_FEED_OLDEST, 32768, &told), STREAM_END);
    assert_int_equal(told.length, STORE_CONSOLE_BYTES);
    assert_memory_equal(told.bytes, console + 1000, STORE_CONSOLE_BYTES);
    assert_true(told.ended);
    assert_false(told.complete);
    /* Where the kept bytes stood is not known, so who has a place hears of the end alone. */
    assert_int_equal(follow(&world, 17, 32768, &told), STREAM_END);
    assert_int_equal(told.length, 0);
    assert_true(told.ended);
    assert_false(told.complete);
    lease_service_done(&world.service);
}

static void a_lease_that_is_gone_or_printed_nothing_ends_the_stream(void **state)
{
    static struct told told;
    struct world world;
    begin(&world, *state);
    end_lease(&world, NULL, 0);
    assert_int_equal(follow(&world, CONSOLE_FEED_OLDEST, 32768, &told), STREAM_END);
    assert_int_equal(told.outputs, 0);
    assert_true(told.ended && told.complete);
    world.id = id_new();
    assert_int_equal(follow(&world, CONSOLE_FEED_OLDEST, 32768, &told), STREAM_END);
    assert_false(told.ended);
    lease_service_done(&world.service);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, store_fixture_setup, store_fixture_teardown)
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_short_console_is_told_whole_in_texts_of_any_size),
        WITH_STORE(a_reader_that_comes_again_hears_the_rest),
        WITH_STORE(of_a_long_console_the_kept_end_is_told_and_said_to_be_a_part),
        WITH_STORE(a_lease_that_is_gone_or_printed_nothing_ends_the_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

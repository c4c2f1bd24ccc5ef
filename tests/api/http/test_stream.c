#include "api/http/stream.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "tests/cmocka.h"

enum {
    WAIT_MS = 20000, /* a sanitizer on a busy machine is slow */
};

/* A source that a test feeds: it tells the numbers up to @limit, each as one line. */
struct counter {
    atomic_uint limit;
    atomic_uint reads;
    atomic_bool end;
    atomic_bool endless; /* always more */
    atomic_bool done;
    atomic_bool closed;
    unsigned told;
};

static enum stream_step counter_read(void *state, struct stream_text *text)
{
    struct counter *counter = state;
    atomic_fetch_add(&counter->reads, 1);
    assert_int_equal(text->used, 0);
    while (counter->endless || counter->told < counter->limit) {
        if (!stream_text_print(text, "%u\n", counter->told + 1))
            return STREAM_MORE;
        counter->told++;
    }
    return counter->end ? STREAM_END : STREAM_WAIT;
}

static void counter_done(void *state)
{
    ((struct counter *)state)->done = true;
}

static void counter_closed(void *context)
{
    struct counter *counter = context;
    assert_true(counter->done);
    counter->closed = true;
}

static struct streams *open_streams(void)
{
    struct streams *streams = NULL;
    struct error err = {0};
    if (streams_open(NULL, &streams, &err) < 0)
        fail_msg("%s", err.message);
    return streams;
}

static int prepare(struct streams *streams, struct counter *counter, int fd, unsigned poll_ms, struct stream **ret)
{
    const struct stream_order order = {
        .fd = fd,
        .source = {.read = counter_read, .done = counter_done, .state = counter, .poll_ms = poll_ms},
        .closed = counter_closed,
        .context = counter};
    return stream_prepare(streams, &order, "head\n", 5, ret);
}

/* Begin a stream over a new socket pair. Return: the follower's end; @ret_fd is the stream's. */
static int follow(struct streams *streams, struct counter *counter, unsigned poll_ms, int *ret_fd)
{
    int pair[2];
    struct stream *stream = NULL;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(prepare(streams, counter, pair[0], poll_ms, &stream), 0);
    stream_begin(stream);
    *ret_fd = pair[0];
    return pair[1];
}

static void assert_reads(int fd, const char *expected)
{
    char bytes[256];
    size_t length = strlen(expected);
    size_t used = 0;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    while (used < length && poll(&ready, 1, WAIT_MS) == 1) {
        ssize_t got = recv(fd, bytes + used, length - used, 0);
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    assert_int_equal(used, length);
    assert_memory_equal(bytes, expected, length);
}

static void wait_until(const atomic_bool *flag)
{
    uint64_t until_ms = clock_monotonic_ms() + WAIT_MS;
    while (!*flag && clock_monotonic_ms() < until_ms)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_true(*flag);
}

/* A stream's order is told of the end before its place is free again. */
static void wait_until_none(struct streams *streams)
{
    uint64_t until_ms = clock_monotonic_ms() + WAIT_MS;
    while (streams_count(streams) > 0 && clock_monotonic_ms() < until_ms)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(streams_count(streams), 0);
}

/* One stream and its follower, from begin() to end(). */
struct world {
    struct streams *streams;
    struct counter counter;
    int fd; /* the stream's; -1 closed */
    int follower;
};

/* @first: what the follower reads at once, "head" before it */
static void begin(struct world *world, struct counter counter, unsigned poll_ms, const char *first)
{
    world->streams = open_streams();
    world->counter = counter;
    world->follower = follow(world->streams, &world->counter, poll_ms, &world->fd);
    assert_reads(world->follower, "head\n");
    assert_reads(world->follower, first);
}

static void end(struct world *world)
{
    streams_close(world->streams);
    assert_true(world->counter.closed);
    fd_close(&world->follower);
    fd_close(&world->fd);
}

static void a_wake_tells_what_is_new(void **state)
{
    (void)state;
    struct world world;
    begin(&world, (struct counter){.limit = 1}, 0, "1\n");
    world.counter.limit = 3;
    streams_wake(world.streams);
    assert_reads(world.follower, "2\n3\n");
    assert_int_equal(streams_count(world.streams), 1);
    /* Whatever the number of wakes, a source without news says nothing. */
    for (int i = 0; i < 1000; i++)
        streams_wake(world.streams);
    world.counter.limit = 4;
    streams_wake(world.streams);
    assert_reads(world.follower, "4\n");
    end(&world);
}

static void a_quiet_stream_costs_no_turn(void **state)
{
    (void)state;
    struct world world;
    begin(&world, (struct counter){.limit = 1}, 0, "1\n");
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    unsigned reads = world.counter.reads;
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    assert_in_range(world.counter.reads, reads, reads + 1); /* the first turn may not have been through */
    end(&world);
}

static void a_source_that_wants_it_is_asked_again_by_itself(void **state)
{
    (void)state;
    struct world world;
    begin(&world, (struct counter){.limit = 1}, 10, "1\n");
    world.counter.limit = 2;
    assert_reads(world.follower, "2\n");
    end(&world);
}

static void a_source_ends_its_stream_after_the_last_byte(void **state)
{
    (void)state;
    struct world world;
    begin(&world, (struct counter){.limit = 2, .end = true}, 0, "1\n2\n");
    wait_until(&world.counter.closed);
    wait_until_none(world.streams);
    end(&world);
}

static void a_follower_that_hangs_up_is_let_go_at_once(void **state)
{
    (void)state;
    struct world world;
    begin(&world, (struct counter){.limit = 1}, 0, "1\n");
    uint64_t before_ms = clock_monotonic_ms();
    fd_close(&world.follower);
    wait_until(&world.counter.closed);
    assert_true(clock_monotonic_ms() - before_ms < STREAM_KEEPALIVE_MS / 2);
    end(&world);
}

static void a_follower_that_takes_nothing_is_dropped_and_others_miss_nothing(void **state)
{
    (void)state;
    struct streams *streams = open_streams();
    struct counter slow = {.endless = true};
    struct counter good = {.limit = 1};
    int slow_fd;
    int good_fd;
    uint64_t before_ms = clock_monotonic_ms();
    int slow_end = follow(streams, &slow, 0, &slow_fd);
    int good_end = follow(streams, &good, 0, &good_fd);
    assert_reads(good_end, "head\n1\n");
    for (unsigned i = 2; !slow.closed && clock_monotonic_ms() - before_ms < WAIT_MS; i++) {
        char expected[16];
        snprintf(expected, sizeof expected, "%u\n", i);
        good.limit = i;
        streams_wake(streams);
        assert_reads(good_end, expected);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    assert_true(slow.closed);
    assert_true(clock_monotonic_ms() - before_ms >= STREAM_STALL_MS);
    assert_false(good.closed);
    streams_close(streams);
    close(slow_end);
    close(slow_fd);
    close(good_end);
    close(good_fd);
}

static void places_are_limited_and_none_is_given_after_the_end(void **state)
{
    (void)state;
    struct streams *streams = open_streams();
    static struct counter counters[STREAMS_MAX + 1];
    static struct stream *prepared[STREAMS_MAX];
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    memset(counters, 0, sizeof counters);
    for (size_t i = 0; i < STREAMS_MAX; i++)
        assert_int_equal(prepare(streams, &counters[i], pair[0], 0, &prepared[i]), 0);
    struct stream *none = NULL;
    assert_int_equal(prepare(streams, &counters[STREAMS_MAX], pair[0], 0, &none), -EAGAIN);
    assert_null(none);
    for (size_t i = 0; i < STREAMS_MAX; i++)
        stream_begin(prepared[i]);
    streams_end(streams);
    for (size_t i = 0; i < STREAMS_MAX; i++)
        assert_true(counters[i].closed);
    assert_false(counters[STREAMS_MAX].done);
    assert_int_equal(prepare(streams, &counters[STREAMS_MAX], pair[0], 0, &none), -ESHUTDOWN);
    streams_close(streams);
    close(pair[0]);
    close(pair[1]);
}

static void a_text_takes_what_fits_and_nothing_else(void **state)
{
    (void)state;
    char bytes[8];
    struct stream_text text = {.bytes = bytes, .capacity = sizeof bytes};
    assert_true(stream_text_print(&text, "%s", "1234567"));
    assert_false(stream_text_print(&text, "%s", "8"));
    assert_false(stream_text_add(&text, "89", 2));
    assert_true(stream_text_add(&text, "8", 1));
    assert_int_equal(text.used, 8);
    assert_false(stream_text_add(&text, "9", 1));
    assert_memory_equal(bytes, "12345678", 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wake_tells_what_is_new),
        cmocka_unit_test(a_quiet_stream_costs_no_turn),
        cmocka_unit_test(a_source_that_wants_it_is_asked_again_by_itself),
        cmocka_unit_test(a_source_ends_its_stream_after_the_last_byte),
        cmocka_unit_test(a_follower_that_hangs_up_is_let_go_at_once),
        cmocka_unit_test(a_follower_that_takes_nothing_is_dropped_and_others_miss_nothing),
        cmocka_unit_test(places_are_limited_and_none_is_given_after_the_end),
        cmocka_unit_test(a_text_takes_what_fits_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

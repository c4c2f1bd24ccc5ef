#include "api/http/roster.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/cmocka.h"

enum {
    PAIRS = 4,
};

struct world {
    struct roster *roster;
    int ours[PAIRS];
    int theirs[PAIRS];
};

static int open_world(void **state)
{
    static struct world world;
    struct error err = {0};
    assert_int_equal(roster_open(&world.roster, &err), 0);
    for (size_t i = 0; i < PAIRS; i++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        world.ours[i] = pair[0];
        world.theirs[i] = pair[1];
    }
    *state = &world;
    return 0;
}

static int close_world(void **state)
{
    struct world *world = *state;
    roster_close(world->roster);
    for (size_t i = 0; i < PAIRS; i++) {
        close(world->ours[i]);
        close(world->theirs[i]);
    }
    return 0;
}

static void set_phase(const struct world *world, size_t i, enum roster_phase phase, uint64_t now_ms)
{
    roster_phase(world->roster, roster_find(world->roster, world->ours[i]), phase, now_ms);
}

/* As the library finds it: nothing comes any more. */
static bool is_ended(const struct world *world, size_t i)
{
    char byte;
    return recv(world->ours[i], &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

/* Whether an answer still reaches the client. */
static bool is_answerable(const struct world *world, size_t i)
{
    char byte;
    return send(world->ours[i], "a", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 &&
           recv(world->theirs[i], &byte, 1, MSG_DONTWAIT) == 1;
}

static void a_request_has_its_time_and_a_rest_has_less(void **state)
{
    struct world *world = *state;
    assert_true(roster_add(world->roster, world->ours[0], ROSTER_SERVED, 1000));
    assert_true(roster_add(world->roster, world->ours[1], ROSTER_SERVED, 1000));
    set_phase(world, 1, ROSTER_RESTING, 2000);
    assert_int_equal(roster_expire(world->roster, 1999 + ROSTER_IDLE_MS), 2);
    assert_false(is_ended(world, 0) || is_ended(world, 1));
    roster_expire(world->roster, 2000 + ROSTER_IDLE_MS);
    assert_true(is_ended(world, 1));
    assert_false(is_ended(world, 0));
    roster_expire(world->roster, 1000 + ROSTER_REQUEST_MS);
    assert_true(is_ended(world, 0));
    roster_remove(world->roster, world->ours[0]);
    roster_remove(world->roster, world->ours[1]);
    assert_int_equal(roster_expire(world->roster, 0), 0);
}

static void a_new_request_begins_a_new_time(void **state)
{
    struct world *world = *state;
    assert_true(roster_add(world->roster, world->ours[0], ROSTER_SERVED, 0));
    set_phase(world, 0, ROSTER_RESTING, 5000);
    roster_request(world->roster, roster_find(world->roster, world->ours[0]), 9000);
    set_phase(world, 0, ROSTER_READING, 9001);
    set_phase(world, 0, ROSTER_WORKING, 9001);
    roster_request(world->roster, roster_find(world->roster, world->ours[0]), 9002); /* no rest was over */
    set_phase(world, 0, ROSTER_WRITING, 9002);
    roster_expire(world->roster, 8999 + ROSTER_REQUEST_MS);
    assert_false(is_ended(world, 0));
    roster_expire(world->roster, 9000 + ROSTER_REQUEST_MS);
    assert_true(is_ended(world, 0));
}

static void a_stream_has_no_end(void **state)
{
    struct world *world = *state;
    assert_true(roster_add(world->roster, world->ours[0], ROSTER_SERVED, 0));
    roster_stream(world->roster, roster_find(world->roster, world->ours[0]));
    roster_expire(world->roster, UINT64_MAX - 1);
    assert_false(is_ended(world, 0));
    assert_int_equal(roster_count(world->roster, ROSTER_SERVED), 0);
    assert_int_equal(roster_count(world->roster, ROSTER_STREAM), 1);
    assert_false(roster_evict(world->roster, ROSTER_SERVED, 1000000));
}

static void a_class_is_limited_by_itself(void **state)
{
    struct world *world = *state;
    /* Numbers that are nobody's descriptors: nothing is shut down here. */
    for (int i = 0; i < ROSTER_STRANGERS_MAX; i++)
        assert_true(roster_add(world->roster, 100000 + i, ROSTER_STRANGER, 0));
    assert_false(roster_add(world->roster, 200000, ROSTER_STRANGER, 0));
    assert_int_equal(roster_find(world->roster, 200000), -1);
    assert_true(roster_add(world->roster, 200000, ROSTER_SERVED, 0));
    roster_remove(world->roster, 100000);
    assert_true(roster_add(world->roster, 200001, ROSTER_STRANGER, 0));
    assert_int_equal(roster_class_of(world->roster, roster_find(world->roster, 200001)), ROSTER_STRANGER);
    assert_int_equal(roster_class_of(world->roster, -1), ROSTER_STRANGER);
}

static void who_rests_longest_goes_first_and_then_who_keeps_us_waiting(void **state)
{
    struct world *world = *state;
    for (size_t i = 0; i < PAIRS; i++)
        assert_true(roster_add(world->roster, world->ours[i], ROSTER_SERVED, 1000 + i));
    for (size_t i = 0; i < PAIRS; i++)
        set_phase(world, i, ROSTER_READING, 1000 + i);
    assert_false(roster_evict(world->roster, ROSTER_SERVED, 1000 + ROSTER_PATIENCE_MS - 1));
    set_phase(world, 2, ROSTER_RESTING, 1010);
    set_phase(world, 3, ROSTER_RESTING, 1005);
    assert_false(roster_evict(world->roster, ROSTER_STRANGER, 1020));
    assert_true(roster_evict(world->roster, ROSTER_SERVED, 1020));
    assert_true(is_ended(world, 3));
    assert_true(roster_evict(world->roster, ROSTER_SERVED, 1020));
    assert_true(is_ended(world, 2));
    assert_false(roster_evict(world->roster, ROSTER_SERVED, 1020));
    assert_true(roster_evict(world->roster, ROSTER_SERVED, 1001 + ROSTER_PATIENCE_MS));
    assert_true(is_ended(world, 0));
    assert_false(is_ended(world, 1));
}

static void whoever_waits_for_us_is_left_alone(void **state)
{
    struct world *world = *state;
    for (size_t i = 0; i < PAIRS; i++)
        assert_true(roster_add(world->roster, world->ours[i], ROSTER_SERVED, 0));
    /* 0 has sent what we have not read, 1 is being worked for, 2 has room for its answer, 3 rested and asks again. */
    assert_int_equal(send(world->theirs[0], "x", 1, 0), 1);
    set_phase(world, 0, ROSTER_READING, 0);
    set_phase(world, 1, ROSTER_WORKING, 0);
    set_phase(world, 2, ROSTER_WRITING, 0);
    set_phase(world, 3, ROSTER_RESTING, 0);
    assert_int_equal(send(world->theirs[3], "x", 1, 0), 1);
    assert_false(roster_evict(world->roster, ROSTER_SERVED, 1000000));
    /* One that does not read its answer keeps us waiting. */
    static const char bytes[65536];
    while (send(world->ours[2], bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
    assert_true(roster_evict(world->roster, ROSTER_SERVED, 1000000));
    assert_false(roster_evict(world->roster, ROSTER_SERVED, 1000000));
    assert_true(is_ended(world, 2));
    assert_false(is_ended(world, 0) || is_ended(world, 1) || is_ended(world, 3));
}

/* The library has read a request, and has not yet come to the callbacks that tell of it. */
static void a_request_that_was_read_this_moment_is_still_answered(void **state)
{
    struct world *world = *state;
    char byte;
    for (size_t i = 0; i < PAIRS; i++)
        assert_true(roster_add(world->roster, world->ours[i], ROSTER_SERVED, i));
    set_phase(world, 1, ROSTER_RESTING, 0);
    set_phase(world, 2, ROSTER_READING, 0);
    set_phase(world, 3, ROSTER_RESTING, 0);
    for (size_t i = 0; i < PAIRS; i++) {
        assert_int_equal(send(world->theirs[i], "x", 1, 0), 1);
        assert_int_equal(recv(world->ours[i], &byte, 1, 0), 1);
    }
    for (size_t i = 0; i < PAIRS; i++)
        assert_true(roster_evict(world->roster, ROSTER_SERVED, ROSTER_PATIENCE_MS));
    roster_expire(world->roster, ROSTER_IDLE_MS);
    for (size_t i = 0; i < PAIRS; i++) {
        assert_true(is_ended(world, i));
        assert_true(is_answerable(world, i));
    }
    /* Over its whole time, it is ended whatever it is at. */
    roster_expire(world->roster, ROSTER_REQUEST_MS);
    assert_false(is_answerable(world, 0));
}

static void one_that_does_not_go_is_cut_after_a_while(void **state)
{
    struct world *world = *state;
    static const char bytes[65536];
    uint64_t now_ms = ROSTER_PATIENCE_MS;
    assert_true(roster_add(world->roster, world->ours[0], ROSTER_SERVED, 0));
    assert_true(roster_add(world->roster, world->ours[1], ROSTER_SERVED, 0));
    assert_true(roster_evict(world->roster, ROSTER_SERVED, now_ms));
    assert_true(roster_evict(world->roster, ROSTER_SERVED, now_ms));
    /* 1 had a request after all, takes its answer for a while, and then does not. */
    set_phase(world, 1, ROSTER_WRITING, now_ms);
    for (size_t i = 0; i < ROSTER_CUT_MS / ROSTER_PATIENCE_MS; i++) {
        assert_true(is_answerable(world, 0) && is_answerable(world, 1));
        now_ms += ROSTER_PATIENCE_MS;
        assert_false(roster_evict(world->roster, ROSTER_SERVED, now_ms));
    }
    assert_false(is_answerable(world, 0));
    assert_true(is_answerable(world, 1));
    while (send(world->ours[1], bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
    roster_evict(world->roster, ROSTER_SERVED, now_ms + ROSTER_PATIENCE_MS);
    while (recv(world->theirs[1], &(char[4096]){0}, 4096, MSG_DONTWAIT) > 0) {
    }
    assert_false(is_answerable(world, 1));
}

static void it_is_known_who_was_ended_here(void **state)
{
    struct world *world = *state;
    assert_true(roster_add(world->roster, world->ours[0], ROSTER_SERVED, 0));
    int slot = roster_find(world->roster, world->ours[0]);
    assert_false(roster_has_ended(world->roster, slot));
    assert_false(roster_has_ended(world->roster, -1));
    assert_true(roster_evict(world->roster, ROSTER_SERVED, ROSTER_PATIENCE_MS));
    assert_true(roster_has_ended(world->roster, slot));
    roster_remove(world->roster, world->ours[0]);
    assert_true(roster_add(world->roster, world->ours[0], ROSTER_SERVED, 0));
    assert_int_equal(roster_find(world->roster, world->ours[0]), slot);
    assert_false(roster_has_ended(world->roster, slot));
}

static void a_number_that_comes_again_has_one_slot(void **state)
{
    struct world *world = *state;
    assert_true(roster_add(world->roster, world->ours[0], ROSTER_STRANGER, 0));
    assert_true(roster_add(world->roster, world->ours[0], ROSTER_SERVED, 0));
    assert_int_equal(roster_count(world->roster, ROSTER_STRANGER), 0);
    assert_int_equal(roster_count(world->roster, ROSTER_SERVED), 1);
    roster_remove(world->roster, world->ours[0]);
    roster_remove(world->roster, world->ours[0]);
    assert_int_equal(roster_count(world->roster, ROSTER_SERVED), 0);
}

#define WITH_WORLD(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(a_request_has_its_time_and_a_rest_has_less),
        WITH_WORLD(a_new_request_begins_a_new_time),
        WITH_WORLD(a_stream_has_no_end),
        WITH_WORLD(a_class_is_limited_by_itself),
        WITH_WORLD(who_rests_longest_goes_first_and_then_who_keeps_us_waiting),
        WITH_WORLD(whoever_waits_for_us_is_left_alone),
        WITH_WORLD(a_request_that_was_read_this_moment_is_still_answered),
        WITH_WORLD(one_that_does_not_go_is_cut_after_a_while),
        WITH_WORLD(it_is_known_who_was_ended_here),
        WITH_WORLD(a_number_that_comes_again_has_one_slot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

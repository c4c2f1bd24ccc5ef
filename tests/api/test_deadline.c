#include "api/deadline.h"

#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/cmocka.h"

enum {
    LATE_MS = 15000, /* it looks once a second; a busy machine may take longer */
};

static bool ends(int fd, int wait_ms)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char byte;
    return poll(&ready, 1, wait_ms) == 1 && recv(fd, &byte, 1, 0) == 0;
}

static void a_connection_over_its_time_is_shut_and_others_are_not(void **state)
{
    (void)state;
    struct deadlines *deadlines = NULL;
    int late[2];
    int good[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, late), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, good), 0);
    assert_int_equal(deadlines_open(&deadlines, NULL), 0);
    uint64_t now_ms = clock_monotonic_ms();
    int late_slot = deadlines_add(deadlines, late[0], now_ms);
    int good_slot = deadlines_add(deadlines, good[0], now_ms);
    assert_true(late_slot >= 0 && good_slot >= 0 && late_slot != good_slot);
    deadlines_extend(deadlines, good_slot, now_ms + 3600000);
    assert_true(ends(late[1], LATE_MS));
    assert_false(ends(good[1], 0));
    deadlines_remove(deadlines, late_slot);
    deadlines_remove(deadlines, good_slot);
    deadlines_close(deadlines);
    for (int i = 0; i < 2; i++) {
        close(late[i]);
        close(good[i]);
    }
}

static void slots_run_out_and_come_back(void **state)
{
    (void)state;
    struct deadlines *deadlines = NULL;
    const uint64_t never_ms = UINT64_MAX;
    assert_int_equal(deadlines_open(&deadlines, NULL), 0);
    for (int i = 0; i < DEADLINE_SLOTS; i++)
        assert_int_equal(deadlines_add(deadlines, 1000 + i, never_ms), i);
    assert_int_equal(deadlines_add(deadlines, 1, never_ms), -1);
    deadlines_extend(deadlines, -1, 0);
    deadlines_remove(deadlines, -1);
    deadlines_remove(deadlines, 7);
    assert_int_equal(deadlines_add(deadlines, 1, never_ms), 7);
    deadlines_close(deadlines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_over_its_time_is_shut_and_others_are_not),
        cmocka_unit_test(slots_run_out_and_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

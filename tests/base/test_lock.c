#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "tests/cmocka.h"

static char path[] = "/tmp/omertad-lock-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

static void a_lock_has_one_holder_and_ends_with_its_descriptor(void **state)
{
    (void)state;
    int one SCOPED_FD = open(path, O_RDWR | O_CLOEXEC);
    int other SCOPED_FD = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(lock_take(one), 0);
    assert_int_equal(lock_take(other), -EWOULDBLOCK);
    fd_close(&one);
    assert_int_equal(lock_take(other), 0);
}

/* What a killed process had forked has a copy of the lock for a moment. */
static void a_holder_that_goes_in_a_moment_is_waited_for(void **state)
{
    (void)state;
    int one SCOPED_FD = open(path, O_RDWR | O_CLOEXEC);
    int other SCOPED_FD = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(lock_take(one), 0);
    pid_t child = fork();
    if (child == 0) {
        usleep(30 * 1000);
        _exit(0);
    }
    fd_close(&one); /* the child still has it */
    assert_int_equal(lock_take(other), 0);
    waitpid(child, NULL, 0);
}

static void what_cannot_be_locked_says_so_at_once(void **state)
{
    (void)state;
    uint64_t begin_ms = clock_monotonic_ms();
    assert_int_equal(lock_take(-1), -EBADF);
    assert_true(clock_monotonic_ms() - begin_ms < LOCK_PATIENCE_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lock_has_one_holder_and_ends_with_its_descriptor),
        cmocka_unit_test(a_holder_that_goes_in_a_moment_is_waited_for),
        cmocka_unit_test(what_cannot_be_locked_says_so_at_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

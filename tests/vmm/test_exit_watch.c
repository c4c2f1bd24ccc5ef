/* Three times: with what this build has, with kqueue(2) (test_exit_watch_kqueue.c), and without any (test_exit_watch_none.c). */
#include "vmm/exit_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"
#include "tests/vmm/whole.h"

enum { WAIT_MS = 20000 };

#ifndef EXIT_WATCH_NONE

static pid_t start_process(void)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(60); /* also when a test fails */
        while (true)
            pause();
    }
    return pid;
}

static bool is_readable(int fd, int limit_ms)
{
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    int count = poll(&polled, 1, limit_ms);
    assert_true(count >= 0);
    return count == 1 && (polled.revents & POLLIN) != 0;
}

static void a_watch_is_readable_from_the_end_of_its_process_on(void **state)
{
    (void)state;
    size_t before = fixture_open_fds();
    pid_t pid = start_process();
    pid_t other = start_process();
    int watch SCOPED_FD = exit_watch_open(pid);
    int other_watch SCOPED_FD = exit_watch_open(other);
    assert_true(watch >= 0 && other_watch >= 0);
    assert_int_equal(fcntl(watch, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fixture_open_fds(), before + 2);
    assert_false(is_readable(watch, 20));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(is_readable(watch, WAIT_MS));
    assert_true(is_readable(watch, 0)); /* nobody has to remember it */
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(is_readable(watch, 0));
    assert_false(is_readable(other_watch, 0));
    assert_int_equal(kill(other, SIGKILL), 0);
    assert_true(is_readable(other_watch, WAIT_MS));
    assert_int_equal(waitpid(other, NULL, 0), other);
    fd_close(&watch);
    fd_close(&other_watch);
    assert_int_equal(fixture_open_fds(), before);
}

static void a_process_that_has_ended_is_told_of_at_once(void **state)
{
    (void)state;
    pid_t pid = start_process();
    siginfo_t info;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    size_t before = fixture_open_fds();
    int watch SCOPED_FD = exit_watch_open(pid);
    if (watch < 0) /* and so by what it returns */
        assert_int_equal(watch, -ESRCH);
    else
        assert_true(is_readable(watch, 0));
    assert_int_equal(fixture_open_fds(), before + (watch >= 0));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(exit_watch_open(pid), -ESRCH);
}

#endif

static void a_machine_s_end_is_noticed(void **state)
{
    (void)state;
    fixture_open(&world);
    struct id id = fixture_run(&world, "crash");
    fixture_act(&world);
    assert_int_equal(fixture_await_end(&world, &id, VMM_END_HYPERVISOR_CRASH).event.signal, SIGABRT);
}

int main(int argc, char **argv)
{
    if (fake_qemu_is_meant(argv[0]))
        return fake_qemu_main(argc, argv);
    program = argv[0];
    const struct CMUnitTest tests[] = {
#ifndef EXIT_WATCH_NONE
        cmocka_unit_test(a_watch_is_readable_from_the_end_of_its_process_on),
        cmocka_unit_test(a_process_that_has_ended_is_told_of_at_once),
#endif
        WHOLE(a_machine_s_end_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

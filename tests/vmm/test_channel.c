#include "vmm/channel.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"

enum { PATH_BYTES = 96 };

static char folder[64];
static char path[PATH_BYTES];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/omertad-channel-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/qmp.sock", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails when a test leaves more than the one name */
}

static void assert_carries(int listen_fd, int fd)
{
    char byte;
    int accepted SCOPED_FD = accept(listen_fd, NULL, NULL);
    assert_true(accepted >= 0);
    assert_int_equal(write(accepted, "x", 1), 1);
    assert_int_equal(read(fd, &byte, 1), 1);
}

static void a_channel_has_its_client_at_once_and_no_name(void **state)
{
    (void)state;
    int listen_fd SCOPED_FD = -1;
    int fd SCOPED_FD = -1;
    assert_int_equal(channel_open(path, false, &listen_fd, &fd, NULL), 0);
    assert_carries(listen_fd, fd);
    assert_int_equal(access(path, F_OK), -1);
}

static void a_channel_that_keeps_its_name_takes_another_client(void **state)
{
    (void)state;
    int listen_fd SCOPED_FD = -1;
    int fd SCOPED_FD = -1;
    assert_int_equal(channel_open(path, true, &listen_fd, &fd, NULL), 0);
    assert_carries(listen_fd, fd);
    fd_close(&fd);
    assert_int_equal(channel_reopen(path, &fd, NULL), 0);
    assert_carries(listen_fd, fd);
}

static void where_nobody_listens_there_is_no_channel(void **state)
{
    (void)state;
    int listen_fd SCOPED_FD = -1;
    int fd SCOPED_FD = -1;
    struct error err = {0};
    assert_int_equal(channel_reopen(path, &fd, &err), -ENOENT);
    assert_int_equal(channel_open(path, true, &listen_fd, &fd, NULL), 0);
    fd_close(&listen_fd);
    fd_close(&fd);
    assert_int_equal(channel_reopen(path, &fd, &err), -ECONNREFUSED);
    assert_int_equal(fd, -1);
}

static void a_path_too_long_for_a_socket_says_so(void **state)
{
    (void)state;
    char endless[200];
    int listen_fd = -1;
    int fd = -1;
    struct error err = {0};
    memset(endless, 'x', sizeof endless - 1);
    endless[0] = '/';
    endless[sizeof endless - 1] = '\0';
    assert_int_equal(channel_open(endless, false, &listen_fd, &fd, &err), -ENAMETOOLONG);
    assert_string_equal(err.slug, "runtime-dir-too-long");
    assert_int_equal(channel_reopen(endless, &fd, &err), -ENAMETOOLONG);
    assert_int_equal(channel_open("/nonexistent/qmp.sock", false, &listen_fd, &fd, &err), -ENOENT);
    assert_int_equal(listen_fd, -1);
    assert_int_equal(fd, -1);
}

#ifndef OMERTAD_PORTABLE
static void the_process_at_the_other_end_is_known(void **state)
{
    (void)state;
    int listen_fd SCOPED_FD = -1;
    int fd SCOPED_FD = -1;
    assert_int_equal(channel_open(path, true, &listen_fd, &fd, NULL), 0);
    assert_int_equal(channel_reaches(fd, getpid()), -EPERM); /* nobody has taken it yet */
    int accepted SCOPED_FD = accept(listen_fd, NULL, NULL);
    assert_int_equal(channel_reaches(fd, getpid()), 0);
    assert_int_equal(channel_reaches(fd, 1), -EPERM);

    int go[2];
    assert_int_equal(pipe(go), 0);
    pid_t other = fork();
    if (other == 0) {
        char byte;
        close(fd);
        (void)!read(go[0], &byte, 1);
        _exit(0);
    }
    assert_int_equal(channel_reaches(fd, other), 0); /* it has a copy */
    fd_close(&accepted);
    fd_close(&listen_fd);
    assert_int_equal(channel_reaches(fd, other), 0);
    assert_int_equal(channel_reaches(fd, getpid()), -EPERM); /* the one that is left holds it */
    close(go[1]);
    close(go[0]);
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    assert_int_equal(channel_reaches(fd, getpid()), -EPERM);
}
#endif

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(a_channel_has_its_client_at_once_and_no_name),
        WITH_FOLDER(a_channel_that_keeps_its_name_takes_another_client),
        WITH_FOLDER(where_nobody_listens_there_is_no_channel),
        WITH_FOLDER(a_path_too_long_for_a_socket_says_so),
#ifndef OMERTAD_PORTABLE
        WITH_FOLDER(the_process_at_the_other_end_is_known),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

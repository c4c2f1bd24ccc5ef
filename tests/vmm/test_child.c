/* The children of these tests are this binary itself, so that what it sees is what it was given. */
#include "vmm/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifndef OMERTAD_PORTABLE
#include <sys/prctl.h>
#endif

#include "base/scope.h"
#include "tests/cmocka.h"
#include "tests/coverage.h"
#include "tests/vmm/vmm_fixture.h"
#include "vmm/process.h"
#include "vmm/vmm.h"

static char self[VMM_PATH_BYTES];

enum { WAIT_MS = 20000, SWAPPED = 20 /* and two more: source of one, target of another */ };

/* ---- what a child does ---- */

static int show_fds(void)
{
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("%d ", fd);
    return 0;
}

static int show_inodes(void)
{
    for (int fd = SWAPPED; fd < SWAPPED + 3; fd++) {
        struct stat found;
        if (fstat(fd, &found) == 0)
            printf("%d=%llu ", fd, (unsigned long long)found.st_ino);
    }
    return 0;
}

static int show_surroundings(void)
{
    extern char **environ;
    char folder[64];
    char byte;
    sigset_t blocked;
    struct sigaction action;
    struct rlimit core;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    sigaction(SIGPIPE, NULL, &action);
    getrlimit(RLIMIT_CORE, &core);
    printf("cwd=%s stdin=%zd blocked=%d ignored=%d leads=%d core=%d mask=%o environment=",
           getcwd(folder, sizeof folder), read(STDIN_FILENO, &byte, 1), sigismember(&blocked, SIGUSR1),
           action.sa_handler == SIG_IGN, getsid(0) == getpid(), core.rlim_max != 0, (unsigned)umask(0));
    for (char **variable = environ; *variable != NULL; variable++)
        printf("%s;", *variable);
    return 0;
}

static int await_started(struct child *child)
{
    int rc;
    while ((rc = child_started(child, self, NULL)) == -EINPROGRESS)
        poll(&(struct pollfd){.fd = child->start_fd, .events = POLLIN}, 1, WAIT_MS);
    return rc;
}

/* @bond: of the grandchild; @released: whether it becomes its program or waits for that */
static void be_parent(enum child_bond bond, bool released)
{
    struct child child;
    char *argv[] = {self, (char *)"child", (char *)"wait", NULL};
    if (child_prepare(self, argv, NULL, 0, bond, &child, NULL) == 0 &&
        (!released || (child_release(&child) == 0 && await_started(&child) == 0)))
        printf("%d\n", (int)child.pid);
    fflush(stdout);
}

static int be_child(const char *role)
{
    alarm(60);
    if (strcmp(role, "fds") == 0)
        return show_fds();
    if (strcmp(role, "inodes") == 0)
        return show_inodes();
    if (strcmp(role, "surroundings") == 0)
        return show_surroundings();
    if (strcmp(role, "flood") == 0) {
        for (int line = 0; line < 20000; line++)
            printf("line %d\n", line);
        return 0;
    }
    if (strcmp(role, "seven") == 0)
        return 7;
#ifndef OMERTAD_PORTABLE
    if (strcmp(role, "privileges") == 0)
        return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
#endif
    if (strcmp(role, "parent") == 0)
        be_parent(CHILD_DIES_WITH_PARENT, true);
    if (strcmp(role, "outlived") == 0)
        be_parent(CHILD_OUTLIVES_PARENT, true);
    if (strcmp(role, "undecided") == 0)
        be_parent(CHILD_OUTLIVES_PARENT, false);
    while (true)
        pause();
}

/* ---- helpers ---- */

static void spawn(const char *role, const struct child_fd *fds, size_t count, struct child *ret_child)
{
    char *argv[] = {self, (char *)"child", (char *)role, NULL};
    struct error err = {0};
    if (child_spawn(self, argv, fds, count, ret_child, &err) != 0)
        fail_msg("%s", err.message);
}

static struct child_exit await_exit(struct child *child)
{
    struct child_exit how;
    for (int waited = 0; !child_reap(child, &how); waited += CHILD_TICK_MS) {
        assert_true(waited < WAIT_MS);
        struct pollfd fds[] = {{.fd = child->exit_fd, .events = POLLIN}, {.fd = child->output_fd, .events = POLLIN}};
        poll(fds, 2, CHILD_TICK_MS);
        child_read_output(child);
    }
    while (child->output_fd >= 0)
        child_read_output(child);
    return how;
}

static void run(const char *role, const struct child_fd *fds, size_t count, char ret_output[static CHILD_OUTPUT_BYTES])
{
    struct child child;
    spawn(role, fds, count, &child);
    await_exit(&child);
    child_format_output(&child, ret_output, CHILD_OUTPUT_BYTES);
    child_close(&child);
}

static unsigned long long inode_of(int fd)
{
    struct stat found;
    assert_int_equal(fstat(fd, &found), 0);
    return found.st_ino;
}

/* ---- tests ---- */

static void a_child_has_exactly_the_promised_descriptors(void **state)
{
    (void)state;
    char output[CHILD_OUTPUT_BYTES];
    int leaked SCOPED_FD = open("/dev/null", O_RDONLY); /* not even close-on-exec */
    int high SCOPED_FD = fcntl(leaked, F_DUPFD, 200);
    assert_true(high >= 200);
    run("fds", NULL, 0, output);
    assert_string_equal(output, "0 1 2 ");
    run("fds", &(struct child_fd){leaked, 3}, 1, output);
    assert_string_equal(output, "0 1 2 3 ");
    run("fds", (struct child_fd[]){{high, 9}, {leaked, CHILD_FD_TO_MAX}}, 2, output);
    assert_string_equal(output, "0 1 2 9 63 ");
}

static void descriptors_that_change_places_are_not_lost(void **state)
{
    (void)state;
    char output[CHILD_OUTPUT_BYTES];
    char expected[CHILD_OUTPUT_BYTES];
    for (int at = 0; at < 3; at++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(dup2(ends[0], SWAPPED + at), SWAPPED + at);
        close(ends[0]);
        close(ends[1]);
    }
    const int a = SWAPPED;
    const int b = SWAPPED + 1;
    const int c = SWAPPED + 2;
    run("inodes", (struct child_fd[]){{a, b}, {b, c}, {c, a}}, 3, output);
    snprintf(expected, sizeof expected, "%d=%llu %d=%llu %d=%llu ", a, inode_of(c), b, inode_of(a), c, inode_of(b));
    assert_string_equal(output, expected);
    run("inodes", (struct child_fd[]){{a, a}, {a, b}}, 2, output);
    snprintf(expected, sizeof expected, "%d=%llu %d=%llu ", a, inode_of(a), b, inode_of(a));
    assert_string_equal(output, expected);
    for (int fd = a; fd <= c; fd++)
        close(fd);
}

static void a_child_inherits_nothing_of_its_surroundings(void **state)
{
    (void)state;
    char output[CHILD_OUTPUT_BYTES];
    sigset_t usr1;
    sigset_t before;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, &before);
    signal(SIGPIPE, SIG_IGN);
    setenv("OMERTAD_CANARY", "secret", 1);
    run("surroundings", NULL, 0, output);
    unsetenv("OMERTAD_CANARY");
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    assert_string_equal(
        output, "cwd=/ stdin=0 blocked=0 ignored=0 leads=1 core=0 mask=77 environment=PATH=/usr/bin:/bin;LANG=C;");
}

#ifndef OMERTAD_PORTABLE
static void a_child_can_gain_no_privileges(void **state)
{
    (void)state;
    struct child child;
    spawn("privileges", NULL, 0, &child);
    assert_int_equal(await_exit(&child).code, 1);
    child_close(&child);
}

/* Starts a parent of a role, ends it with SIGKILL, and tells who its child was. */
static pid_t kill_parent(const char *role, uint64_t *ret_start_ticks)
{
    struct child parent;
    spawn(role, NULL, 0, &parent);
    while (parent.output_total == 0 || parent.output[parent.output_total - 1] != '\n') {
        poll(&(struct pollfd){.fd = parent.output_fd, .events = POLLIN}, 1, WAIT_MS);
        child_read_output(&parent);
        assert_true(parent.output_fd >= 0);
    }
    pid_t grandchild = (pid_t)atoi(parent.output);
    *ret_start_ticks = process_start_ticks(grandchild, NULL);
    assert_true(*ret_start_ticks > 0);
    child_close(&parent);
    return grandchild;
}

static void assert_ends(pid_t pid, uint64_t start_ticks)
{
    bool ended = false;
    for (int waited = 0; process_start_ticks(pid, &ended) == start_ticks && !ended; waited++) {
        assert_true(waited < WAIT_MS);
        poll(NULL, 0, 1);
    }
}

static void a_child_dies_with_its_parent(void **state)
{
    (void)state;
    uint64_t start_ticks;
    pid_t grandchild = kill_parent("parent", &start_ticks);
    assert_ends(grandchild, start_ticks);
}

static void a_child_that_was_not_released_dies_with_its_parent_whatever_its_bond(void **state)
{
    (void)state;
    uint64_t start_ticks;
    pid_t grandchild = kill_parent("undecided", &start_ticks);
    assert_ends(grandchild, start_ticks);
}

static void a_child_that_outlives_its_parent_can_be_adopted_and_ended(void **state)
{
    (void)state;
    uint64_t start_ticks;
    char boot_id[ID_TEXT_BYTES];
    struct error err = {0};
    pid_t grandchild = kill_parent("outlived", &start_ticks);
    poll(NULL, 0, 50); /* a death signal would be there by now */
    struct child adopted;
    struct child_exit how;
    assert_int_equal(child_adopt(grandchild, start_ticks, vmm_boot_id(boot_id), &adopted, &err), 0);
    assert_int_equal(adopted.pid, grandchild);
    assert_false(child_reap(&adopted, &how));
    assert_int_equal(child_signal(&adopted, SIGKILL), 0);
    how = await_exit(&adopted);
    assert_int_equal(how.code, -1);
    assert_int_equal(how.signal, 0);
    child_close(&adopted);
    assert_ends(grandchild, start_ticks);
    assert_int_equal(child_adopt(grandchild, start_ticks, boot_id, &adopted, &err), -ESRCH);
}

static void closing_ends_an_adopted_child(void **state)
{
    (void)state;
    uint64_t start_ticks;
    char boot_id[ID_TEXT_BYTES];
    struct error err = {0};
    pid_t grandchild = kill_parent("outlived", &start_ticks);
    struct child adopted;
    assert_int_equal(child_adopt(grandchild, start_ticks, vmm_boot_id(boot_id), &adopted, &err), 0);
    child_close(&adopted);
    assert_ends(grandchild, start_ticks);
}

static void a_process_is_adopted_only_when_its_whole_identity_holds(void **state)
{
    (void)state;
    struct child child;
    struct child adopted;
    char boot_id[ID_TEXT_BYTES];
    struct error err = {0};
    vmm_boot_id(boot_id);
    spawn("wait", NULL, 0, &child);
    assert_int_equal(child_adopt(child.pid, child.start_ticks + 1, boot_id, &adopted, &err), -ESRCH);
    assert_int_equal(child_adopt(child.pid, 0, boot_id, &adopted, &err), -ESRCH);
    assert_int_equal(child_adopt(child.pid, child.start_ticks, "another boot", &adopted, &err), -ESRCH);
    assert_int_equal(child_adopt(1, process_start_ticks(1, NULL), boot_id, &adopted, &err), -ESRCH);
    assert_int_equal(child_adopt(getpid(), process_start_ticks(getpid(), NULL), boot_id, &adopted, &err), -ESRCH);
    struct child_exit how;
    assert_false(child_reap(&child, &how));
    child_close(&child);
}
#endif

static void a_program_that_is_not_there_is_an_error_of_the_spawn(void **state)
{
    (void)state;
    struct child child;
    struct error err = {0};
    char *argv[] = {(char *)"nothing", NULL};
    size_t fds = fixture_open_fds();
    assert_int_equal(child_spawn("/nonexistent/program", argv, NULL, 0, &child, &err), -ENOENT);
    assert_string_equal(err.message, "/nonexistent/program: No such file or directory");
    assert_int_equal(child_spawn("/", argv, NULL, 0, &child, &err), -EACCES);
    assert_int_equal(child_spawn("nonexistent", argv, NULL, 0, &child, &err), -ENOENT);
    assert_int_equal(fixture_open_fds(), fds);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void a_prepared_child_does_nothing_until_it_is_released(void **state)
{
    (void)state;
    struct child child;
    char *argv[] = {self, (char *)"child", (char *)"seven", NULL};
    struct error err = {0};
    assert_int_equal(child_prepare(self, argv, NULL, 0, CHILD_DIES_WITH_PARENT, &child, &err), 0);
    assert_true(child.pid > 0);
    assert_true(child.start_ticks > 0);
    uint64_t start_ticks = child.start_ticks;
    struct child_exit how;
    poll(NULL, 0, 50);
    assert_false(child_reap(&child, &how));
    /* What keeps it from going on keeps nobody else. */
    assert_int_equal(child_signal(&child, SIGSTOP), 0);
    assert_int_equal(child_release(&child), 0);
    assert_int_equal(child_started(&child, self, &err), -EINPROGRESS);
    assert_int_equal(child_signal(&child, SIGCONT), 0);
    assert_int_equal(await_started(&child), 0);
    assert_int_equal(process_start_ticks(child.pid, NULL), start_ticks); /* the program is the process that was noted */
    assert_int_equal(await_exit(&child).code, 7);
    child_close(&child);
}

static void a_prepared_child_that_is_closed_never_runs(void **state)
{
    (void)state;
    struct child child;
    char *argv[] = {self, (char *)"child", (char *)"seven", NULL};
    struct error err = {0};
    assert_int_equal(child_prepare(self, argv, NULL, 0, CHILD_OUTLIVES_PARENT, &child, &err), 0);
    pid_t pid = child.pid;
    child_close(&child);
    assert_int_equal(kill(pid, 0), -1);
}

static void exit_code_and_signal_are_told_apart(void **state)
{
    (void)state;
    struct child child;
    spawn("seven", NULL, 0, &child);
    struct child_exit how = await_exit(&child);
    assert_int_equal(how.code, 7);
    assert_int_equal(how.signal, 0);
    assert_int_equal(child_signal(&child, SIGTERM), -ESRCH);
    child_close(&child);

    spawn("wait", NULL, 0, &child);
    struct child_exit none;
    assert_false(child_reap(&child, &none));
    assert_int_equal(child_signal(&child, SIGTERM), 0);
    how = await_exit(&child);
    assert_int_equal(how.code, -1);
    assert_int_equal(how.signal, SIGTERM);
    assert_false(child_reap(&child, &none));
    child_close(&child);
}

static void closing_ends_a_child_that_runs(void **state)
{
    (void)state;
    struct child child;
    size_t fds = fixture_open_fds();
    spawn("wait", NULL, 0, &child);
    pid_t pid = child.pid;
    child_close(&child);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(fixture_open_fds(), fds);
    child_close(&child);
}

static void only_the_newest_output_is_kept_and_shown(void **state)
{
    (void)state;
    struct child child;
    char text[32];
    spawn("flood", NULL, 0, &child);
    assert_int_equal(await_exit(&child).code, 0);
    assert_true(child.output_total > 100 * CHILD_OUTPUT_BYTES);
    assert_string_equal(child_format_output(&child, text, sizeof "line 19998 line 19999"), "line 19998 line 19999");
    assert_string_equal(child_format_output(&child, text, 4), "999");
    assert_string_equal(child_format_output(&child, text, 1), "");
    child_close(&child);
}

static void output_is_escaped_without_cutting_an_escape(void **state)
{
    (void)state;
    struct child child;
    char text[16];
    child_init(&child);
    memcpy(child.output, "ab\"\x1b\n", 5);
    child.output_total = 5;
    assert_string_equal(child_format_output(&child, text, sizeof text), "ab\\x22\\x1b");
    assert_string_equal(child_format_output(&child, text, 9), "\\x22\\x1b");
    assert_string_equal(child_format_output(&child, text, 8), "\\x1b");
}

static void a_process_is_known_by_its_start(void **state)
{
    (void)state;
    struct child child;
    bool ended = true;
    uint64_t own = process_start_ticks(getpid(), &ended);
    assert_true(own > 0);
    assert_false(ended);
    spawn("wait", NULL, 0, &child);
    assert_true(child.start_ticks >= own);
    assert_int_equal(process_start_ticks(child.pid, NULL), child.start_ticks);
    pid_t pid = child.pid;
    child_close(&child);
    assert_int_equal(process_start_ticks(pid, NULL), 0);
}

static void a_stray_is_ended_only_when_its_whole_identity_holds(void **state)
{
    (void)state;
    struct child child;
    char boot_id[ID_TEXT_BYTES];
    struct error err = {0};
    assert_int_equal(strlen(vmm_boot_id(boot_id)), ID_TEXT_BYTES - 1);
    spawn("wait", NULL, 0, &child);
    assert_int_equal(vmm_reap_stray(child.pid, child.start_ticks + 1, boot_id, &err), 0);
    assert_int_equal(vmm_reap_stray(child.pid, 0, boot_id, &err), 0);
    assert_int_equal(vmm_reap_stray(child.pid, child.start_ticks, "another boot", &err), 0);
    assert_int_equal(vmm_reap_stray(child.pid, child.start_ticks, "", &err), 0);
    assert_int_equal(vmm_reap_stray(1, process_start_ticks(1, NULL), boot_id, &err), 0);
    assert_int_equal(vmm_reap_stray(-1, child.start_ticks, boot_id, &err), 0);
    assert_int_equal(vmm_reap_stray(getpid(), process_start_ticks(getpid(), NULL), boot_id, &err), 0);
    struct child_exit how;
    assert_false(child_reap(&child, &how));
    assert_int_equal(vmm_reap_stray(child.pid, child.start_ticks, boot_id, &err), 1);
    assert_int_equal(vmm_reap_stray(child.pid, child.start_ticks, boot_id, &err), 0);
    assert_int_equal(await_exit(&child).signal, SIGKILL);
    child_close(&child);
}

int main(int argc, char **argv)
{
    char *path = realpath(argv[0], NULL);
    snprintf(self, sizeof self, "%s", path == NULL ? "" : path);
    free(path);
    if (argc == 3 && strcmp(argv[1], "child") == 0) {
        coverage_leave();
        return be_child(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_has_exactly_the_promised_descriptors),
        cmocka_unit_test(descriptors_that_change_places_are_not_lost),
        cmocka_unit_test(a_child_inherits_nothing_of_its_surroundings),
#ifndef OMERTAD_PORTABLE
        cmocka_unit_test(a_child_can_gain_no_privileges),
        cmocka_unit_test(a_child_dies_with_its_parent),
        cmocka_unit_test(a_child_that_was_not_released_dies_with_its_parent_whatever_its_bond),
        cmocka_unit_test(a_child_that_outlives_its_parent_can_be_adopted_and_ended),
        cmocka_unit_test(closing_ends_an_adopted_child),
        cmocka_unit_test(a_process_is_adopted_only_when_its_whole_identity_holds),
#endif
        cmocka_unit_test(a_program_that_is_not_there_is_an_error_of_the_spawn),
        cmocka_unit_test(a_prepared_child_does_nothing_until_it_is_released),
        cmocka_unit_test(a_prepared_child_that_is_closed_never_runs),
        cmocka_unit_test(exit_code_and_signal_are_told_apart),
        cmocka_unit_test(closing_ends_a_child_that_runs),
        cmocka_unit_test(only_the_newest_output_is_kept_and_shown),
        cmocka_unit_test(output_is_escaped_without_cutting_an_escape),
        cmocka_unit_test(a_process_is_known_by_its_start),
        cmocka_unit_test(a_stray_is_ended_only_when_its_whole_identity_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

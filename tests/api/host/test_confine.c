/* Calls that the daemon's threads and programs have no business with, each in a process of its own, which it must end. */
#include "tests/cmocka.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/host/confine.h"
#include "base/landlock.h"
#include "base/scope.h"

#ifdef __linux__

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { SURVIVED = 42 };

/* What a daemon has; the tests read images and packages of it that are everybody's. */
static char data_folder[] = "/tmp/omertad-confine-XXXXXX";
static const struct confine_folders folders = {.data = data_folder, .images = "/usr/share", .packages = ""};

/** struct crime - One system call. */
struct crime {
    const char *what;
    long call;
    long arguments[6];
};

static const struct crime service_crimes[] = {
    {"start a program", SYS_execve, {(long)"/bin/true"}},
    {"fork", SYS_clone, {SIGCHLD}},
    {"make memory executable", SYS_mprotect, {0, 4096, PROT_READ | PROT_EXEC}},
    {"map executable memory", SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
    {"a UDP socket", SYS_socket, {AF_INET, SOCK_DGRAM}},
    {"a TCP socket", SYS_socket, {AF_INET, SOCK_STREAM}},
    {"a unix socket", SYS_socket, {AF_UNIX, SOCK_STREAM}},
    {"connect", SYS_connect, {-1}},
    {"signal a process", SYS_kill, {0, 0}},
    {"trace a process", SYS_ptrace, {-1}},
    {"another namespace", SYS_unshare, {0}},
    {"enter a namespace", SYS_setns, {-1}},
    {"mount", SYS_mount, {0}},
    {"a link", SYS_symlinkat, {(long)"/", -1, (long)"x"}},
    {"memory as a file", SYS_memfd_create, {(long)"x", 0}},
    {"capabilities", SYS_capset, {0}},
    {"dumpable again", SYS_prctl, {PR_SET_DUMPABLE, 1}},
};

static const struct crime forbidden_crimes[] = {
    {"trace a process", SYS_ptrace, {-1}},
    {"read another process", SYS_process_vm_readv, {-1}},
    {"take another's descriptor", SYS_pidfd_getfd, {-1}},
    {"load a BPF program", SYS_bpf, {-1}},
    {"performance counters", SYS_perf_event_open, {0}},
    {"userfaultfd", SYS_userfaultfd, {-1}},
    {"a key ring", SYS_keyctl, {-1}},
    {"load a module", SYS_finit_module, {-1}},
    {"another kernel", SYS_kexec_load, {-1}},
    {"set the clock", SYS_clock_settime, {-1}},
    {"open by handle", SYS_open_by_handle_at, {-1}},
};

static void needs_confinement(void)
{
    if (!confine_is_built())
        skip(); /* a build with a sanitizer, or a portable one */
}

static void commit(const struct crime *crime)
{
    const long *with = crime->arguments;
    syscall(crime->call, with[0], with[1], with[2], with[3], with[4], with[5]);
}

/* Return: what wait(2) said of a child that has called @body. */
static int in_child(int (*body)(const void *context), const void *context)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(body(context));
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static bool is_killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

/* ---- service threads ------------------------------------------------------------------------------------------------ */

static int open_crime(void *context, struct error *err)
{
    (void)err;
    commit(context);
    return SURVIVED;
}

static int commit_as_service(const void *context)
{
    return confine_service(&folders, open_crime, (void *)(uintptr_t)context, NULL);
}

static void *run_crime(void *context)
{
    commit(context);
    return NULL;
}

static int open_thread(void *context, struct error *err)
{
    (void)err;
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_crime, context) != 0)
        return 1;
    pthread_join(thread, NULL);
    return SURVIVED;
}

static int commit_in_a_thread_of_it(const void *context)
{
    return confine_service(&folders, open_thread, (void *)(uintptr_t)context, NULL);
}

static void any_other_call_of_a_service_thread_ends_the_process(void **state)
{
    (void)state;
    needs_confinement();
    for (size_t i = 0; i < sizeof service_crimes / sizeof service_crimes[0]; i++) {
        if (!is_killed(in_child(commit_as_service, &service_crimes[i])) ||
            !is_killed(in_child(commit_in_a_thread_of_it, &service_crimes[i])))
            fail_msg("%s: not killed", service_crimes[i].what);
    }
}

static int open_ordinary(void *context, struct error *err)
{
    (void)err;
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    char *memory = malloc(4000000);
    if (fd < 0 || memory == NULL)
        return -EIO;
    memset(memory, 1, 4000000);
    free(memory);
    close(fd);
    return *(const int *)context;
}

static void what_they_need_they_have_and_the_result_is_handed_on(void **state)
{
    (void)state;
    int wanted = -EXDEV;
    assert_int_equal(confine_service(&folders, open_ordinary, &wanted, NULL), -EXDEV);
    /* The thread that asked is as free as before. */
    assert_int_equal(WEXITSTATUS(system("exit 3")), 3); /* NOLINT(cert-env33-c): a constant */
}

/* Return: 0 or the errno of opening it */
static int try_open(const char *path, int flags)
{
    int fd SCOPED_FD = open(path, flags | O_CLOEXEC, 0600);
    return fd < 0 ? errno : 0;
}

/* Return: 0, or the line that another outcome was on */
static int open_files(void *context, struct error *err)
{
    (void)err;
    char path[sizeof data_folder + 16];
    snprintf(path, sizeof path, "%s/omertad.db", data_folder);
    if (try_open(path, O_RDWR | O_CREAT) != 0 || unlink(path) != 0)
        return __LINE__;
    if (try_open("/usr/share", O_RDONLY | O_DIRECTORY) != 0 || try_open("/proc/self/statm", O_RDONLY) != 0 ||
        try_open("/proc/self/fd", O_RDONLY | O_DIRECTORY) != 0 ||
        try_open("/proc/sys/kernel/random/boot_id", O_RDONLY) != 0)
        return __LINE__;
    if (try_open("/usr/share/omertad-planted", O_WRONLY | O_CREAT) != EACCES)
        return __LINE__;
    const char *const others[] = {"/etc/passwd", "/root", "/tmp", "/dev/zero", "/proc/1/environ", context};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (try_open(others[i], O_RDONLY) != EACCES)
            return __LINE__;
    return 0;
}

static void they_reach_their_folders_and_no_other(void **state)
{
    (void)state;
    if (landlock_version() == 0)
        skip();                             /* an older kernel, or a build that narrows nothing */
    char key[] = "/tmp/omertad-key-XXXXXX"; /* another file of this account */
    int fd SCOPED_FD = mkstemp(key);
    assert_true(fd >= 0);
    assert_int_equal(confine_service(&folders, open_files, key, NULL), 0);
    assert_int_equal(try_open(key, O_RDONLY), 0); /* the thread that asked is as free as before */
    unlink(key);
}

static int ordinary_on_an_older_kernel(const void *context)
{
    static const struct confine_rule none[] = {
        {.call = "landlock_create_ruleset", .reason = "an older kernel", .refused = ENOSYS}};
    struct confine_program program;
    if (confine_forbid(none, 1, &program, NULL) < 0 || confine_enter(&program) < 0 || landlock_version() != 0)
        return 1;
    return confine_service(&folders, open_ordinary, (void *)(uintptr_t)context, NULL);
}

static void without_landlock_they_serve_all_the_same(void **state)
{
    (void)state;
    needs_confinement();
    const int wanted = SURVIVED;
    assert_int_equal(WEXITSTATUS(in_child(ordinary_on_an_older_kernel, &wanted)), SURVIVED);
}

/* ---- the process ---------------------------------------------------------------------------------------------------- */

static int commit_in_process(const void *context)
{
    if (confine_process(NULL) < 0)
        return 1;
    commit(context);
    return SURVIVED;
}

/* A program that the confined process starts. */
static int commit_in_program(const void *context)
{
    if (confine_process(NULL) < 0)
        return 1;
    int status = in_child(commit_in_process, context);
    return is_killed(status) ? 0 : SURVIVED;
}

static int ordinary_program(const void *context)
{
    (void)context;
    if (confine_process(NULL) < 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return 1;
    /* QEMU asks for it and does without. */
    if (syscall(SYS_io_uring_setup, 0, NULL) != -1 || errno != ENOSYS)
        return 2;
    return WEXITSTATUS(system("exit 7")); /* NOLINT(cert-env33-c): a constant */
}

static void a_forbidden_call_ends_the_process_that_makes_it(void **state)
{
    (void)state;
    needs_confinement();
    for (size_t i = 0; i < sizeof forbidden_crimes / sizeof forbidden_crimes[0]; i++) {
        if (!is_killed(in_child(commit_in_process, &forbidden_crimes[i])) ||
            in_child(commit_in_program, &forbidden_crimes[i]) != 0)
            fail_msg("%s: not killed", forbidden_crimes[i].what);
    }
    assert_int_equal(WEXITSTATUS(in_child(ordinary_program, NULL)), 7);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(data_folder) != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(data_folder);
}

static void tables_say_why(void **state)
{
    (void)state;
    needs_confinement();
    size_t count;
    const struct confine_rule *rules = confine_service_table(&count);
    for (size_t i = 0; i < count; i++)
        assert_true(strlen(rules[i].reason) > 3);
    rules = confine_forbidden_table(&count);
    for (size_t i = 0; i < count; i++)
        assert_true(strlen(rules[i].reason) > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_other_call_of_a_service_thread_ends_the_process),
        cmocka_unit_test(what_they_need_they_have_and_the_result_is_handed_on),
        cmocka_unit_test(they_reach_their_folders_and_no_other),
        cmocka_unit_test(without_landlock_they_serve_all_the_same),
        cmocka_unit_test(a_forbidden_call_ends_the_process_that_makes_it),
        cmocka_unit_test(tables_say_why),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

#else

int main(void)
{
    return 0;
}

#endif

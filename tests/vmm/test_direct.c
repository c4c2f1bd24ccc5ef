/* Real namespaces, real pasta, real nft; the hypervisor is this binary itself, so that what it sees is what it was given.
 *
 * The test makes a small world of its own: a network namespace with a link and a default route, and a /dev/net/tun in a
 * private mount namespace. A helper keeps root in that world and changes it; the tests themselves are an ordinary user's.
 * Where no such world can be made they are skipped, and say so. */
#include "vmm/direct.h"

#include <string.h>

#include "tests/cmocka.h"
#include "tests/coverage.h"
#include "vmm/vmm.h"

#ifndef OMERTAD_PORTABLE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "vmm/command_pasta.h"
#include "vmm/direct_keeper.h"
#include "vmm/process.h"

enum { WAIT_MS = 15000, ORDINARY_UID = 61234, OUTPUT_BYTES = 4096, MARK_FD = 12 };

static char self[VMM_PATH_BYTES];
static char nft[VMM_PATH_BYTES];
static int helper_fd = -1;

/* ---- the hypervisor ---- */

static void print_status(const char *name)
{
    char line[256];
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            printf("%s", line);
    if (file != NULL)
        fclose(file);
}

static int be_hypervisor(const char *how)
{
    if (strcmp(how, "fail") == 0)
        return 42;
    struct ifreq tap = {0};
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("fd%d ", fd);
    printf("%s\n", ioctl(COMMAND_FD_NET, TUNGETIFF, &tap) == 0 ? tap.ifr_name : "no tap");
    print_status("CapInh");
    print_status("CapPrm");
    print_status("CapEff");
    print_status("CapAmb");
    print_status("NoNewPrivs");
    print_status("SigBlk");
    printf("said\n");
    fflush(stdout);
    while (true)
        pause();
}

/* ---- the world ---- */

static int run(const char *command)
{
    return system(command); /* NOLINT(cert-env33-c): fixed words of this test */
}

static void help(int fd)
{
    char command[512];
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    for (ssize_t length; (length = read(fd, command, sizeof command - 1)) > 0;) {
        command[length] = '\0';
        char failed = run(command) != 0;
        if (write(fd, &failed, 1) != 1)
            break;
    }
    _exit(0);
}

/* Change the world as root. */
static void change(const char *command)
{
    char failed = 1;
    assert_int_equal(write(helper_fd, command, strlen(command)), strlen(command));
    assert_int_equal(read(helper_fd, &failed, 1), 1);
    assert_int_equal(failed, 0);
}

static const char *make_world(void)
{
    static const char commands[] =
        "mount -t tmpfs tmpfs /run && mknod -m 666 /run/tun c 10 200 && mount --bind /run/tun /dev/net/tun && "
        "ip link set lo up && ip link add w0 type veth peer name w1 && ip address add 198.51.100.1/24 dev w0 && "
        "ip link set w0 up && ip link set w1 up && ip route add default via 198.51.100.2";
    int pair[2];
    if (geteuid() != 0)
        return "start as root: a private /dev/net/tun takes mknod(2)";
    if (unshare(CLONE_NEWNS | CLONE_NEWNET) != 0 || run("mount --make-rprivate /") != 0 || run(commands) != 0)
        return "no private namespaces or no /dev/net/tun";
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return "no socket pair";
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        help(pair[1]);
    }
    close(pair[1]);
    helper_fd = pair[0];
    if (setgid(ORDINARY_UID) != 0 || setuid(ORDINARY_UID) != 0 || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0)
        return "cannot become an ordinary user";
    if (access(self, X_OK) != 0)
        return "an ordinary user cannot execute this file where it lies";
    return NULL;
}

/* ---- one machine ---- */

struct machine {
    struct direct direct;
    struct child guard;
    char output[OUTPUT_BYTES];
};

static void prepare(struct machine *machine, const char *how)
{
    struct command command;
    command_start(&command, self);
    command_add(&command, "hypervisor");
    command_add(&command, "%s", how);
    int null_fd SCOPED_FD = open("/dev/null", O_RDWR | O_CLOEXEC);
    const struct child_fd fds[] = {{null_fd, COMMAND_FD_QMP}, {null_fd, MARK_FD}};
    const struct direct_spec spec = {
        .consumer = {.ip = UINT32_C(0xCB007105), .port = 51900}, .command = &command, .fds = fds, .fd_count = 2};
    struct error err = {0};
    if (helper_fd < 0)
        skip();
    direct_init(&machine->direct);
    child_init(&machine->guard);
    if (direct_spawn(&spec, &machine->direct, &machine->guard, &err) != 0)
        fail_msg("%s", err.message);
}

static void start(struct machine *machine, const char *how)
{
    prepare(machine, how);
    assert_int_equal(child_release(&machine->guard), 0);
}

static void wait_started(struct machine *machine)
{
    struct pollfd said = {.fd = machine->direct.line_fd, .events = POLLIN};
    assert_int_equal(poll(&said, 1, WAIT_MS), 1);
    assert_int_equal(direct_receive(&machine->direct, NULL), 1);
    assert_true(machine->direct.pid > 1 && machine->direct.pid != machine->guard.pid);
    assert_int_equal(machine->direct.start_ticks, process_start_ticks(machine->direct.pid, NULL));
}

static void wait_said(struct machine *machine)
{
    for (uint64_t limit = clock_monotonic_ms() + WAIT_MS; clock_monotonic_ms() < limit;) {
        struct pollfd more = {.fd = machine->guard.output_fd, .events = POLLIN};
        (void)poll(&more, 1, CHILD_TICK_MS);
        child_read_output(&machine->guard);
        if (strstr(child_format_output(&machine->guard, machine->output, sizeof machine->output), "said") != NULL)
            return;
    }
    fail_msg("the hypervisor said: %s", machine->output);
}

static struct child_exit wait_end(struct machine *machine)
{
    struct child_exit ended = {.code = -1};
    struct pollfd end = {.fd = machine->guard.exit_fd, .events = POLLIN};
    assert_int_equal(poll(&end, 1, WAIT_MS), 1);
    assert_true(child_reap(&machine->guard, &ended));
    return ended;
}

static bool is_there(pid_t pid)
{
    bool ended = false;
    return process_start_ticks(pid, &ended) != 0 && !ended;
}

static void wait_gone(pid_t pid)
{
    for (uint64_t limit = clock_monotonic_ms() + WAIT_MS; is_there(pid) && clock_monotonic_ms() < limit;)
        usleep(1000);
    assert_false(is_there(pid));
}

/* Guards, pastas, launchers and hypervisors of this file. */
static size_t count_left(void)
{
    size_t count = 0;
    char launcher[VMM_PATH_BYTES + 32];
    char hypervisor[VMM_PATH_BYTES + 32];
    snprintf(launcher, sizeof launcher, "%s %s", self, COMMAND_PASTA_LAUNCHER);
    snprintf(hypervisor, sizeof hypervisor, "%s hypervisor", self);
    DIR *folder = opendir("/proc");
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[sizeof entry->d_name + 32];
        char text[4 * VMM_PATH_BYTES];
        snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        int fd SCOPED_FD = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        text[length < 0 ? 0 : length] = '\0';
        for (ssize_t at = 0; at + 1 < length; at++)
            if (text[at] == '\0')
                text[at] = ' ';
        count += strstr(text, launcher) != NULL || strstr(text, hypervisor) != NULL;
    }
    closedir(folder);
    return count;
}

static void assert_nothing_left(void)
{
    for (int tries = 0; tries < 500 && count_left() > 0; tries++)
        usleep(20000);
    assert_int_equal(count_left(), 0);
}

static pid_t child_of(pid_t pid)
{
    char path[64];
    char text[64] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    int fd SCOPED_FD = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(read(fd, text, sizeof text - 1) > 0);
    return (pid_t)atoi(text);
}

static bool set_has(const struct machine *machine, const char *address)
{
    char command[VMM_PATH_BYTES + 200];
    char text[1024];
    snprintf(command, sizeof command, "nsenter -t %d -U -n --preserve-credentials %s list set ip omerta own",
             machine->direct.pid, nft);
    FILE *list = popen(command, "re");
    size_t length = fread(text, 1, sizeof text - 1, list);
    text[length] = '\0';
    assert_int_equal(pclose(list), 0);
    return strstr(text, address) != NULL;
}

static void wait_set(const struct machine *machine, const char *address, bool wanted)
{
    for (uint64_t limit = clock_monotonic_ms() + WAIT_MS; clock_monotonic_ms() < limit;)
        if (set_has(machine, address) == wanted)
            return;
    fail_msg("%s %s", address, wanted ? "was not added" : "was not removed");
}

/* ---- tests ---- */

static void the_check_passes_where_direct_machines_can_run(void **state)
{
    (void)state;
    struct error err = {0};
    if (helper_fd < 0)
        skip();
    if (vmm_direct_check(&err) != 0)
        fail_msg("%s", err.message);
    assert_nothing_left();
}

static void assert_missing(const char *field, const char *mend)
{
    struct error err = {0};
    assert_true(vmm_direct_check(&err) < 0);
    assert_string_equal(err.slug, "direct-unavailable");
    assert_string_equal(err.field, field);
    assert_non_null(strstr(err.message, mend));
    assert_nothing_left();
}

static void the_check_names_a_closed_tun_device(void **state)
{
    (void)state;
    if (helper_fd < 0)
        skip();
    change("chmod 600 /run/tun");
    assert_missing("/dev/net/tun", "chmod 0666 /dev/net/tun");
    change("chmod 666 /run/tun");
}

static void the_check_names_a_missing_route(void **state)
{
    (void)state;
    if (helper_fd < 0)
        skip();
    change("ip route del default");
    assert_missing("network", "default route");
    change("ip route add default via 198.51.100.2");
}

static void the_hypervisor_has_its_descriptors_a_tap_and_no_capability(void **state)
{
    (void)state;
    struct machine machine;
    start(&machine, "say");
    wait_started(&machine);
    wait_said(&machine);
    assert_non_null(strstr(machine.output, "fd0 fd1 fd2 fd3 fd5 fd12 vm0 "));
    assert_non_null(strstr(machine.output, "CapInh: 0000000000000000 CapPrm: 0000000000000000 "
                                           "CapEff: 0000000000000000 CapAmb: 0000000000000000 NoNewPrivs: 1 "));
    assert_non_null(strstr(machine.output, "SigBlk: 0000000000000000 "));
    direct_close(&machine.direct, &machine.guard);
    assert_nothing_left();
}

static void the_namespace_starts_with_the_host_s_addresses_closed(void **state)
{
    (void)state;
    struct machine machine;
    start(&machine, "say");
    wait_started(&machine);
    wait_said(&machine);
    assert_true(set_has(&machine, "198.51.100.1"));
    assert_true(set_has(&machine, "127.0.0.1"));
    assert_false(set_has(&machine, "198.51.100.2"));
    direct_close(&machine.direct, &machine.guard);
}

static void the_hypervisor_s_exit_code_is_the_child_s(void **state)
{
    (void)state;
    struct machine machine;
    start(&machine, "fail");
    assert_int_equal(wait_end(&machine).code, 42);
    direct_close(&machine.direct, &machine.guard);
    assert_nothing_left();
}

static void a_kill_ends_all_of_it(void **state)
{
    (void)state;
    struct machine machine;
    start(&machine, "say");
    wait_started(&machine);
    wait_said(&machine); /* amid execve(2) a process shows no arguments */
    pid_t hypervisor = machine.direct.pid;
    assert_int_equal(count_left(), 3); /* guard, pasta, hypervisor */
    direct_kill(&machine.guard);
    (void)wait_end(&machine);
    assert_false(is_there(hypervisor)); /* without waiting: the child's end comes last */
    direct_close(&machine.direct, &machine.guard);
    assert_nothing_left();
}

static void a_kill_at_any_moment_of_the_start_leaves_nothing(void **state)
{
    (void)state;
    for (unsigned after_ms = 0; after_ms < 60; after_ms += 6) {
        struct machine machine;
        start(&machine, "say");
        usleep(after_ms * 1000);
        direct_kill(&machine.guard);
        (void)wait_end(&machine);
        direct_close(&machine.direct, &machine.guard);
    }
    assert_nothing_left();
}

/* A machine so busy that the guard does not run for a while. */
static void a_guard_that_does_not_get_to_run_keeps_nobody_else(void **state)
{
    (void)state;
    struct machine machine;
    struct error err = {0};
    prepare(&machine, "say");
    assert_int_equal(child_signal(&machine.guard, SIGSTOP), 0);
    assert_int_equal(child_release(&machine.guard), 0);
    assert_int_equal(child_started(&machine.guard, self, &err), -EINPROGRESS);
    assert_int_equal(direct_receive(&machine.direct, &err), 0);
    assert_int_equal(child_signal(&machine.guard, SIGCONT), 0);
    assert_int_equal(poll(&(struct pollfd){.fd = machine.guard.start_fd, .events = POLLIN}, 1, WAIT_MS), 1);
    assert_int_equal(child_started(&machine.guard, self, &err), 0);
    wait_started(&machine);
    wait_said(&machine);
    direct_close(&machine.direct, &machine.guard);
    assert_nothing_left();
}

static void a_guard_that_never_runs_is_ended_all_the_same(void **state)
{
    (void)state;
    struct machine machine;
    prepare(&machine, "say");
    pid_t pid = machine.guard.pid;
    assert_int_equal(child_signal(&machine.guard, SIGSTOP), 0);
    assert_int_equal(child_release(&machine.guard), 0);
    direct_close(&machine.direct, &machine.guard);
    assert_false(is_there(pid));
    assert_nothing_left();
}

static void the_hypervisor_does_not_outlive_pasta(void **state)
{
    (void)state;
    struct machine machine;
    start(&machine, "say");
    wait_started(&machine);
    pid_t hypervisor = machine.direct.pid;
    assert_int_equal(kill(child_of(machine.guard.pid), SIGKILL), 0);
    assert_int_equal(wait_end(&machine).code, 128 + SIGKILL);
    assert_false(is_there(hypervisor));
    direct_close(&machine.direct, &machine.guard);
}

static void the_hypervisor_does_not_outlive_its_guard(void **state)
{
    (void)state;
    struct machine machine;
    start(&machine, "say");
    wait_started(&machine);
    assert_int_equal(kill(machine.guard.pid, SIGKILL), 0);
    wait_gone(machine.direct.pid);
    (void)wait_end(&machine);
    direct_close(&machine.direct, &machine.guard);
}

static void the_hypervisor_does_not_outlive_the_daemon(void **state)
{
    (void)state;
    int pair[2];
    pid_t hypervisor = 0;
    if (helper_fd < 0)
        skip();
    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    pid_t daemon_pid = fork();
    if (daemon_pid == 0) {
        struct machine machine;
        start(&machine, "say");
        wait_started(&machine);
        if (write(pair[1], &machine.direct.pid, sizeof machine.direct.pid) > 0)
            (void)kill(getpid(), SIGKILL);
        _exit(1);
    }
    close(pair[1]);
    assert_int_equal(read(pair[0], &hypervisor, sizeof hypervisor), sizeof hypervisor);
    close(pair[0]);
    assert_int_equal(waitpid(daemon_pid, NULL, 0), daemon_pid);
    wait_gone(hypervisor);
    assert_nothing_left();
}

static void the_keeper_closes_an_address_that_the_host_gets_later(void **state)
{
    (void)state;
    const struct id id = {.text = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"};
    struct direct_keeper *keeper = NULL;
    struct machine machine;
    start(&machine, "say");
    wait_started(&machine);
    change("ip address add 203.0.113.8/32 dev w0"); /* before the keeper knows the machine */
    assert_int_equal(direct_keeper_open(&keeper, NULL), 0);
    assert_int_equal(direct_keeper_add(keeper, &id, &machine.direct, NULL), 0);
    wait_set(&machine, "203.0.113.8", true);
    change("ip address add 203.0.113.9/32 dev w0");
    wait_set(&machine, "203.0.113.9", true);
    change("ip address del 203.0.113.9/32 dev w0 && ip address del 203.0.113.8/32 dev w0");
    wait_set(&machine, "203.0.113.9", false);
    assert_true(set_has(&machine, "198.51.100.1"));
    assert_int_equal(direct_keeper_remove(keeper, &id, NULL), 0);
    direct_keeper_close(keeper);
    direct_close(&machine.direct, &machine.guard);
}

static void the_keeper_ends_a_machine_whose_set_it_cannot_replace(void **state)
{
    (void)state;
    const struct id id = {.text = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"};
    struct direct_keeper *keeper = NULL;
    struct machine machine;
    struct error err = {0};
    char command[VMM_PATH_BYTES + 200];
    start(&machine, "say");
    wait_started(&machine);
    wait_said(&machine);
    snprintf(command, sizeof command, "nsenter -t %d -U -n --preserve-credentials %s delete table ip omerta",
             machine.direct.pid, nft);
    assert_int_equal(run(command), 0);
    assert_int_equal(direct_keeper_open(&keeper, NULL), 0);
    assert_int_equal(direct_keeper_add(keeper, &id, &machine.direct, NULL), 0);
    assert_int_equal(wait_end(&machine).code, 128 + SIGKILL);
    assert_int_equal(direct_keeper_remove(keeper, &id, &err), -EIO);
    assert_non_null(strstr(err.message, "could not be closed"));
    direct_keeper_close(keeper);
    direct_close(&machine.direct, &machine.guard);
}

static void a_tool_that_is_not_there_is_named_with_its_package(void **state)
{
    (void)state;
    char path[VMM_PATH_BYTES];
    struct error err = {0};
    assert_int_equal(direct_find_tool("sh", path, &err), 0);
    assert_int_equal(direct_find_tool("no-such-tool-here", path, &err), -ENOENT);
    assert_string_equal(err.slug, "direct-unavailable");
    assert_string_equal(err.field, "no-such-tool-here");
    assert_non_null(strstr(err.message, "apt install"));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        coverage_leave();
    if (argc > 1 && strcmp(argv[1], COMMAND_PASTA_LAUNCHER) == 0)
        return launcher_run(argc - 1, argv + 1);
    if (argc > 2 && strcmp(argv[1], "hypervisor") == 0)
        return be_hypervisor(argv[2]);
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length < 0 ? 0 : length] = '\0';
    const char *lacks = make_world();
    if (lacks == NULL && (direct_find_tool("nft", nft, NULL) != 0 || direct_find_tool("pasta", nft, NULL) != 0 ||
                          direct_find_tool("nft", nft, NULL) != 0))
        lacks = "nft or pasta is missing";
    if (lacks != NULL) {
        helper_fd = -1;
        fprintf(stderr, "test_direct: most is SKIPPED: %s\n", lacks);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_check_passes_where_direct_machines_can_run),
        cmocka_unit_test(the_check_names_a_closed_tun_device),
        cmocka_unit_test(the_check_names_a_missing_route),
        cmocka_unit_test(the_hypervisor_has_its_descriptors_a_tap_and_no_capability),
        cmocka_unit_test(the_namespace_starts_with_the_host_s_addresses_closed),
        cmocka_unit_test(the_hypervisor_s_exit_code_is_the_child_s),
        cmocka_unit_test(a_kill_ends_all_of_it),
        cmocka_unit_test(a_kill_at_any_moment_of_the_start_leaves_nothing),
        cmocka_unit_test(a_guard_that_does_not_get_to_run_keeps_nobody_else),
        cmocka_unit_test(a_guard_that_never_runs_is_ended_all_the_same),
        cmocka_unit_test(the_hypervisor_does_not_outlive_pasta),
        cmocka_unit_test(the_hypervisor_does_not_outlive_its_guard),
        cmocka_unit_test(the_hypervisor_does_not_outlive_the_daemon),
        cmocka_unit_test(the_keeper_closes_an_address_that_the_host_gets_later),
        cmocka_unit_test(the_keeper_ends_a_machine_whose_set_it_cannot_replace),
        cmocka_unit_test(a_tool_that_is_not_there_is_named_with_its_package),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void a_portable_build_refuses_and_says_why(void **state)
{
    (void)state;
    struct error err = {0};
    assert_true(vmm_direct_check(&err) < 0);
    assert_string_equal(err.slug, "direct-unavailable");
    assert_non_null(strstr(err.message, "Linux"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_portable_build_refuses_and_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif

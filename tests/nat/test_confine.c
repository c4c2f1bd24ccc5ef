/* A NAT thread that makes a call that it has no business with. The call is planted where the thread takes frames: this
 * program has a recvmmsg() of its own, which the linker prefers to the C library's. */
#include "tests/cmocka.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/landlock.h"
#include "base/scope.h"
#include "nat/confine.h"
#include "tests/nat/lab.h"
#include "tests/nat/link.h"

#ifdef __linux__

/** struct crime - One system call; up to six arguments. */
struct crime {
    const char *what;
    long call;
    long arguments[6];
};

static const struct crime *_Atomic planted;
static atomic_bool survived;
static atomic_int outcome; /* of the crime: 0 or an errno */

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *limit)
{
    const struct crime *crime = atomic_exchange(&planted, NULL);
    if (crime != NULL) {
        const long *with = crime->arguments;
        errno = 0;
        syscall(crime->call, with[0], with[1], with[2], with[3], with[4], with[5]);
        atomic_store(&outcome, errno);
        atomic_store(&survived, true);
    }
    return (int)syscall(SYS_recvmmsg, fd, messages, count, flags, limit);
}

static const struct sockaddr_in elsewhere = {.sin_family = AF_INET, .sin_port = 0x3500, .sin_addr = {0x08080808}};

/* Whatever a shellcode would try. None of them is given what it needs to succeed beyond the thread: it must not get there. */
static const struct crime crimes[] = {
    {"open a file", SYS_openat, {AT_FDCWD, (long)"/etc/passwd", O_RDONLY}},
    {"start a program", SYS_execve, {(long)"/bin/true"}},
    {"fork", SYS_clone, {SIGCHLD}},
    {"fork, the new way", SYS_clone3, {0}},
    {"make memory executable", SYS_mprotect, {0, 4096, PROT_READ | PROT_EXEC}},
    {"map memory", SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
    {"TCP", SYS_socket, {AF_INET, SOCK_STREAM}},
    {"a raw socket", SYS_socket, {AF_INET, SOCK_RAW, IPPROTO_UDP}},
    {"IPv6", SYS_socket, {AF_INET6, SOCK_DGRAM}},
    {"a unix socket", SYS_socket, {AF_UNIX, SOCK_DGRAM}},
    {"netlink", SYS_socket, {AF_NETLINK, SOCK_DGRAM}},
    {"leave by another device", SYS_setsockopt, {-1, SOL_SOCKET, SO_BINDTODEVICE}},
    {"send to somebody by name", SYS_sendto, {-1, 0, 0, 0, (long)&elsewhere, sizeof elsewhere}},
    {"send past its batches", SYS_sendto, {-1}},
    {"receive past its batches", SYS_recvfrom, {-1}},
    {"send a descriptor", SYS_sendmsg, {-1}},
    {"receive a descriptor", SYS_recvmsg, {-1}},
    {"write a file", SYS_write, {-1}},
    {"read a file", SYS_read, {-1}},
    {"signal a process", SYS_kill, {0, 0}},
    {"signal a thread", SYS_tgkill, {-1, -1, 0}},
    {"trace a process", SYS_ptrace, {-1}},
    {"read another process", SYS_process_vm_readv, {-1}},
    {"another namespace", SYS_unshare, {0}},
    {"load a BPF program", SYS_bpf, {-1}},
    {"io_uring", SYS_io_uring_setup, {0}},
    {"advise about memory", SYS_madvise, {0, 0, MADV_DONTNEED}},
    {"hear signals", SYS_rt_sigprocmask, {SIG_SETMASK, 0, 0, 8}},
    {"draw random bytes", SYS_getrandom, {0}},
#ifdef SYS_poll
    {"wait in another way", SYS_ppoll, {0}},
#endif
    {"end the process", SYS_exit_group, {0}},
};

static void needs_confinement(void)
{
    if (!confine_is_built())
        skip(); /* a build with a sanitizer, or a portable one */
}

static void assert_forwards(struct lab *lab)
{
    uint8_t bytes[64];
    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    lab_guest_sends(lab, &frame);
    assert_int_equal(lab_consumer_gets(lab, bytes, sizeof bytes), 8);
    lab_consumer_sends(lab, "answer", 6);
    assert_int_equal(lab_guest_gets(lab, bytes, sizeof bytes), 42 + 6);
}

/* Whether the NAT's end of the reports is closed; what stands before that is passed over. */
static bool reports_end(const struct lab *lab)
{
    struct nat_report report;
    ssize_t length;
    do
        length = recv(lab->reports, &report, sizeof report, 0);
    while (length > 0);
    return length == 0;
}

/* The kernel closes a dead thread's descriptors one after the other. */
static bool attachment_ends(const struct lab *lab, const struct frame *frame)
{
    const uint64_t limit_ms = clock_monotonic_ms() + 10000;
    while (send(lab->guest, frame->bytes, frame->length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno == EAGAIN) {
        if (clock_monotonic_ms() > limit_ms)
            return false;
    }
    return true;
}

static void commit(struct lab *lab, const struct crime *crime)
{
    uint8_t bytes[64];
    lab_open_flow(lab);
    atomic_store(&survived, false);
    atomic_store(&planted, crime);
    struct frame frame = frame_udp(test_guest, test_consumer, 8);
    lab_guest_sends(lab, &frame);
    if (!reports_end(lab) || atomic_load(&survived))
        fail_msg("%s: not killed", crime->what);
    while (recv(lab->consumer, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        continue; /* what went before the crime */
    if (!attachment_ends(lab, &frame))
        fail_msg("%s: the attachment still takes frames", crime->what);
    lab_consumer_sends(lab, "answer", 6); /* nobody is there, and the guest gets nothing */
    assert_true(lab_silent(lab->consumer));
    assert_true(recv(lab->guest, bytes, sizeof bytes, MSG_DONTWAIT) <= 0);
}

static void any_other_call_kills_the_thread_and_cuts_its_vm_off(void **state)
{
    (void)state;
    needs_confinement();
    for (size_t i = 0; i < sizeof crimes / sizeof crimes[0]; i++) {
        struct lab lab = lab_open();
        commit(&lab, &crimes[i]);
        lab_stop(&lab); /* joins it; nothing that it could have held is missed */
    }
}

static void another_vm_notices_nothing(void **state)
{
    (void)state;
    needs_confinement();
    struct lab good = lab_open();
    assert_forwards(&good);
    fd_close(&good.consumer); /* two labs have one consumer's address */
    struct lab bad = lab_open();
    commit(&bad, &crimes[0]);
    fd_close(&bad.consumer);
    good.consumer = link_udp_socket(test_consumer);
    assert_forwards(&good);
    /* Orders to a thread that is gone are taken and come to nothing. */
    struct nat_policy newer = test_policy;
    newer.generation++;
    assert_int_equal(nat_apply(bad.nat, &newer, NULL), 0);
    assert_true(nat_recall(bad.nat));
    nat_shut(bad.nat);
    bad.consumer = -1;
    lab_stop(&bad);
    assert_forwards(&good);
    lab_stop(&good);
}

static size_t count_entries(const char *path)
{
    size_t count = 0;
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

/* The newest thread: ids grow but for a wrap-around. */
static pid_t newest_thread(void)
{
    pid_t newest = 0;
    DIR *folder = opendir("/proc/self/task");
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        pid_t id = (pid_t)atoi(entry->d_name);
        newest = id > newest ? id : newest;
    }
    closedir(folder);
    return newest;
}

static void a_thread_has_its_own_descriptors_and_no_others(void **state)
{
    (void)state;
    needs_confinement();
    char path[64];
    struct lab lab = lab_open();
    snprintf(path, sizeof path, "/proc/self/task/%d/fd", (int)newest_thread());
    assert_int_equal(count_entries(path), 3); /* attachment, reports, wake-up */
    size_t ours = count_entries("/proc/self/fd");
    lab_open_flow(&lab);
    assert_int_equal(count_entries(path), 4);
    assert_int_equal(count_entries("/proc/self/fd"), ours);
    lab_stop(&lab);
}

static void descriptors_and_memory_come_back_after_a_kill(void **state)
{
    (void)state;
    needs_confinement();
    struct lab first = lab_open();
    commit(&first, &crimes[0]);
    lab_stop(&first);
    size_t before = count_entries("/proc/self/fd");
    for (int i = 0; i < 20; i++) {
        struct lab lab = lab_open();
        commit(&lab, &crimes[i % 2]);
        lab_stop(&lab);
    }
    assert_int_equal(count_entries("/proc/self/fd"), before);
    assert_int_equal(count_entries("/proc/self/task"), 1);
}

/* What would be left if a call slipped into the table: a confinement whose programs let nearly everything pass. */
static struct nat_confinement *make_open_table(const struct nat_config *config)
{
    static const struct confine_rule one[] = {{.call = "reboot", .reason = "a program must forbid something"}};
    struct nat_confinement *confinement = NULL;
    assert_int_equal(nat_confinement_make(&confinement, NULL), 0);
    struct confine_program *program = (void *)(uintptr_t)nat_confinement_program(confinement, config);
    assert_int_equal(confine_forbid(one, 1, program, NULL), 0);
    return confinement;
}

static void without_its_table_a_thread_still_reaches_no_file(void **state)
{
    (void)state;
    needs_confinement();
    if (landlock_version() == 0)
        skip();
    static const struct crime reads[] = {
        {"read", SYS_openat, {AT_FDCWD, (long)"/etc/passwd", O_RDONLY}},
        {"list", SYS_openat, {AT_FDCWD, (long)"/", O_RDONLY | O_DIRECTORY}},
        {"make", SYS_openat, {AT_FDCWD, (long)"/tmp/omertad-planted", O_WRONLY | O_CREAT, 0600}},
        {"start a program", SYS_execve, {(long)"/bin/true"}},
    };
    struct nat_confinement *confinement = make_open_table(&(struct nat_config){.peer_known = true});
    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
        struct lab lab;
        lab_start_under(&lab, confinement);
        lab_open_gate(&lab);
        atomic_store(&survived, false);
        atomic_store(&planted, &reads[i]);
        assert_forwards(&lab);
        assert_true(atomic_load(&survived));
        if (atomic_load(&outcome) != EACCES)
            fail_msg("%s: %s", reads[i].what, strerror(atomic_load(&outcome)));
        lab_stop(&lab);
    }
    nat_confinement_free(confinement);
    int ours = open("/etc/passwd", O_RDONLY | O_CLOEXEC); /* the other threads are as free as before */
    assert_true(ours >= 0);
    close(ours);
}

/* As a kernel that has no Landlock answers. Return: 0 when all is as without it */
static int forward_without_landlock(void)
{
    static const struct confine_rule none[] = {
        {.call = "landlock_create_ruleset", .reason = "an older kernel", .refused = ENOSYS}};
    struct confine_program program;
    if (confine_forbid(none, 1, &program, NULL) < 0 || confine_enter(&program) < 0 || landlock_version() != 0)
        return 1;
    struct lab lab = lab_open();
    assert_forwards(&lab);
    commit(&lab, &crimes[0]);
    lab_stop(&lab);
    return 0;
}

static void without_landlock_nothing_else_changes(void **state)
{
    (void)state;
    needs_confinement();
    pid_t pid = fork();
    if (pid == 0)
        _exit(forward_without_landlock());
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void the_table_is_short_and_says_why(void **state)
{
    (void)state;
    needs_confinement();
    size_t count;
    const struct confine_rule *rules = nat_confine_table(&count);
    for (size_t at = 0; at < count; at++)
        assert_true(strlen(rules[at].reason) > 5);
    struct confine_rule of_all[64];
    size_t of_all_count = 0;
    assert_true(count <= sizeof of_all / sizeof of_all[0]);
    for (size_t at = 0; at < count; at++)
        if (rules[at].ways == 0)
            of_all[of_all_count++] = rules[at];
    assert_int_equal(confine_count(of_all, of_all_count), 12); /* of a VM on datagrams with a known peer */
    assert_int_equal(nat_confined_calls(), 17);
}

static void a_misspelt_call_is_refused(void **state)
{
    (void)state;
    needs_confinement();
    static const struct confine_rule wrong[] = {{.call = "recvmsgs", .reason = "no such call"}};
    struct confine_program program;
    struct error err;
    assert_int_equal(confine_allow(wrong, 1, 0, CONFINE_KILL_THREAD, &program, &err), -ENOSYS);
    assert_non_null(strstr(err.message, "recvmsgs"));
}

int main(void)
{
    if (link_enter() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_other_call_kills_the_thread_and_cuts_its_vm_off),
        cmocka_unit_test(another_vm_notices_nothing),
        cmocka_unit_test(a_thread_has_its_own_descriptors_and_no_others),
        cmocka_unit_test(descriptors_and_memory_come_back_after_a_kill),
        cmocka_unit_test(without_its_table_a_thread_still_reaches_no_file),
        cmocka_unit_test(without_landlock_nothing_else_changes),
        cmocka_unit_test(the_table_is_short_and_says_why),
        cmocka_unit_test(a_misspelt_call_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    return 0;
}

#endif

#include "vmm/direct.h"

#ifndef OMERTAD_PORTABLE /* else direct_portable.c */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "vmm/attachment.h"
#include "vmm/command_pasta.h"
#include "vmm/launcher.h"
#include "vmm/own_addresses.h"
#include "vmm/process.h"
#include "vmm/vmm.h"

enum direct_limits {
    CLOSE_MS = 2000, /* a killed hypervisor gives back its memory first */
    CHECK_MS = 5000,
    TRIAL_PORT = 9,
};

#define TRIAL_IP UINT32_C(0xC0000201) /* 192.0.2.1 of TEST-NET-1 (RFC 5737): a trial has no consumer */

void direct_init(struct direct *direct)
{
    *direct = (struct direct){.line_fd = -1, .pidfd = -1};
}

/* ---- starting ---------------------------------------------------------------------------------------------- */

static const char *package_of(const char *name)
{
    if (strcmp(name, "pasta") == 0)
        return "passt";
    return strcmp(name, "nft") == 0 ? "nftables" : "util-linux";
}

int direct_find_tool(const char *name, char ret_path[static VMM_PATH_BYTES], struct error *err)
{
    static const char *const folders[] = {"/usr/sbin", "/sbin", "/usr/local/sbin"};
    int rc = command_find(name, ret_path, NULL);
    for (size_t at = 0; at < sizeof folders / sizeof *folders && rc != 0; at++) {
        char path[VMM_PATH_BYTES];
        snprintf(path, sizeof path, "%s/%s", folders[at], name);
        rc = command_find(path, ret_path, NULL);
    }
    if (rc == 0)
        return 0;
    error_set(err, -ENOENT, "%s: no such program; install it: apt install %s", name, package_of(name));
    error_tag(err, "direct-unavailable", name);
    return -ENOENT;
}

/* pasta executes it by its path. A daemon whose file was replaced must not start another program in its place. */
static int find_self(char ret_path[static VMM_PATH_BYTES], struct error *err)
{
    static const char gone[] = " (deleted)";
    ssize_t length = readlink("/proc/self/exe", ret_path, VMM_PATH_BYTES - 1);
    if (length <= 0)
        return error_set(err, -ENOENT, "/proc/self/exe: %s", strerror(errno));
    ret_path[length] = '\0';
    if (length == VMM_PATH_BYTES - 1 ||
        ((size_t)length >= sizeof gone && strcmp(ret_path + length - (sizeof gone - 1), gone) == 0))
        return error_set(err, -ENOENT, "this program's file was replaced: start omertad again");
    return 0;
}

static int build_command(struct command *ret_command, struct error *err)
{
    char pasta[VMM_PATH_BYTES];
    char self[VMM_PATH_BYTES];
    char nft[VMM_PATH_BYTES];
    int rc = direct_find_tool("pasta", pasta, err);
    if (rc == 0)
        rc = direct_find_tool("nft", nft, err); /* the launcher looks for itself: what it says here is clearer */
    if (rc == 0)
        rc = find_self(self, err);
    if (rc != 0)
        return rc;
    return command_pasta_build(&(struct command_pasta){.pasta = pasta, .program = self}, ret_command, err);
}

static int read_rules(const struct direct_spec *spec, struct direct_rules *ret_rules, struct error *err)
{
    char text[DIRECT_RULES_BYTES];
    *ret_rules = (struct direct_rules){.consumer = spec->consumer, .allow_private = spec->allow_private};
    int rc = own_addresses_read(ret_rules->own, DIRECT_OWN_MAX, &ret_rules->own_count, err);
    if (rc == 0)
        rc = direct_rules_print(ret_rules, text, err); /* what cannot be loaded is refused here */
    if (rc > 0)
        return 0;
    error_tag(err, "direct-unavailable", "network");
    return rc;
}

int direct_spawn(const struct direct_spec *spec, struct direct *ret_direct, struct child *ret_guard, struct error *err)
{
    struct command command;
    struct direct_rules rules;
    struct launcher_order order;
    int near_fd SCOPED_FD = -1;
    int far_fd SCOPED_FD = -1;
    const int on = 1;
    int rc = build_command(&command, err);
    if (rc == 0)
        rc = read_rules(spec, &rules, err);
    if (rc == 0)
        rc = attachment_pair(SOCK_SEQPACKET, &near_fd, &far_fd, err);
    if (rc != 0)
        return rc;
    if (setsockopt(near_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
        return error_set(err, -errno, "SO_PASSCRED: %s", strerror(errno));
    launcher_order_make(&rules, spec->command, spec->fds, spec->fd_count, &order);
    const struct child_fd line = {.from = far_fd, .to = LAUNCHER_LINE_FD};
    rc = launcher_send(near_fd, &order, spec->fds, err);
    if (rc == 0)
        rc = child_prepare(command.argv[0], command.argv, &line, 1, CHILD_DIES_WITH_PARENT, ret_guard, err);
    if (rc != 0)
        return rc;
    direct_init(ret_direct);
    ret_direct->line_fd = fd_take(&near_fd);
    return 0;
}

/* The kernel fills in the sender's pid as this process sees it. */
static pid_t read_pid(struct msghdr *message)
{
    struct ucred sender;
    struct cmsghdr *head = CMSG_FIRSTHDR(message);
    if (head == NULL || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_CREDENTIALS ||
        head->cmsg_len != CMSG_LEN(sizeof sender))
        return 0;
    memcpy(&sender, CMSG_DATA(head), sizeof sender);
    return sender.pid;
}

int direct_receive(struct direct *direct, struct error *err)
{
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    char said = 0;
    struct iovec text = {.iov_base = &said, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &text, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t length = direct->line_fd < 0 ? 0 : recvmsg(direct->line_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    pid_t pid = length == 1 && said == LAUNCHER_READY ? read_pid(&message) : 0;
    fd_close(&direct->line_fd);
    if (pid <= 0)
        return error_set(err, -EPIPE, "the machine's namespace could not be made");
    direct->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (direct->pidfd < 0)
        return error_set(err, -errno, "the hypervisor ended at once: %s", strerror(errno));
    direct->pid = pid;
    direct->start_ticks = process_start_ticks(pid, NULL);
    return 1;
}

/* ---- ending ------------------------------------------------------------------------------------------------ */

void direct_kill(const struct child *guard)
{
    (void)child_signal(guard, SIGTERM);
}

void direct_close(struct direct *direct, struct child *guard)
{
    struct child_exit ended;
    direct_kill(guard);
    for (uint64_t limit = clock_monotonic_ms() + CLOSE_MS; guard->pid != 0 && clock_monotonic_ms() < limit;) {
        struct pollfd polled = {.fd = guard->exit_fd, .events = POLLIN};
        (void)poll(&polled, 1, CHILD_TICK_MS);
        (void)child_reap(guard, &ended);
    }
    child_close(guard);
    fd_close(&direct->line_fd);
    fd_close(&direct->pidfd);
    direct->pid = 0;
}

/* ---- the check --------------------------------------------------------------------------------------------- */

/* Return: whether the trial's launcher got to its end. */
static bool await_trial(struct direct *direct, struct child *guard)
{
    struct child_exit ended;
    bool ready = false;
    for (uint64_t limit = clock_monotonic_ms() + CHECK_MS; clock_monotonic_ms() < limit;) {
        struct pollfd polls[] = {{.fd = direct->line_fd, .events = POLLIN},
                                 {.fd = guard->output_fd, .events = POLLIN},
                                 {.fd = guard->exit_fd, .events = POLLIN}};
        (void)poll(polls, sizeof polls / sizeof *polls, CHILD_TICK_MS);
        if (polls[0].revents != 0)
            ready = direct_receive(direct, NULL) == 1 || ready;
        child_read_output(guard);
        if (child_reap(guard, &ended)) {
            child_read_output(guard);
            break;
        }
    }
    return ready;
}

static bool is_set(const char *path, char value)
{
    int fd SCOPED_FD = open(path, O_RDONLY | O_CLOEXEC);
    char first;
    return fd >= 0 && read(fd, &first, 1) == 1 && first == value;
}

static int explain_namespaces(const char *said, struct error *err)
{
    const char *mend = "sysctl -w user.max_user_namespaces=15000";
    if (is_set("/proc/sys/kernel/unprivileged_userns_clone", '0'))
        mend = "sysctl -w kernel.unprivileged_userns_clone=1";
    else if (is_set("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", '1'))
        mend = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with userns";
    error_set(err, -EPERM, "user namespaces are closed to this user (%.120s); mend: %s", said, mend);
    return error_tag(err, "direct-unavailable", "user namespaces");
}

/* pasta's and the launcher's own words, made into what is missing and what helps. */
static int explain(const struct child *guard, struct error *err)
{
    char said[ERROR_MESSAGE_BYTES / 2];
    child_format_output(guard, said, sizeof said);
    if (strstr(said, "user namespace") != NULL)
        return explain_namespaces(said, err);
    const char *field = "nft";
    if (strstr(said, "tun socket") != NULL || strstr(said, "/dev/net/tun") != NULL) {
        field = "/dev/net/tun";
        error_set(err, -EACCES, "/dev/net/tun cannot be used (%.120s); mend: modprobe tun; chmod 0666 /dev/net/tun",
                  said);
    } else if (strstr(said, "routable interface") != NULL) {
        field = "network";
        error_set(err, -ENETUNREACH, "this machine has no IPv4 default route (%.120s); mend: ip route add default ...",
                  said);
    } else if (strstr(said, "nft") != NULL || strstr(said, "Error:") != NULL) {
        error_set(err, -EPERM, "the firewall could not be loaded (%.120s); mend: modprobe nf_tables nft_masq nft_ct",
                  said);
    } else {
        field = "pasta";
        error_set(err, -EPERM, "a trial of direct mode failed: %.200s", said[0] == '\0' ? "nothing was said" : said);
    }
    return error_tag(err, "direct-unavailable", field);
}

int vmm_direct_check(struct error *err)
{
    const struct direct_spec trial = {.consumer = {.ip = TRIAL_IP, .port = TRIAL_PORT}};
    struct direct direct;
    struct child guard;
    char nsenter[VMM_PATH_BYTES];
    int rc = direct_find_tool("nsenter", nsenter, err);
    if (rc == 0)
        rc = direct_spawn(&trial, &direct, &guard, err);
    if (rc != 0) {
        if (err != NULL && err->slug == NULL)
            error_tag(err, "direct-unavailable", "pasta");
        return rc;
    }
    /* One that does not hear has ended, which the trial sees. */
    bool ready = child_release(&guard) == 0 && await_trial(&direct, &guard);
    rc = child_started(&guard, "the guard of direct mode", err);
    if (ready)
        rc = 0;
    else if (rc == 0 || rc == -EINPROGRESS)
        rc = explain(&guard, err);
    else
        error_tag(err, "direct-unavailable", "pasta");
    direct_close(&direct, &guard);
    return rc;
}

#endif

/* The launcher lives twice. Outside, as child_prepare()'s program, it is the guard: it starts pasta with the line at
 * descriptor 0, because 0, 1 and 2 are all that every version of pasta hands on to the program that it runs, and it ends
 * when nothing of the machine is left. Whatever happens to the daemon (SIGTERM, by PR_SET_PDEATHSIG) or to pasta, it
 * kills pasta's process group, also the child that a pasta which fails leaves behind, and reaps all of it.
 *
 * Inside, as the program that pasta runs, the launcher is process 1 of a pid namespace, root of a user namespace that
 * knows one user, and reads its order from the line.
 *
 * Inside, the order of the steps is the promise: nothing can pass before the rules stand, because the guest's side gets
 * its address and comes up last; and the hypervisor runs no instruction with a capability.
 *
 * The hypervisor must not outlive pasta even where the guard cannot help: PR_SET_PDEATHSIG. It is set before the uplink
 * is looked for: a pasta that died earlier has taken its uplink with it. */
#include "vmm/launcher.h"

#ifndef OMERTAD_PORTABLE /* else direct_portable.c */

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "vmm/direct.h"
#include "vmm/vmm.h"

enum {
    HIGH_FD = CHILD_FD_TO_MAX + 1, /* above every number that a hypervisor's descriptor may get */
    INHERITED_FD_MAX = 1024,       /* what pasta might have left open lies far below */
    UPLINK_TICK_NS = 5000000,
    SYSCTL_PATH_BYTES = 96,
};

/* ---- the order --------------------------------------------------------------------------------------------- */

void launcher_order_make(const struct direct_rules *rules, const struct command *command, const struct child_fd *fds,
                         size_t fd_count, struct launcher_order *ret_order)
{
    REQUIRE(fd_count <= CHILD_FD_MAX);
    *ret_order = (struct launcher_order){.version = OMERTAD_VERSION, .rules = *rules, .fd_count = fd_count};
    for (size_t at = 0; at < fd_count; at++) {
        REQUIRE(fds[at].to != COMMAND_FD_NET);
        ret_order->fd_to[at] = fds[at].to;
    }
    if (command == NULL)
        return;
    REQUIRE(!command->failed);
    ret_order->arguments = command->count;
    ret_order->text_bytes = command->used;
    memcpy(ret_order->text, command->text, command->used);
}

int launcher_order_check(struct launcher_order *order, size_t bytes, size_t fd_count,
                         char *ret_argv[static COMMAND_ARGS_MAX + 1], struct error *err)
{
    if (bytes != sizeof *order || strncmp(order->version, OMERTAD_VERSION, sizeof order->version) != 0)
        return error_set(err, -EBADMSG, "not an order of omertad " OMERTAD_VERSION);
    bool sound = order->fd_count == fd_count && order->arguments <= COMMAND_ARGS_MAX &&
                 order->text_bytes <= sizeof order->text && order->rules.own_count <= DIRECT_OWN_MAX;
    for (size_t at = 0; sound && at < fd_count; at++)
        sound = order->fd_to[at] > STDERR_FILENO && order->fd_to[at] <= CHILD_FD_TO_MAX &&
                order->fd_to[at] != COMMAND_FD_NET;
    size_t used = 0;
    for (size_t at = 0; sound && at < order->arguments; at++) {
        ret_argv[at] = order->text + used;
        used += strnlen(order->text + used, order->text_bytes - used) + 1;
        sound = used <= order->text_bytes;
    }
    if (!sound || used != order->text_bytes)
        return error_set(err, -EBADMSG, "a damaged order");
    ret_argv[order->arguments] = NULL;
    return 0;
}

int launcher_send(int line_fd, const struct launcher_order *order, const struct child_fd *fds, struct error *err)
{
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(int) * CHILD_FD_MAX)];
    } control = {0};
    int numbers[CHILD_FD_MAX];
    for (size_t at = 0; at < order->fd_count; at++)
        numbers[at] = fds[at].from;
    struct iovec text = {.iov_base = (void *)(uintptr_t)order, .iov_len = sizeof *order};
    struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1};
    if (order->fd_count > 0) {
        size_t bytes = sizeof(int) * order->fd_count;
        control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(bytes), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.head), numbers, bytes);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(bytes);
    }
    if (sendmsg(line_fd, &message, MSG_NOSIGNAL) != (ssize_t)sizeof *order)
        return error_set(err, -errno, "cannot hand the machine its order: %s", strerror(errno));
    return 0;
}

/* @ret_fds: moved above what they may become, close-on-exec. */
static int receive(int line_fd, struct launcher_order *ret_order, int ret_fds[static CHILD_FD_MAX], size_t *ret_count,
                   size_t *ret_bytes, struct error *err)
{
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(int) * CHILD_FD_MAX)];
    } control;
    struct iovec text = {.iov_base = ret_order, .iov_len = sizeof *ret_order};
    struct msghdr message = {
        .msg_iov = &text, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t length = recvmsg(line_fd, &message, MSG_CMSG_CLOEXEC);
    if (length < 0)
        return error_set(err, -errno, "no order: %s", strerror(errno));
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
        return error_set(err, -EBADMSG, "the order does not fit");
    *ret_count = 0;
    *ret_bytes = (size_t)length;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head == NULL || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
        return 0;
    *ret_count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(ret_fds, CMSG_DATA(head), *ret_count * sizeof(int));
    for (size_t at = 0; at < *ret_count; at++) {
        int moved = fcntl(ret_fds[at], F_DUPFD_CLOEXEC, HIGH_FD);
        if (moved < 0)
            return error_set(err, -errno, "cannot move a descriptor: %s", strerror(errno));
        close(ret_fds[at]);
        ret_fds[at] = moved;
    }
    return 0;
}

/* ---- the namespace ----------------------------------------------------------------------------------------- */

static int await_uplink(struct error *err)
{
    const struct timespec tick = {.tv_nsec = UPLINK_TICK_NS};
    for (uint64_t limit = clock_monotonic_ms() + LAUNCHER_UPLINK_MS; if_nametoindex(DIRECT_UPLINK) == 0;) {
        if (clock_monotonic_ms() > limit)
            return error_set(err, -ETIMEDOUT, "pasta did not make its interface");
        nanosleep(&tick, NULL);
    }
    return 0;
}

/* The hypervisor gets the device attached: it neither has to find it nor needs a right to it. */
static int open_tap(int *ret_fd, struct error *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", DIRECT_TAP);
    int fd SCOPED_FD = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0)
        return error_set(err, -errno, "/dev/net/tun: %s", strerror(errno));
    *ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    return *ret_fd >= 0 ? 0 : error_set(err, -errno, "cannot move a descriptor: %s", strerror(errno));
}

static int write_sysctl(const char *path, const char *value, bool may_lack, struct error *err)
{
    int fd SCOPED_FD = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && may_lack)
        return 0;
    if (fd < 0 || write(fd, value, 1) != 1)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    return 0;
}

/* ip_forward comes first: the kernel resets others when it changes. */
static int set_sysctls(struct error *err)
{
    static const char *const places[] = {"all", "default", "lo", DIRECT_UPLINK, DIRECT_TAP};
    static const struct {
        const char *name;
        const char *value;
    } settings[] = {
        {"accept_source_route", "0"}, {"route_localnet", "0"}, {"accept_redirects", "0"}, {"send_redirects", "0"},
        {"rp_filter", "1"},           {"proxy_arp", "0"},      {"arp_ignore", "1"},
    };
    int rc = write_sysctl("/proc/sys/net/ipv4/ip_forward", "1", false, err);
    for (size_t place = 0; place < sizeof places / sizeof *places; place++) {
        char path[SYSCTL_PATH_BYTES];
        for (size_t at = 0; at < sizeof settings / sizeof *settings && rc == 0; at++) {
            snprintf(path, sizeof path, "/proc/sys/net/ipv4/conf/%s/%s", places[place], settings[at].name);
            rc = write_sysctl(path, settings[at].value, false, err);
        }
        snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", places[place]);
        if (rc == 0)
            rc = write_sysctl(path, "1", true, err); /* a kernel without IPv6 has nothing to switch off */
    }
    return rc;
}

static int write_all(int fd, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t written = write(fd, text, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return -EPIPE;
        text += written;
        length -= (size_t)written;
    }
    return 0;
}

static int load_rules(const struct direct_rules *rules, struct error *err)
{
    char text[DIRECT_RULES_BYTES];
    char nft[VMM_PATH_BYTES];
    int length = direct_rules_print(rules, text, err);
    int rc = length < 0 ? length : direct_find_tool("nft", nft, err);
    if (rc != 0)
        return rc;
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return error_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        char *const argv[] = {nft, (char *)"-f", (char *)"-", NULL};
        if (dup2(fds[0], STDIN_FILENO) == STDIN_FILENO)
            execv(nft, argv);
        _exit(127);
    }
    fd_close(&fds[0]);
    rc = pid < 0 ? -errno : write_all(fds[1], text, (size_t)length);
    fd_close(&fds[1]);
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (rc == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        rc = -EPERM;
    return rc == 0 ? 0 : error_set(err, rc, "nft did not load the firewall rules");
}

static struct sockaddr address_of(uint32_t ip)
{
    const struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(ip)};
    struct sockaddr address;
    _Static_assert(sizeof name == sizeof address, "the two are laid over each other by the system's own interface");
    memcpy(&address, &name, sizeof address);
    return address;
}

/* Last of all: from here on the guest's frames are taken. */
static int bring_up(struct error *err)
{
    int fd SCOPED_FD = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", DIRECT_TAP);
    request.ifr_addr = address_of(VMM_LINK_GATEWAY_IP);
    int rc = fd < 0 ? -1 : ioctl(fd, SIOCSIFADDR, &request);
    request.ifr_netmask = address_of(UINT32_MAX << (32 - VMM_LINK_PREFIX));
    if (rc == 0)
        rc = ioctl(fd, SIOCSIFNETMASK, &request);
    request.ifr_flags = IFF_UP;
    if (rc == 0)
        rc = ioctl(fd, SIOCSIFFLAGS, &request);
    return rc == 0 ? 0 : error_set(err, -errno, "cannot configure " DIRECT_TAP ": %s", strerror(errno));
}

/* ---- becoming the hypervisor ------------------------------------------------------------------------------- */

/* pasta keeps CAP_SETPCAP to itself, so where the bounding set and the securebits cannot be changed they stay as they
 * are: with no_new_privs and an empty permitted set neither gives anything back (execve(2) intersects with it). What
 * counts is read back at the end. */
static int drop_capabilities(struct error *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    (void)prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP, 0, 0, 0);
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_capset, &head, none) != 0 || syscall(SYS_capget, &head, none) != 0)
        return error_set(err, -errno, "cannot drop capabilities: %s", strerror(errno));
    for (size_t at = 0; at < _LINUX_CAPABILITY_U32S_3; at++)
        if ((none[at].effective | none[at].permitted | none[at].inheritable) != 0)
            return error_set(err, -EPERM, "capabilities are left");
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : error_set(err, -EPERM, "no_new_privs is not set");
}

static int place_descriptors(const struct launcher_order *order, const int fds[static CHILD_FD_MAX], int tap_fd,
                             struct error *err)
{
    for (int fd = STDERR_FILENO + 1; fd < INHERITED_FD_MAX; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* whatever pasta left open, and what was ours */
    int null_fd SCOPED_FD = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool placed = null_fd >= 0 && dup2(null_fd, STDIN_FILENO) >= 0;
    fd_close(&null_fd); /* it may have the very number that comes next */
    for (size_t at = 0; at < order->fd_count && placed; at++)
        placed = dup2(fds[at], order->fd_to[at]) >= 0;
    placed = placed && dup2(tap_fd, COMMAND_FD_NET) >= 0;
    return placed ? 0 : error_set(err, -errno, "cannot place descriptors: %s", strerror(errno));
}

static int become(char *const argv[], struct error *err)
{
    char *const environment[] = {(char *)"PATH=/usr/bin:/bin", (char *)"LANG=C", NULL};
    execve(argv[0], argv, environment);
    return error_set(err, -errno, "%s: %s", argv[0], strerror(errno));
}

/* pasta blocks a signal to wait for it, and main() ignores one; both would outlive execve(2). */
static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
}

static int prepare(const struct direct_rules *rules, int *ret_tap_fd, struct error *err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return error_set(err, -errno, "PR_SET_PDEATHSIG: %s", strerror(errno));
    int rc = await_uplink(err);
    if (rc == 0)
        rc = open_tap(ret_tap_fd, err);
    if (rc == 0)
        rc = set_sysctls(err);
    if (rc == 0)
        rc = load_rules(rules, err);
    if (rc == 0)
        rc = bring_up(err);
    if (rc == 0)
        rc = drop_capabilities(err);
    return rc;
}

static int launch(int line_fd, struct error *err)
{
    struct launcher_order order;
    char *argv[COMMAND_ARGS_MAX + 1];
    int fds[CHILD_FD_MAX];
    size_t fd_count = 0;
    size_t bytes = 0;
    int tap_fd = -1;
    int rc = receive(line_fd, &order, fds, &fd_count, &bytes, err);
    if (rc == 0)
        rc = launcher_order_check(&order, bytes, fd_count, argv, err);
    if (rc == 0)
        rc = prepare(&order.rules, &tap_fd, err);
    if (rc == 0 && order.arguments > 0)
        rc = place_descriptors(&order, fds, tap_fd, err);
    /* Said with the process's own pid, which the kernel puts beside it as the daemon sees it. */
    const char ready = LAUNCHER_READY;
    if (rc == 0 && send(line_fd, &ready, 1, MSG_NOSIGNAL) != 1)
        rc = error_set(err, -errno, "the daemon is gone: %s", strerror(errno));
    if (rc == 0 && order.arguments > 0)
        rc = become(argv, err);
    else if (rc == 0)
        (void)!read(line_fd, &order, sizeof order); /* a trial lasts until it was looked at */
    return rc;
}

/* ---- the program ------------------------------------------------------------------------------------------- */

static _Noreturn void become_pasta(char *const argv[], pid_t guard)
{
    reset_signals();
    if (setpgid(0, 0) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && getppid() == guard)
        execv(argv[0], argv);
    fprintf(stderr, "omertad direct-launch: %s: %s\n", argv[0], strerror(errno));
    _exit(1);
}

static bool has_ended(pid_t pid)
{
    siginfo_t found = {0};
    return waitid(P_PID, (id_t)pid, &found, WEXITED | WNOHANG | WNOWAIT) == 0 && found.si_pid == pid;
}

/* pasta is reaped after its group was killed: until then its pid names no other group. Orphans become the guard's.
 * Return: pasta's exit code, which is the hypervisor's or 128 and its signal. */
static int guard_until_the_end(pid_t pasta, const sigset_t *signals)
{
    int code = 1;
    while (true) {
        int taken = 0;
        (void)sigwait(signals, &taken);
        if (pasta != 0 && taken == SIGTERM)
            (void)kill(-pasta, SIGKILL);
        int status = 0;
        if (pasta != 0 && has_ended(pasta)) {
            (void)kill(-pasta, SIGKILL);
            (void)waitpid(pasta, &status, 0);
            code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            pasta = 0;
        }
        while (pasta == 0 && waitpid(-1, &status, WNOHANG) > 0)
            ;
        if (pasta == 0 && waitpid(-1, &status, WNOHANG) < 0 && errno == ECHILD)
            return code;
    }
}

static int guard(char *const argv[], struct error *err)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGCHLD);
    int null_fd SCOPED_FD = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0 || dup2(LAUNCHER_LINE_FD, STDIN_FILENO) != STDIN_FILENO ||
        sigprocmask(SIG_SETMASK, &signals, NULL) != 0 || prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        return error_set(err, -errno, "not for people: the daemon starts this (%s)", strerror(errno));
    close(LAUNCHER_LINE_FD);
    pid_t self = getpid();
    pid_t pasta = fork();
    if (pasta == 0)
        become_pasta(argv, self);
    if (pasta < 0 || dup2(null_fd, STDIN_FILENO) < 0) /* the line's end must be seen */
        return error_set(err, -errno, "cannot start pasta: %s", strerror(errno));
    (void)setpgid(pasta, pasta); /* both do it: whichever comes first */
    return guard_until_the_end(pasta, &signals);
}

int launcher_run(int argc, char **argv)
{
    struct error err = {0};
    int rc;
    if (argc > 1) {
        rc = guard(argv + 1, &err);
    } else {
        reset_signals();
        int line_fd SCOPED_FD = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, HIGH_FD);
        rc = line_fd < 0 ? error_set(&err, -errno, "no line: %s", strerror(errno)) : launch(line_fd, &err);
    }
    if (rc < 0)
        fprintf(stderr, "omertad direct-launch: %s\n", err.message);
    return rc < 0 ? 1 : rc;
}

#endif

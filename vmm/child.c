/* A child starts in two steps. The first makes the process and has it wait; the second lets it become its program. What
 * outlives the daemon can so be written down before it runs: a daemon that is killed between the steps takes the waiting
 * process with it.
 *
 * Between fork(2) and execve(2) the child of a program with threads may only call what signal-safety(7) lists, so
 * everything that needs memory, locks or a decision is worked out before, in struct plan.
 *
 * Descriptors are moved in two steps, because the number that one must get may be the number that another still has: all
 * go above CHILD_FD_TO_MAX first, then each to its place, then everything else is closed. */
#include "vmm/child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
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
#include <sys/syscall.h>
#endif

#include "base/clock.h"
#include "base/log.h"
#include "base/scope.h"
#include "vmm/attachment.h"
#include "vmm/exit_watch.h"
#include "vmm/process.h"
#include "vmm/vmm.h"

enum {
    START_FD = CHILD_FD_TO_MAX + 1, /* where the child keeps its end of struct child's start_fd */
    MOVED_FD = CHILD_FD_TO_MAX + 2,
    OPEN_MAX_LIMIT = 1048576, /* more closes than that would take longer than a start may */
    READS_MAX = 16, /* of CHILD_OUTPUT_BYTES each: a child that floods its stderr does not keep the supervisor */
};

struct plan {
    const char *path;
    char *const *argv;
    struct child_fd fds[CHILD_FD_MAX + 3];
    size_t fd_count;
    enum child_bond bond;
    int start_fd; /* a byte comes in when execve(2) may be called, its failure goes out */
    pid_t parent;
    int open_max; /* first number that no descriptor has; only used where there is no close_range(2) */
};

/* ---- in the child ------------------------------------------------------------------------------------------ */

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int signal = 1; signal < NSIG; signal++)
        (void)sigaction(signal, &action, NULL); /* SIGKILL, SIGSTOP and the C library's own refuse */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* No terminal's signals, no core with a guest's memory in it, no privilege from a set-uid file, no life after ours. */
static int confine(const struct plan *plan)
{
    const struct rlimit no_core = {0, 0};
    umask(S_IRWXG | S_IRWXO);
    if (setsid() < 0 || chdir("/") != 0 || setrlimit(RLIMIT_CORE, &no_core) != 0)
        return -errno;
#ifndef OMERTAD_PORTABLE
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return -errno;
#endif
    return getppid() == plan->parent ? 0 : -ESRCH; /* the parent ended before its end could be noticed */
}

static bool is_target(const struct plan *plan, int fd)
{
    for (size_t at = 0; at < plan->fd_count; at++)
        if (plan->fds[at].to == fd)
            return true;
    return fd == START_FD;
}

static void close_others(const struct plan *plan)
{
    for (int fd = 0; fd < MOVED_FD; fd++)
        if (!is_target(plan, fd))
            close(fd);
#ifndef OMERTAD_PORTABLE
    if (syscall(SYS_close_range, (unsigned)MOVED_FD, ~0u, 0) == 0)
        return;
#endif
    for (int fd = MOVED_FD; fd < plan->open_max; fd++)
        close(fd);
}

static int place_descriptors(struct plan *plan)
{
    int start_fd = fcntl(plan->start_fd, F_DUPFD, MOVED_FD);
    if (start_fd < 0)
        return -errno;
    plan->start_fd = start_fd;
    int moved[CHILD_FD_MAX + 3];
    for (size_t at = 0; at < plan->fd_count; at++)
        if ((moved[at] = fcntl(plan->fds[at].from, F_DUPFD, MOVED_FD)) < 0)
            return -errno;
    for (size_t at = 0; at < plan->fd_count; at++)
        if (dup2(moved[at], plan->fds[at].to) < 0)
            return -errno;
    if (dup2(start_fd, START_FD) < 0 || fcntl(START_FD, F_SETFD, FD_CLOEXEC) != 0)
        return -errno;
    plan->start_fd = START_FD;
    close_others(plan);
    return 0;
}

/* Return: 0 when the parent said so; it may have ended instead. */
static int await_release(const struct plan *plan)
{
    char byte;
    ssize_t length;
    do
        length = read(plan->start_fd, &byte, sizeof byte);
    while (length < 0 && errno == EINTR);
    if (length != sizeof byte)
        return length < 0 ? -errno : -ECANCELED;
#ifndef OMERTAD_PORTABLE
    if (plan->bond == CHILD_OUTLIVES_PARENT && prctl(PR_SET_PDEATHSIG, 0) != 0)
        return -errno;
#endif
    return 0;
}

static _Noreturn void become(struct plan *plan)
{
    char *const environment[] = {(char *)"PATH=/usr/bin:/bin", (char *)"LANG=C", NULL};
    reset_signals();
    int code = confine(plan);
    if (code == 0)
        code = place_descriptors(plan);
    if (code == 0)
        code = await_release(plan);
    if (code == 0) {
        execve(plan->path, plan->argv, environment);
        code = -errno;
    }
    /* A parent that is gone does not hear it; SIGPIPE ends this process as well as _exit(2) does. */
    (void)!write(plan->start_fd, &code, sizeof code);
    _exit(127);
}

/* ---- in the parent ----------------------------------------------------------------------------------------- */

static int open_pipe(int ret_fds[2])
{
#ifndef OMERTAD_PORTABLE
    return pipe2(ret_fds, O_CLOEXEC);
#else
    if (pipe(ret_fds) != 0)
        return -1;
    fcntl(ret_fds[0], F_SETFD, FD_CLOEXEC);
    fcntl(ret_fds[1], F_SETFD, FD_CLOEXEC);
    return 0;
#endif
}

static int send_signal(pid_t pid, int exit_fd, int signal)
{
#ifndef OMERTAD_PORTABLE
    if (exit_fd >= 0)
        return syscall(SYS_pidfd_send_signal, exit_fd, signal, NULL, 0) == 0 ? 0 : -errno;
#else
    (void)exit_fd;
#endif
    return kill(pid, signal) == 0 ? 0 : -errno;
}

static pid_t wait_for(pid_t pid, int *ret_status, int options)
{
    pid_t found;
    do
        found = waitpid(pid, ret_status, options);
    while (found < 0 && errno == EINTR);
    return found;
}

/* Signals stay blocked over the fork, so that no handler of the daemon's runs in the child. */
static pid_t fork_into(struct plan *plan)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        become(plan);
    int code = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = code;
    return pid;
}

static int run_plan(struct plan *plan, struct child *ret_child, struct error *err)
{
    pid_t pid = fork_into(plan);
    if (pid < 0)
        return error_set(err, -errno, "cannot start a process: %s", strerror(errno));
    ret_child->pid = pid;
    ret_child->exit_fd = exit_watch_open(pid); /* -1 makes the supervisor look every CHILD_TICK_MS */
    ret_child->start_ticks = process_start_ticks(pid, NULL);
    return 0;
}

static void make_plan(struct plan *plan, char *const argv[], const struct child_fd *fds, size_t fd_count,
                      enum child_bond bond)
{
    *plan = (struct plan){.argv = argv, .bond = bond, .parent = getpid()};
    long open_max = sysconf(_SC_OPEN_MAX);
    plan->open_max = open_max > 0 && open_max < OPEN_MAX_LIMIT ? (int)open_max : OPEN_MAX_LIMIT;
    for (size_t at = 0; at < fd_count; at++) {
        REQUIRE(fds[at].from >= 0 && fds[at].to > STDERR_FILENO && fds[at].to <= CHILD_FD_TO_MAX);
        plan->fds[plan->fd_count++] = fds[at];
    }
}

int child_prepare(const char *path, char *const argv[], const struct child_fd *fds, size_t fd_count,
                  enum child_bond bond, struct child *ret_child, struct error *err)
{
    REQUIRE(fd_count <= CHILD_FD_MAX);
    struct plan plan;
    make_plan(&plan, argv, fds, fd_count, bond);
    /* The child goes to "/", so a path that starts here has to be found here. */
    char found[PATH_MAX];
    plan.path = path[0] == '/' ? path : realpath(path, found);
    if (plan.path == NULL)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    int null_fd SCOPED_FD = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        return error_set(err, -errno, "/dev/null: %s", strerror(errno));
    int output[2];
    if (open_pipe(output) != 0)
        return error_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
    int output_fd SCOPED_FD = output[0];
    int printed_fd SCOPED_FD = output[1];
    int start_fd SCOPED_FD = -1;
    int waiting_fd SCOPED_FD = -1;
    int rc = attachment_pair(SOCK_STREAM, &start_fd, &waiting_fd, err);
    if (rc != 0)
        return rc;
    if (fcntl(start_fd, F_SETFL, 0) != 0 || fcntl(output_fd, F_SETFL, O_NONBLOCK) != 0)
        return error_set(err, -errno, "cannot set up a child's descriptors: %s", strerror(errno));

    plan.start_fd = waiting_fd;
    plan.fds[plan.fd_count++] = (struct child_fd){null_fd, STDIN_FILENO};
    plan.fds[plan.fd_count++] = (struct child_fd){printed_fd, STDOUT_FILENO};
    plan.fds[plan.fd_count++] = (struct child_fd){printed_fd, STDERR_FILENO};
    struct child child;
    child_init(&child);
    rc = run_plan(&plan, &child, err);
    if (rc != 0)
        return rc;
    child.output_fd = fd_take(&output_fd);
    child.start_fd = fd_take(&start_fd);
    *ret_child = child;
    return 0;
}

int child_release(struct child *child)
{
    REQUIRE(child->start_fd >= 0 && !child->released);
    child->released = true;
    /* A child that could not get so far has written why. */
    return send(child->start_fd, "", 1, MSG_NOSIGNAL) < 0 && errno != EPIPE ? -errno : 0;
}

int child_started(struct child *child, const char *path, struct error *err)
{
    int code = 0;
    ssize_t length = recv(child->start_fd, &code, sizeof code, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return -EINPROGRESS;
    fd_close(&child->start_fd);
    if (length <= 0) /* execve(2) has closed it, or the child's end, which its process tells of */
        return 0;
    code = length == (ssize_t)sizeof code && code < 0 ? code : -EIO;
    return error_set(err, code, "%s: %s", path, strerror(-code));
}

static int await_started(struct child *child, const char *path, struct error *err)
{
    struct pollfd said = {.fd = child->start_fd, .events = POLLIN};
    int rc;
    do
        (void)poll(&said, 1, -1);
    while ((rc = child_started(child, path, err)) == -EINPROGRESS);
    return rc;
}

int child_spawn(const char *path, char *const argv[], const struct child_fd *fds, size_t fd_count,
                struct child *ret_child, struct error *err)
{
    struct child child;
    int rc = child_prepare(path, argv, fds, fd_count, CHILD_DIES_WITH_PARENT, &child, err);
    if (rc != 0)
        return rc;
    rc = child_release(&child);
    rc = rc == 0 ? await_started(&child, path, err) : error_set(err, rc, "%s: %s", path, strerror(-rc));
    if (rc == 0)
        *ret_child = child;
    else
        child_close(&child);
    return rc;
}

void child_init(struct child *child)
{
    *child = (struct child){.exit_fd = -1, .start_fd = -1, .output_fd = -1};
}

int child_signal(const struct child *child, int signal)
{
    return child->pid == 0 ? -ESRCH : send_signal(child->pid, child->exit_fd, signal);
}

static struct child_exit exit_of(int status)
{
    if (WIFSIGNALED(status))
        return (struct child_exit){.code = -1, .signal = WTERMSIG(status)};
    return (struct child_exit){.code = WEXITSTATUS(status), .signal = 0};
}

/* Nobody waits for the process of another parent; its descriptor says when it has ended. */
static bool reap_adopted(struct child *child, struct child_exit *ret_exit)
{
    struct pollfd ended = {.fd = child->exit_fd, .events = POLLIN};
    if (child->pid == 0 || poll(&ended, 1, 0) <= 0)
        return false;
    child->pid = 0;
    fd_close(&child->exit_fd);
    *ret_exit = (struct child_exit){.code = -1, .signal = 0};
    return true;
}

bool child_reap(struct child *child, struct child_exit *ret_exit)
{
    int status;
    if (child->adopted)
        return reap_adopted(child, ret_exit);
    if (child->pid == 0 || wait_for(child->pid, &status, WNOHANG) != child->pid)
        return false;
    child->pid = 0;
    fd_close(&child->exit_fd);
    *ret_exit = exit_of(status);
    return true;
}

void child_read_output(struct child *child)
{
    for (int reads = 0; reads < READS_MAX && child->output_fd >= 0; reads++) {
        char bytes[CHILD_OUTPUT_BYTES];
        ssize_t length = read(child->output_fd, bytes, sizeof bytes);
        if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return;
        if (length <= 0) {
            fd_close(&child->output_fd);
            return;
        }
        for (ssize_t at = 0; at < length; at++)
            child->output[child->output_total++ % CHILD_OUTPUT_BYTES] = bytes[at];
    }
}

const char *child_format_output(const struct child *child, char *ret_text, size_t capacity)
{
    uint64_t end = child->output_total;
    uint64_t begin = end < CHILD_OUTPUT_BYTES ? 0 : end - CHILD_OUTPUT_BYTES;
    while (end > begin && child->output[(end - 1) % CHILD_OUTPUT_BYTES] == '\n')
        end--;
    char line[CHILD_OUTPUT_BYTES];
    size_t at = sizeof line;
    size_t left = capacity - 1;
    for (; end > begin; end--) {
        char c = child->output[(end - 1) % CHILD_OUTPUT_BYTES];
        if (c == '\n' || c == '\t')
            c = ' ';
        size_t width = c < ' ' || c > '~' || c == '"' || c == '\\' ? sizeof "\\x00" - 1 : 1;
        if (width > left)
            break;
        left -= width;
        line[--at] = c;
    }
    return log_escape(line + at, sizeof line - at, ret_text, capacity);
}

void child_leave(struct child *child)
{
    fd_close(&child->start_fd);
    fd_close(&child->exit_fd);
    fd_close(&child->output_fd);
    child->pid = 0;
}

void child_close(struct child *child)
{
    int status;
    if (child->pid != 0) {
        (void)child_signal(child, SIGKILL);
        if (child->adopted)
            (void)process_await_end(child->exit_fd, child->pid, child->start_ticks);
        else
            (void)wait_for(child->pid, &status, 0);
    }
    child_leave(child);
}

/* ---- processes of an earlier daemon ------------------------------------------------------------------------- */

int child_adopt(int64_t pid, uint64_t start_ticks, const char *boot_id, struct child *ret_child, struct error *err)
{
    char boot[ID_TEXT_BYTES];
    if (pid <= 1 || pid > INT32_MAX || pid == getpid() || start_ticks == 0 || *vmm_boot_id(boot) == '\0' ||
        strcmp(boot, boot_id) != 0)
        return error_set(err, -ESRCH, "process %" PRId64 " is not of this boot", pid);
    /* The descriptor comes first: what is read about the pid afterwards is true of the process that it holds. */
    int exit_fd SCOPED_FD = exit_watch_open((pid_t)pid);
    if (!process_runs((pid_t)pid, start_ticks))
        return error_set(err, -ESRCH, "process %" PRId64 " is not there any more", pid);
    if (exit_fd < 0 || !EXIT_WATCH_HOLDS)
        return error_set(err, -ENOTSUP, "this system has no descriptor that holds a process");
    child_init(ret_child);
    ret_child->pid = (pid_t)pid;
    ret_child->adopted = true;
    ret_child->exit_fd = fd_take(&exit_fd);
    ret_child->start_ticks = start_ticks;
    return 0;
}

int vmm_reap_stray(int64_t pid, uint64_t start_ticks, const char *boot_id, struct error *err)
{
    struct child stray;
    child_init(&stray);
    int rc = child_adopt(pid, start_ticks, boot_id, &stray, NULL);
    if (rc == -ENOTSUP) {
        stray.pid = (pid_t)pid;
        stray.exit_fd = exit_watch_open(stray.pid);
    } else if (rc != 0) {
        return 0;
    }
    rc = child_signal(&stray, SIGKILL);
    if (rc == 0)
        rc = process_await_end(stray.exit_fd, stray.pid, start_ticks);
    fd_close(&stray.exit_fd);
    if (rc == -ESRCH)
        return 0;
    return rc == 0 ? 1 : error_set(err, rc, "cannot end process %" PRId64 ": %s", pid, strerror(-rc));
}

/* nsenter(1) enters the machine's user namespace, as the same user that made it and with its capabilities there, and its
 * network namespace; nft(8) replaces the set in one transaction. Both namespaces are held by descriptors, so that a pid
 * that is used again cannot be meant.
 *
 * The set is generation-counted. A machine's own number is what it has; the thread brings each to the newest one without
 * holding the lock while nft runs.
 *
 * Between the moment in which the host gets an address and the transaction lie some milliseconds; the rule that uses the
 * set stands before `established`, so what was opened in them is cut. */
#include "vmm/direct_keeper.h"

#ifndef OMERTAD_PORTABLE /* else direct_portable.c */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "vmm/attachment.h"
#include "vmm/own_addresses.h"

enum {
    USER_FD = 3, /* where nsenter finds the two namespaces */
    NET_FD = 4,
    SAID_BYTES = 160,
};

/* @generation: of the set that the namespace has; 0: that of its start. */
struct kept {
    struct id id;
    int user_fd;
    int net_fd;
    int pidfd;
    uint64_t generation;
    struct error failed;
};

struct direct_keeper {
    char nsenter[VMM_PATH_BYTES];
    char nft[VMM_PATH_BYTES];
    int netlink_fd;
    int wake_read_fd;
    int wake_write_fd;
    pthread_t thread;

    pthread_mutex_t lock; /* guards what follows */
    bool closing;
    size_t count;
    struct kept machines[DIRECT_KEEPER_MACHINES_MAX];

    /* The thread's own. */
    uint64_t generation;
    size_t own_count;
    uint32_t own[DIRECT_OWN_MAX];
};

/* ---- one machine ------------------------------------------------------------------------------------------- */

static void forget(struct kept *kept)
{
    fd_close(&kept->user_fd);
    fd_close(&kept->net_fd);
    fd_close(&kept->pidfd);
}

static bool is_running(int pidfd)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    return poll(&ended, 1, 0) == 0;
}

static int await(struct child *nft, struct error *err)
{
    struct child_exit ended = {.code = -1};
    bool over = false;
    for (uint64_t limit = clock_monotonic_ms() + DIRECT_KEEPER_RUN_MS; !over && clock_monotonic_ms() < limit;) {
        struct pollfd polls[] = {{.fd = nft->exit_fd, .events = POLLIN}, {.fd = nft->output_fd, .events = POLLIN}};
        (void)poll(polls, sizeof polls / sizeof *polls, CHILD_TICK_MS);
        child_read_output(nft);
        over = child_reap(nft, &ended);
    }
    child_read_output(nft);
    char said[SAID_BYTES];
    if (over && ended.code == 0)
        return 0;
    return error_set(err, -EIO, "the host's addresses changed and could not be closed to the machine: %s",
                     over ? child_format_output(nft, said, sizeof said) : "nft does not end");
}

/* Only copies: the machine may be removed meanwhile. */
static int replace_own(const struct direct_keeper *keeper, int user_fd, int net_fd, struct error *err)
{
    char text[DIRECT_ELEMENTS_BYTES];
    int rc = direct_rules_print_own(keeper->own, keeper->own_count, text, err);
    if (rc < 0)
        return rc;
    char user[] = "--user=/proc/self/fd/3";
    char net[] = "--net=/proc/self/fd/4";
    char keep[] = "--preserve-credentials";
    char nsenter[] = "nsenter";
    char dashes[] = "--";
    char nft[VMM_PATH_BYTES];
    snprintf(nft, sizeof nft, "%s", keeper->nft);
    char *const argv[] = {nsenter, user, net, keep, dashes, nft, text, NULL};
    const struct child_fd fds[] = {{user_fd, USER_FD}, {net_fd, NET_FD}};
    struct child child;
    rc = child_spawn(keeper->nsenter, argv, fds, sizeof fds / sizeof *fds, &child, err);
    if (rc != 0)
        return rc;
    rc = await(&child, err);
    child_close(&child);
    return rc;
}

/* ---- the thread -------------------------------------------------------------------------------------------- */

static struct kept *find(struct direct_keeper *keeper, const struct id *id)
{
    for (size_t at = 0; at < keeper->count; at++)
        if (strcmp(keeper->machines[at].id.text, id->text) == 0)
            return &keeper->machines[at];
    return NULL;
}

static void note_result(struct direct_keeper *keeper, const struct id *id, const struct error *failed)
{
    pthread_mutex_lock(&keeper->lock);
    struct kept *kept = find(keeper, id);
    if (kept != NULL) {
        kept->generation = keeper->generation;
        /* One that has ended by itself has no set to replace. */
        if (failed->code != 0 && is_running(kept->pidfd)) {
            kept->failed = *failed;
            (void)syscall(SYS_pidfd_send_signal, kept->pidfd, SIGKILL, NULL, 0);
        }
    }
    pthread_mutex_unlock(&keeper->lock);
}

/* Return: false when every machine has the newest set. @cause: why there is none; then its machine is killed. */
static bool serve_one(struct direct_keeper *keeper, const struct error *cause)
{
    struct id id;
    int user_fd SCOPED_FD = -1;
    int net_fd SCOPED_FD = -1;
    pthread_mutex_lock(&keeper->lock);
    const struct kept *next = NULL;
    for (size_t at = 0; at < keeper->count && next == NULL; at++)
        if (keeper->machines[at].generation != keeper->generation)
            next = &keeper->machines[at];
    if (next != NULL) {
        id = next->id;
        user_fd = fcntl(next->user_fd, F_DUPFD_CLOEXEC, 0);
        net_fd = fcntl(next->net_fd, F_DUPFD_CLOEXEC, 0);
    }
    pthread_mutex_unlock(&keeper->lock);
    if (next == NULL)
        return false;
    struct error failed = *cause;
    if (failed.code == 0 && (user_fd < 0 || net_fd < 0))
        error_set(&failed, -EMFILE, "there are no descriptors left to replace the machine's set with");
    if (failed.code == 0)
        (void)replace_own(keeper, user_fd, net_fd, &failed);
    note_result(keeper, &id, &failed);
    return true;
}

static void look(struct direct_keeper *keeper)
{
    uint32_t own[DIRECT_OWN_MAX];
    size_t count = 0;
    struct error cause = {0};
    bool changed = own_addresses_read(own, DIRECT_OWN_MAX, &count, &cause) != 0 || count != keeper->own_count ||
                   memcmp(own, keeper->own, count * sizeof *own) != 0;
    if (changed) {
        keeper->generation++;
        keeper->own_count = cause.code == 0 ? count : 0;
        memcpy(keeper->own, own, keeper->own_count * sizeof *own);
    }
    while (serve_one(keeper, &cause))
        ;
}

static void *run(void *context)
{
    struct direct_keeper *keeper = context;
    while (true) {
        struct pollfd polls[] = {{.fd = keeper->netlink_fd, .events = POLLIN},
                                 {.fd = keeper->wake_read_fd, .events = POLLIN}};
        (void)poll(polls, sizeof polls / sizeof *polls, DIRECT_KEEPER_LOOK_MS);
        pthread_mutex_lock(&keeper->lock);
        bool over = keeper->closing;
        pthread_mutex_unlock(&keeper->lock);
        if (over)
            return NULL;
        own_addresses_drain(keeper->netlink_fd); /* before the look: what comes during it is another one */
        own_addresses_drain(keeper->wake_read_fd);
        look(keeper);
    }
}

/* ---- what others call -------------------------------------------------------------------------------------- */

static void wake(const struct direct_keeper *keeper)
{
    (void)send(keeper->wake_write_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int start(struct direct_keeper *keeper, struct error *err)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for main() */
    int code = pthread_create(&keeper->thread, NULL, run, keeper);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code == 0 ? 0 : error_set(err, -code, "cannot start a thread: %s", strerror(code));
}

static void free_keeper(struct direct_keeper *keeper)
{
    for (size_t at = 0; at < keeper->count; at++)
        forget(&keeper->machines[at]);
    fd_close(&keeper->netlink_fd);
    fd_close(&keeper->wake_read_fd);
    fd_close(&keeper->wake_write_fd);
    pthread_mutex_destroy(&keeper->lock);
    free(keeper);
}

int direct_keeper_open(struct direct_keeper **ret_keeper, struct error *err)
{
    struct direct_keeper *keeper = calloc(1, sizeof *keeper);
    if (keeper == NULL)
        return error_set(err, -ENOMEM, "out of memory");
    keeper->netlink_fd = keeper->wake_read_fd = keeper->wake_write_fd = -1;
    keeper->generation = 1;
    REQUIRE(pthread_mutex_init(&keeper->lock, NULL) == 0);
    int rc = direct_find_tool("nsenter", keeper->nsenter, err);
    if (rc == 0)
        rc = direct_find_tool("nft", keeper->nft, err);
    if (rc == 0)
        rc = own_addresses_listen(&keeper->netlink_fd, err);
    if (rc == 0)
        rc = attachment_pair(SOCK_STREAM, &keeper->wake_read_fd, &keeper->wake_write_fd, err);
    if (rc == 0)
        rc = start(keeper, err);
    if (rc != 0) {
        free_keeper(keeper);
        return rc;
    }
    *ret_keeper = keeper;
    return 0;
}

void direct_keeper_close(struct direct_keeper *keeper)
{
    if (keeper == NULL)
        return;
    pthread_mutex_lock(&keeper->lock);
    keeper->closing = true;
    pthread_mutex_unlock(&keeper->lock);
    wake(keeper);
    pthread_join(keeper->thread, NULL);
    free_keeper(keeper);
}

static int open_namespace(pid_t pid, const char *name, int *ret_fd, struct error *err)
{
    char path[48];
    snprintf(path, sizeof path, "/proc/%" PRId64 "/ns/%s", (int64_t)pid, name);
    *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
    return *ret_fd >= 0 ? 0 : error_set(err, -errno, "the machine's namespace is gone: %s", strerror(errno));
}

int direct_keeper_add(struct direct_keeper *keeper, const struct id *id, const struct direct *direct, struct error *err)
{
    struct kept kept = {.id = *id, .user_fd = -1, .net_fd = -1, .pidfd = -1};
    int rc = open_namespace(direct->pid, "user", &kept.user_fd, err);
    if (rc == 0)
        rc = open_namespace(direct->pid, "net", &kept.net_fd, err);
    kept.pidfd = fcntl(direct->pidfd, F_DUPFD_CLOEXEC, 0);
    /* Still running means that the pid was its own while the namespaces were opened. */
    if (rc == 0 && (kept.pidfd < 0 || !is_running(kept.pidfd)))
        rc = error_set(err, -ESRCH, "the hypervisor has ended");
    if (rc != 0) {
        forget(&kept);
        return rc;
    }
    pthread_mutex_lock(&keeper->lock);
    bool fits = keeper->count < DIRECT_KEEPER_MACHINES_MAX && find(keeper, id) == NULL;
    if (fits)
        keeper->machines[keeper->count++] = kept;
    pthread_mutex_unlock(&keeper->lock);
    if (!fits) {
        forget(&kept);
        return error_set(err, -ENOMEM, "there are too many direct machines");
    }
    wake(keeper);
    return 0;
}

int direct_keeper_remove(struct direct_keeper *keeper, const struct id *id, struct error *err)
{
    pthread_mutex_lock(&keeper->lock);
    struct kept *found = find(keeper, id);
    struct kept kept = {.user_fd = -1, .net_fd = -1, .pidfd = -1};
    if (found != NULL) {
        kept = *found;
        *found = keeper->machines[--keeper->count];
    }
    pthread_mutex_unlock(&keeper->lock);
    forget(&kept);
    return kept.failed.code == 0 ? 0 : error_set(err, kept.failed.code, "%s", kept.failed.message);
}

#endif

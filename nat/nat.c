/* A NAT as its owner sees it: starting and ending its thread (nat/thread.c), and orders to it. */
#include "nat/nat.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/landlock.h"
#include "base/scope.h"
#include "nat/allowlist.h"
#include "nat/confine.h"
#include "nat/thread.h"

enum nat_thread_limits {
    NAT_STACK_BYTES = 512 * 1024, /* deepest use is below 32 KiB; sanitizers need the rest */
    NAT_BEGIN_MS = 10000,         /* a thread that has not begun by then never will */
};

static int confine(const struct nat *nat, const struct confine_program *program)
{
    const int own[] = {nat->wake_thread, nat->worker.frame_io.fd, nat->worker.reporter.fd};
    int rc = confine_keep_only(own, sizeof own / sizeof *own);
    if (rc == 0)
        rc = landlock_enter(NULL, 0); /* it has no file to open, ever */
    return rc == 0 ? confine_enter(program) : rc;
}

/** struct launch - What the thread begins with. Owner: nat_start(), which waits until the thread has begun. */
struct launch {
    struct nat *nat;
    const struct confine_program *program;
};

static void *run(void *context)
{
    const struct launch *launch = context;
    struct nat *nat = launch->nat;
    const int begun = confine(nat, launch->program);
    const struct datagram_parts told = {.head = (uint8_t *)(uintptr_t)&begun, .head_bytes = sizeof begun};
    const bool heard = datagrams_send(nat->wake_thread, &told, 1) == 1; /* the call that its table has */
    if (begun < 0)
        return NULL;
    if (heard)
        thread_serve(nat);
    uplink_close(&nat->worker.uplink, UINT64_MAX);
    fd_close(&nat->worker.frame_io.fd);
    fd_close(&nat->worker.reporter.fd);
    confine_end_thread();
    return NULL;
}

static int check_link(const struct nat_link *link, struct error *err)
{
    if (link->prefix < 8 || link->prefix > 30) {
        error_set(err, -EINVAL, "prefix %u is not between 8 and 30", link->prefix);
        return error_tag(err, NULL, "prefix");
    }
    if (link->mtu < NAT_MTU_MIN || link->mtu > NAT_MTU_MAX) {
        error_set(err, -EINVAL, "MTU %u is not between %d and %d", link->mtu, NAT_MTU_MIN, NAT_MTU_MAX);
        return error_tag(err, NULL, "mtu");
    }
    if (nat_ip_is_never(link->guest_ip) != NULL) {
        error_set(err, -EINVAL, "the guest's address is not a unicast address");
        return error_tag(err, NULL, "guest-ip");
    }
    uint32_t host_mask = UINT32_MAX >> link->prefix;
    if (link->gateway_ip == link->guest_ip || (link->gateway_ip ^ link->guest_ip) > host_mask) {
        error_set(err, -EINVAL, "the gateway is not another address of the guest's network");
        return error_tag(err, NULL, "gateway-ip");
    }
    return 0;
}

static int make_wake_pair(struct nat *nat)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        return -errno;
    nat->wake_thread = ends[0];
    nat->wake_owner = ends[1];
    return fcntl(ends[0], F_SETFD, FD_CLOEXEC) < 0 || fcntl(ends[1], F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

static int start_thread(struct launch *launch)
{
    pthread_attr_t attributes;
    int rc = pthread_attr_init(&attributes);
    if (rc != 0)
        return -rc;
    pthread_attr_setstacksize(&attributes, NAT_STACK_BYTES);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the process's, never this thread's */
    rc = pthread_create(&launch->nat->thread, &attributes, run, launch);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -rc;
}

static void free_spent(struct nat *nat)
{
    struct spent *order = atomic_exchange(&nat->spent, NULL);
    while (order != NULL) {
        struct spent *next = order->next;
        free(order);
        order = next;
    }
}

static void free_nat(struct nat *nat)
{
    if (!nat->wake_thread_left)
        fd_close(&nat->wake_thread);
    fd_close(&nat->wake_owner);
    free_spent(nat);
    free(atomic_load(&nat->next_policy));
    free(atomic_load(&nat->next_own));
    free(nat);
}

/* What the thread says of its begin. One that the kernel kills in its first steps says nothing, and nothing else tells of
 * that: our own descriptor of its end is still open. */
static int await_begun(const struct nat *nat)
{
    int begun = -ECANCELED;
    struct pollfd told = {.fd = nat->wake_owner, .events = POLLIN};
    int ready;
    do
        ready = poll(&told, 1, NAT_BEGIN_MS);
    while (ready < 0 && errno == EINTR);
    if (ready == 0)
        return -ETIMEDOUT;
    ssize_t length = recv(nat->wake_owner, &begun, sizeof begun, MSG_DONTWAIT);
    return length == (ssize_t)sizeof begun ? begun : -ECANCELED;
}

/* Starts the thread and waits until it has confined itself. Where its descriptors are its own, ours are closed then. */
static int start_confined(struct nat *nat, const struct nat_config *config, struct error *err)
{
    struct launch launch = {.nat = nat, .program = nat_confinement_program(config->confinement, config)};
    int rc = start_thread(&launch);
    if (rc < 0)
        return error_set(err, rc, "cannot start a NAT thread: %s", strerror(-rc));
    const int begun = await_begun(nat);
    if (begun == 0) {
        if (confine_is_built()) {
            close(config->frame_fd);
            close(config->report_fd);
            close(nat->wake_thread);
            nat->wake_thread_left = true;
        }
        return 0;
    }
    atomic_store(&nat->stop, true); /* for one that is only late */
    pthread_join(nat->thread, NULL);
    return error_set(err, begun, "a NAT thread cannot confine itself: %s", strerror(-begun));
}

static int start(const struct nat_config *config, struct nat **ret_nat, struct error *err)
{
    int rc = check_link(&config->link, err);
    if (rc < 0)
        return rc;
    if (config->busy_poll_us > NAT_BUSY_POLL_MAX_US) {
        error_set(err, -EINVAL, "looking for work for %u us is above %d", config->busy_poll_us, NAT_BUSY_POLL_MAX_US);
        return error_tag(err, NULL, "busy-poll-us");
    }
    struct nat *nat = calloc(1, sizeof *nat);
    if (nat == NULL)
        return error_set(err, -ENOMEM, "no memory for a NAT");
    nat->wake_thread = -1;
    nat->wake_owner = -1;
    rc = make_wake_pair(nat);
    if (rc < 0) {
        error_set(err, rc, "cannot start a NAT thread: %s", strerror(-rc));
    } else {
        nat->spin.limit_us = config->busy_poll_us;
        worker_init(&nat->worker, config, &nat->counters);
        rc = start_confined(nat, config, err);
    }
    if (rc < 0) {
        free_nat(nat);
        return rc;
    }
    *ret_nat = nat;
    return 0;
}

int nat_start(const struct nat_config *config, struct nat **ret_nat, struct error *err)
{
    if (config->confinement != NULL)
        return start(config, ret_nat, err);
    struct nat_confinement *made = NULL;
    int rc = nat_confinement_make(&made, err);
    struct nat_config whole = *config;
    whole.confinement = made;
    if (rc == 0)
        rc = start(&whole, ret_nat, err);
    nat_confinement_free(made);
    return rc;
}

static void wake(const struct nat *nat)
{
    /* A full queue is a wake-up that has not been taken yet; a thread that is gone takes none. */
    (void)send(nat->wake_owner, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int check_off_link(const struct nat_link *link, const struct nat_policy *policy, struct error *err)
{
    for (size_t i = 0; i < policy->allow_count; i++) {
        char text[NAT_ENDPOINT_TEXT_BYTES];
        if ((policy->allow[i].ip ^ link->guest_ip) <= UINT32_MAX >> link->prefix)
            return error_set(err, -EINVAL, "allowed endpoint %s: that address is on the VM's own link",
                             nat_endpoint_format(policy->allow[i], text));
    }
    return 0;
}

int nat_apply(struct nat *nat, const struct nat_policy *policy, struct error *err)
{
    int rc = allowlist_check(policy, err);
    if (rc == 0)
        rc = check_off_link(&nat->worker.link, policy, err);
    if (rc < 0)
        return rc;
    if (policy->generation <= nat->posted_generation)
        return error_set(err, -EINVAL, "policy generation %llu is not above %llu",
                         (unsigned long long)policy->generation, (unsigned long long)nat->posted_generation);
    free_spent(nat);
    struct posted *posted = malloc(sizeof *posted);
    if (posted == NULL)
        return error_set(err, -ENOMEM, "no memory for a policy");
    posted->policy = *policy;
    nat->posted_generation = policy->generation;
    free(atomic_exchange(&nat->next_policy, posted));
    wake(nat);
    return 0;
}

bool nat_recall(struct nat *nat)
{
    struct posted *posted = atomic_exchange(&nat->next_policy, NULL);
    if (posted == NULL)
        return false;
    nat->posted_generation = posted->policy.generation - 1;
    free(posted);
    return true;
}

int nat_replace_own(struct nat *nat, const uint32_t *own, size_t count, struct error *err)
{
    if (count > NAT_OWN_MAX)
        return error_set(err, -E2BIG, "%zu own addresses, at most %d fit", count, NAT_OWN_MAX);
    free_spent(nat);
    struct own_set *set = calloc(1, sizeof *set);
    if (set == NULL)
        return error_set(err, -ENOMEM, "no memory for the own addresses");
    set->count = count;
    for (size_t i = 0; i < count; i++)
        set->own[i] = own[i];
    free(atomic_exchange(&nat->next_own, set));
    wake(nat);
    return 0;
}

void nat_shut(struct nat *nat)
{
    atomic_store(&nat->shut, true);
    wake(nat);
}

void nat_read_stats(const struct nat *nat, struct nat_stats *ret_stats)
{
    counters_read(&nat->counters, ret_stats);
}

size_t nat_list_flows(const struct nat *nat, struct nat_flow ret_flows[static NAT_FLOWS_MAX])
{
    return counters_list_flows(&nat->counters, ret_flows);
}

bool nat_condemned(const struct nat *nat, struct nat_violation *ret_violation)
{
    return worker_condemned(&nat->worker, ret_violation);
}

void nat_stop(struct nat *nat, struct nat_stats *ret_stats)
{
    if (nat == NULL)
        return;
    atomic_store(&nat->stop, true);
    wake(nat);
    pthread_join(nat->thread, NULL);
    if (ret_stats != NULL)
        nat_read_stats(nat, ret_stats);
    free_nat(nat);
}

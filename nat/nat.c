/* The NAT thread: waits for frames, datagrams, a new policy or a timer, and hands them to the worker.
 *
 * Before its first frame it confines itself (nat/confine.h); its descriptors are its own from then on, and it neither
 * allocates nor frees: orders that it is done with go back to their owner. */
#include "nat/nat.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "nat/allowlist.h"
#include "nat/confine.h"
#include "nat/spin.h"
#include "nat/worker.h"

enum nat_thread_limits {
    NAT_STACK_BYTES = 512 * 1024, /* deepest use is below 32 KiB; sanitizers need the rest */
    NAT_POLL_FDS = 2 + FLOW_MAX,
    NAT_TURNS_MAX = 16, /* batches of one kind in a row, before the others have their turn */
    NAT_BUSY_MS = 100,  /* at the latest then a link that was busy is tried again */
};

_Static_assert((int)NAT_FLOWS_MAX == (int)FLOW_MAX, "a flow each");

/** struct spent - The begin of an order: those that the thread is done with, on their way back to be freed. */
struct spent {
    struct spent *next;
};

/** struct posted - A policy on its way to the thread. */
struct posted {
    struct spent spent;
    struct nat_policy policy;
};

/** struct own_set - The provider's own addresses on their way to the thread. */
struct own_set {
    struct spent spent;
    size_t count;
    uint32_t own[NAT_OWN_MAX];
};

struct nat {
    pthread_t thread;
    int wake_thread;       /* a pair of sockets: this end is the thread's, */
    int wake_owner;        /* that one the owner's, who is told by it whether the thread has begun */
    bool wake_thread_left; /* its number means nothing to the owner any more; the owner's, as the next */
    uint64_t posted_generation;
    _Atomic(struct posted *) next_policy;
    _Atomic(struct own_set *) next_own;
    _Atomic(struct spent *) spent;
    atomic_bool shut;
    atomic_bool stop;
    struct counters counters;
    struct spin spin;
    bool detached;
    struct worker worker; /* the thread's once it runs */
};

/** struct wait_set - What one round waits for; slots[i] is the flow of fds[2 + i]. */
struct wait_set {
    nfds_t count;
    struct pollfd fds[NAT_POLL_FDS];
    int slots[FLOW_MAX];
};

static void build_wait_set(const struct nat *nat, struct wait_set *set)
{
    const struct worker *worker = &nat->worker;
    const enum worker_wait wait = worker_outbound_wait(worker);
    const bool waits = worker_inbound_waits(worker);
    const short events = (short)((wait == WORKER_WAIT_FRAMES ? POLLIN : 0) | (waits ? POLLOUT : 0));
    set->fds[0] = (struct pollfd){.fd = nat->wake_thread, .events = POLLIN};
    /* Errors and hang-ups are told unasked, again and again: an attachment that nothing is wanted from is left out. */
    set->fds[1] = (struct pollfd){.fd = events != 0 && !nat->detached ? worker->frame_io.fd : -1, .events = events};
    set->count = 2;
    for (int slot = 0, left = (int)worker->flows.open_count; left > 0; slot++) {
        if (worker->flows.slots[slot].state != FLOW_OPEN)
            continue;
        left--;
        bool writes = wait == WORKER_WAIT_UPLINK && slot == worker->run.slot;
        bool reads = worker_listens(worker, slot) && !waits;
        if (!reads && !writes)
            continue;
        set->slots[set->count - 2] = slot;
        set->fds[set->count++] = (struct pollfd){.fd = worker->uplink.fds[slot],
                                                 .events = (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0))};
    }
}

/* Return: milliseconds until the next timer, -1 for none. */
static int timeout_ms(const struct worker *worker, uint64_t now_ms)
{
    uint64_t due = worker_next_expiry(worker);
    if (worker->reporter.due_ms < due)
        due = worker->reporter.due_ms;
    switch (worker_outbound_wait(worker)) {
    case WORKER_WAIT_NOT:
        return 0;
    case WORKER_WAIT_MOMENT:
        return 1;
    case WORKER_WAIT_UPLINK:
        return NAT_BUSY_MS;
    case WORKER_WAIT_FRAMES:
        break;
    }
    if (due == UINT64_MAX)
        return -1;
    if (due <= now_ms)
        return 0;
    return due - now_ms < INT_MAX ? (int)(due - now_ms) : INT_MAX;
}

/* Looks again and again for a moment, if that is asked for and has been worth it. Return: as poll(2) */
static int look(struct nat *nat, struct wait_set *set)
{
    if (nat->spin.budget_us == 0)
        return 0;
    const uint64_t end_us = clock_monotonic_us() + nat->spin.budget_us;
    int ready = 0;
    do
        ready = poll(set->fds, set->count, 0);
    while (ready == 0 && clock_monotonic_us() < end_us);
    if (ready == 0)
        spin_miss(&nat->spin);
    return ready;
}

/* Return: as poll(2) */
static int wait_for_work(struct nat *nat, struct wait_set *set)
{
    const int limit_ms = timeout_ms(&nat->worker, clock_monotonic_ms());
    int ready = limit_ms != 0 ? look(nat, set) : 0;
    if (ready == 0)
        ready = poll(set->fds, set->count, limit_ms);
    if (ready > 0 && set->fds[0].revents == 0)
        spin_hit(&nat->spin);
    return ready;
}

static void give_back(struct nat *nat, struct spent *order)
{
    order->next = atomic_load(&nat->spent);
    while (!atomic_compare_exchange_weak(&nat->spent, &order->next, order))
        continue;
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

static void take_commands(struct nat *nat, uint64_t now_ms)
{
    struct posted *posted = atomic_exchange(&nat->next_policy, NULL);
    if (atomic_load(&nat->shut))
        worker_shut(&nat->worker);
    else if (posted != NULL)
        worker_apply(&nat->worker, &posted->policy, now_ms);
    if (posted != NULL)
        give_back(nat, &posted->spent);
    struct own_set *set = atomic_exchange(&nat->next_own, NULL);
    if (set == NULL)
        return;
    worker_replace_own(&nat->worker, set->own, set->count);
    give_back(nat, &set->spent);
}

static void drain_wake(const struct nat *nat)
{
    uint8_t bytes[64];
    while (recv(nat->wake_thread, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        continue;
}

static bool is_interrupted(const struct nat *nat)
{
    return atomic_load_explicit(&nat->shut, memory_order_relaxed) ||
           atomic_load_explicit(&nat->stop, memory_order_relaxed);
}

/* Whether the frames at hand, or new ones, can be gone on with. */
static bool outbound_is_due(const struct nat *nat, const struct wait_set *set)
{
    switch (worker_outbound_wait(&nat->worker)) {
    case WORKER_WAIT_FRAMES:
        return (set->fds[1].revents & (POLLIN | POLLERR | POLLHUP | POLLNVAL)) != 0;
    case WORKER_WAIT_UPLINK:
    case WORKER_WAIT_MOMENT:
    case WORKER_WAIT_NOT:
        break;
    }
    return true; /* woken by room at the uplink, by the clock, or not asleep at all */
}

static int serve_attachment(struct nat *nat, const struct wait_set *set, uint64_t now_us)
{
    struct worker *worker = &nat->worker;
    const short events = set->fds[1].revents;
    if (events & POLLNVAL)
        return -EBADF;
    if (worker_inbound_waits(worker) && events != 0)
        worker_push(worker, now_us / 1000);
    if (!outbound_is_due(nat, set))
        return 0;
    int rc = 0;
    int turns = 0;
    do
        rc = worker_outbound(worker, now_us);
    while (rc == 0 && ++turns < NAT_TURNS_MAX && worker_outbound_wait(worker) == WORKER_WAIT_NOT &&
           !is_interrupted(nat));
    if (worker->frame_io.state == FRAME_IO_GONE && !nat->detached) {
        nat->detached = true;
        reporter_detached(&worker->reporter, now_us / 1000);
        worker_push(worker, now_us / 1000); /* nothing waits for a VM that is gone */
    }
    return rc;
}

static void serve_uplink(struct nat *nat, const struct wait_set *set, uint64_t now_ms)
{
    struct worker *worker = &nat->worker;
    for (nfds_t i = 2; i < set->count && !worker_inbound_waits(worker) && !is_interrupted(nat); i++) {
        int slot = set->slots[i - 2];
        /* The round's own frames may have closed the socket or given the slot to another flow. */
        if ((set->fds[i].revents & (POLLIN | POLLERR)) == 0 || worker->uplink.fds[slot] != set->fds[i].fd ||
            !worker_listens(worker, slot))
            continue;
        for (int turns = 0; turns < NAT_TURNS_MAX && worker_inbound(worker, slot, now_ms) && !is_interrupted(nat);)
            turns++;
    }
}

static int round_once(struct nat *nat)
{
    struct wait_set set;
    build_wait_set(nat, &set);
    int ready = wait_for_work(nat, &set);
    if (ready < 0)
        return errno == EINTR ? 0 : -errno;
    const uint64_t now_us = clock_monotonic_us();
    const uint64_t now_ms = now_us / 1000;
    if (set.fds[0].revents != 0) {
        drain_wake(nat);
        take_commands(nat, now_ms);
    }
    int rc = serve_attachment(nat, &set, now_us);
    if (rc < 0)
        return rc;
    serve_uplink(nat, &set, now_ms);
    worker_expire(&nat->worker, now_ms);
    reporter_flush(&nat->worker.reporter, &nat->worker.violations, now_ms);
    return 0;
}

/* strerror() may lock and allocate, for the sake of translations. */
static const char *describe(int code)
{
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
    const char *text = strerrordesc_np(-code);
    return text != NULL ? text : "";
#else
    return strerror(-code);
#endif
}

static void serve(struct nat *nat)
{
    int rc = 0;
    while (rc == 0 && !atomic_load(&nat->stop))
        rc = round_once(nat);
    worker_shut(&nat->worker);
    reporter_finish(&nat->worker.reporter, &nat->worker.violations, clock_monotonic_ms());
    if (rc < 0)
        reporter_failed(&nat->worker.reporter, rc, describe(rc), clock_monotonic_ms());
}

static int confine(const struct nat *nat, const struct confine_program *program)
{
    const int own[] = {nat->wake_thread, nat->worker.frame_io.fd, nat->worker.reporter.fd};
    int rc = confine_keep_only(own, sizeof own / sizeof *own);
    return rc == 0 ? confine_enter(program) : rc;
}

/** struct launch - What the thread begins with. Owner: nat_start(), which waits until the thread has begun. */
struct launch {
    struct nat *nat;
    struct confine_program program;
};

static void *run(void *context)
{
    const struct launch *launch = context;
    struct nat *nat = launch->nat;
    const int begun = confine(nat, &launch->program);
    if (send(nat->wake_thread, &begun, sizeof begun, MSG_NOSIGNAL) != (ssize_t)sizeof begun || begun < 0)
        return NULL;
    serve(nat);
    uplink_close(&nat->worker.uplink, UINT64_MAX);
    fd_close(&nat->worker.frame_io.fd);
    fd_close(&nat->worker.reporter.fd);
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

/* Starts the thread and waits until it has confined itself. Where its descriptors are its own, ours are closed then. */
static int start_confined(struct nat *nat, const struct nat_config *config, struct error *err)
{
    struct launch launch = {.nat = nat};
    int begun = -ECANCELED;
    int rc = nat_confine_build(config, &launch.program, err);
    if (rc == 0 && (rc = start_thread(&launch)) < 0)
        error_set(err, rc, "cannot start a NAT thread: %s", strerror(-rc));
    if (rc < 0)
        return rc;
    ssize_t length;
    do
        length = recv(nat->wake_owner, &begun, sizeof begun, MSG_WAITALL);
    while (length < 0 && errno == EINTR);
    if (length != (ssize_t)sizeof begun)
        begun = -ECANCELED;
    if (begun == 0) {
        if (confine_is_built()) {
            close(config->frame_fd);
            close(config->report_fd);
            close(nat->wake_thread);
            nat->wake_thread_left = true;
        }
        return 0;
    }
    pthread_join(nat->thread, NULL);
    return error_set(err, begun, "a NAT thread cannot confine itself: %s", strerror(-begun));
}

int nat_start(const struct nat_config *config, struct nat **ret_nat, struct error *err)
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
    const struct counters *counters = &nat->counters;
    for (size_t i = 0; i < NAT_REASON_COUNT; i++) {
        ret_stats->frames[i] = counter_get(&counters->frames[i]);
        ret_stats->bytes[i] = counter_get(&counters->bytes[i]);
    }
    for (size_t i = 0; i < NAT_INBOUND_COUNT; i++) {
        ret_stats->inbound_packets[i] = counter_get(&counters->inbound_packets[i]);
        ret_stats->inbound_bytes[i] = counter_get(&counters->inbound_bytes[i]);
    }
    ret_stats->violations = counter_get(&counters->violations);
    ret_stats->flows_opened = counter_get(&counters->flows_opened);
    ret_stats->flows_open = (uint32_t)counter_get(&counters->flows_open);
    ret_stats->kernel_filter = (enum nat_kernel_filter)counter_get(&counters->kernel_filter);
    ret_stats->kernel_filter_closings = counter_get(&counters->kernel_filter_closings);
    ret_stats->tunnel = (enum nat_tunnel)counter_get(&counters->tunnel);
    ret_stats->tunnel_established_ms = counter_get(&counters->tunnel_established_ms);
    ret_stats->tunnel_last_handshake_ms = counter_get(&counters->tunnel_last_handshake_ms);
    ret_stats->consumer_heard_ms = counter_get(&counters->consumer_heard_ms);
    ret_stats->policy_generation = counter_get(&counters->policy_generation);
    uint64_t mac = counter_get(&counters->guest_mac);
    for (size_t i = 0; i < sizeof ret_stats->guest_mac.b; i++)
        ret_stats->guest_mac.b[i] = (uint8_t)(mac >> (40 - 8 * i));
}

static bool read_flow(const struct flow_counters *shown, struct nat_flow *ret_flow)
{
    uint64_t name = atomic_load_explicit(&shown->name, memory_order_acquire);
    *ret_flow = (struct nat_flow){
        .guest_port = (uint16_t)(name / UINT64_C(281474976710656)),
        .consumer = {.ip = (uint32_t)(name % UINT64_C(4294967296)),
                     .port = (uint16_t)(name / UINT64_C(4294967296) % 65536)},
        .listens = counter_get(&shown->listens) != 0,
        .opened_ms = counter_get(&shown->opened_ms),
        .used_ms = counter_get(&shown->used_ms),
        .sent_packets = counter_get(&shown->sent_packets),
        .sent_bytes = counter_get(&shown->sent_bytes),
        .received_packets = counter_get(&shown->received_packets),
        .received_bytes = counter_get(&shown->received_bytes),
    };
    atomic_thread_fence(memory_order_acquire);
    return name != 0 && counter_get(&shown->name) == name;
}

size_t nat_list_flows(const struct nat *nat, struct nat_flow ret_flows[static NAT_FLOWS_MAX])
{
    size_t count = 0;
    for (size_t slot = 0; slot < NAT_FLOWS_MAX; slot++) {
        struct nat_flow flow;
        if (read_flow(&nat->counters.flows[slot], &flow))
            ret_flows[count++] = flow;
    }
    return count;
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

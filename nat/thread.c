/* The NAT thread: waits for frames, datagrams, a new policy or a timer, and hands them to the worker.
 *
 * Before its first frame it is confined (nat/confine.h); its descriptors are its own from then on, and it neither allocates
 * nor frees: orders that it is done with go back to their owner. */
#include "nat/thread.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "nat/datagrams.h"

enum thread_limits {
    NAT_POLL_FDS = 2 + FLOW_MAX,
    NAT_TURNS_MAX = 16, /* batches of one kind in a row, before the others have their turn */
    NAT_BUSY_MS = 100,  /* at the latest then a link that was busy is tried again */
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
    struct datagram all = {.bytes = bytes, .length = sizeof bytes};
    while (datagrams_receive(nat->wake_thread, &all, 1) == 1 && all.length == sizeof bytes)
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

void thread_serve(struct nat *nat)
{
    int rc = 0;
    while (rc == 0 && !atomic_load(&nat->stop))
        rc = round_once(nat);
    worker_shut(&nat->worker);
    reporter_finish(&nat->worker.reporter, &nat->worker.violations, clock_monotonic_ms());
    if (rc < 0)
        reporter_failed(&nat->worker.reporter, rc, describe(rc), clock_monotonic_ms());
}

#include "vmm/supervisor.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "vmm/accel.h"
#include "vmm/attachment.h"
#include "vmm/hypervisor.h"
#include "vmm/lifecycle.h"
#include "vmm/news.h"

/* One machine's descriptors, in the order in which their news are taken: what the hypervisor said before its end comes
 * before its end, and its end before what the NAT thinks of that. */
enum poll_place { POLL_START, POLL_OUTPUT, POLL_CONSOLE, POLL_LINE, POLL_CONTROL, POLL_CHILD, POLL_REPORT };

_Static_assert(POLL_REPORT + 1 == SUPERVISOR_POLLS_PER_MACHINE, "one place each");

void supervisor_wake(const struct vmm *vmm)
{
    /* A full socket is a wake-up that has not been taken yet. */
    (void)send(vmm->wake_write_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

struct machine *supervisor_find(const struct vmm *vmm, const struct id *id)
{
    for (size_t at = 0; at < vmm->machine_count; at++)
        if (strcmp(vmm->machines[at]->spec->id.text, id->text) == 0)
            return vmm->machines[at];
    return NULL;
}

/* ---- the preparer ------------------------------------------------------------------------------------------ */

static void find_accel(struct vmm *vmm)
{
    struct vmm_accel accel = {.known = true};
    struct error err = {0};
    const char *fixed = vmm->places.hypervisor->accelerator;
    if (fixed != NULL) {
        snprintf(accel.name, sizeof accel.name, "%s", fixed);
        snprintf(accel.reason, sizeof accel.reason, "all that %s has", vmm->places.hypervisor->name);
    } else if (accel_find(vmm->places.program, vmm->kvm_device, vmm->config.cache_dir, false, &accel, &err) != 0) {
        /* A hypervisor that cannot run says why when the first machine starts. */
        accel = (struct vmm_accel){.known = true, .name = "tcg", .cpu = ACCEL_CPU_TCG};
        snprintf(accel.reason, sizeof accel.reason, "no trial: %.140s", err.message);
    }
    pthread_mutex_lock(&vmm->lock);
    vmm->accel = accel;
    pthread_mutex_unlock(&vmm->lock);
}

static struct machine *take_waiting(struct vmm *vmm)
{
    for (size_t at = 0; at < vmm->machine_count; at++)
        if (vmm->machines[at]->preparation == MACHINE_PREPARATION_WAITS) {
            vmm->machines[at]->preparation = MACHINE_PREPARATION_TAKEN;
            return vmm->machines[at];
        }
    return NULL;
}

static void *run_preparer(void *context)
{
    struct vmm *vmm = context;
    find_accel(vmm);
    pthread_mutex_lock(&vmm->lock);
    while (true) {
        struct machine *machine = take_waiting(vmm);
        if (machine != NULL) {
            pthread_mutex_unlock(&vmm->lock);
            (void)machine_prepare(machine, &vmm->places, &vmm->cache); /* the machine keeps the error */
            pthread_mutex_lock(&vmm->lock);
            machine->preparation = MACHINE_PREPARATION_OVER;
            supervisor_wake(vmm);
        } else if (vmm->preparer_ends) {
            break;
        } else {
            pthread_cond_wait(&vmm->work, &vmm->lock);
        }
    }
    pthread_mutex_unlock(&vmm->lock);
    return NULL;
}

/* ---- the supervisor ---------------------------------------------------------------------------------------- */

static void take_orders(struct vmm *vmm)
{
    pthread_mutex_lock(&vmm->lock);
    bool closing = vmm->closing;
    bool leaving = vmm->leaving;
    size_t count = vmm->machine_count;
    vmm->served_count = count;
    for (size_t at = 0; at < count; at++) {
        vmm->served[at] = vmm->machines[at];
        struct machine *machine = vmm->machines[at];
        machine->seen = (struct machine_orders){machine->stop_asked, machine->stop_end, machine->noted_pid};
    }
    pthread_mutex_unlock(&vmm->lock);
    for (size_t at = 0; at < count; at++) {
        struct machine *machine = vmm->served[at];
        if (machine->seen.stop)
            lifecycle_stop(vmm, machine, machine->seen.end);
        else if (closing && leaving)
            lifecycle_leave(vmm, machine);
        else if (closing)
            lifecycle_stop(vmm, machine, VMM_END_SHUTDOWN);
        lifecycle_noted(vmm, machine, machine->seen.noted_pid);
    }
}

static void take_prepared(struct vmm *vmm)
{
    for (size_t at = 0; at < vmm->served_count; at++) {
        struct machine *machine = vmm->served[at];
        if (machine->prepared)
            continue;
        pthread_mutex_lock(&vmm->lock);
        if (machine->state == MACHINE_STOPPING && machine->preparation == MACHINE_PREPARATION_WAITS)
            machine->preparation = MACHINE_PREPARATION_OVER; /* nobody needs it any more */
        machine->prepared = machine->preparation == MACHINE_PREPARATION_OVER;
        pthread_mutex_unlock(&vmm->lock);
        if (machine->prepared)
            lifecycle_prepared(vmm, machine);
    }
}

static void forget(struct vmm *vmm, const struct machine *machine)
{
    pthread_mutex_lock(&vmm->lock);
    size_t at = 0;
    while (vmm->machines[at] != machine)
        at++;
    vmm->machine_count--;
    for (; at < vmm->machine_count; at++)
        vmm->machines[at] = vmm->machines[at + 1];
    vmm->told = machine->spec->id;
    pthread_mutex_unlock(&vmm->lock);
}

/* A machine leaves the served ones before anything is told of it, so that those are all there at every moment. */
static void clear_finished(struct vmm *vmm)
{
    size_t at = 0;
    while (at < vmm->served_count) {
        struct machine *machine = vmm->served[at];
        if (machine->state < MACHINE_FINISHED) {
            at++;
            continue;
        }
        vmm->served_count--;
        memmove(vmm->served + at, vmm->served + at + 1, (vmm->served_count - at) * sizeof(struct machine *));
        lifecycle_clear(vmm, machine);
        forget(vmm, machine);
        if (machine->state == MACHINE_FINISHED)
            lifecycle_ended(vmm, machine);
        pthread_mutex_lock(&vmm->lock);
        vmm->told = (struct id){0};
        pthread_mutex_unlock(&vmm->lock);
        machine_free(machine);
    }
}

static int wait_ms(const struct vmm *vmm, uint64_t now_ms)
{
    uint64_t next_ms = own_keeper_next_ms(vmm);
    for (size_t at = 0; at < vmm->served_count; at++) {
        const struct machine *machine = vmm->served[at];
        uint64_t timer_ms = news_report_waits(machine) ? now_ms : lifecycle_next_ms(machine);
        if (machine->child.pid != 0 && machine->child.exit_fd < 0 && now_ms + CHILD_TICK_MS < timer_ms)
            timer_ms = now_ms + CHILD_TICK_MS;
        if (timer_ms < next_ms)
            next_ms = timer_ms;
    }
    if (next_ms == UINT64_MAX)
        return -1;
    if (next_ms <= now_ms)
        return 0;
    return next_ms - now_ms < INT_MAX ? (int)(next_ms - now_ms) : INT_MAX;
}

static int fd_at(const struct machine *machine, enum poll_place place)
{
    switch (place) {
    case POLL_START:
        return machine->child.released ? machine->child.start_fd : -1;
    case POLL_OUTPUT:
        return machine->child.output_fd;
    case POLL_CONSOLE:
        return machine->console_fd;
    case POLL_LINE:
        return machine->direct.line_fd;
    case POLL_CONTROL:
        return machine->qmp.fd >= 0 ? machine->qmp.fd : machine->rest.fd;
    case POLL_CHILD:
        return machine->child.exit_fd;
    case POLL_REPORT:
        return machine->report_fd;
    }
    return -1;
}

static void await_news(struct vmm *vmm)
{
    nfds_t count = SUPERVISOR_POLLS_OWN;
    vmm->polls[0] = (struct pollfd){.fd = vmm->wake_read_fd, .events = POLLIN};
    vmm->polls[1] = (struct pollfd){.fd = vmm->own_keeper.fd, .events = POLLIN};
    for (size_t at = 0; at < vmm->served_count; at++) {
        vmm->polled[at] = 0;
        for (unsigned place = 0; place < SUPERVISOR_POLLS_PER_MACHINE; place++) {
            int fd = fd_at(vmm->served[at], (enum poll_place)place);
            if (fd < 0)
                continue;
            vmm->polls[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
            vmm->polled[at] = (uint8_t)(vmm->polled[at] | 1u << place);
        }
    }
    if (poll(vmm->polls, count, wait_ms(vmm, clock_monotonic_ms())) < 0) {
        REQUIRE(errno == EINTR || errno == EAGAIN || errno == ENOMEM);
        for (nfds_t at = 0; at < count; at++)
            vmm->polls[at].revents = 0;
    }
}

static void take_one(struct vmm *vmm, struct machine *machine, unsigned ready)
{
    if (ready & 1u << POLL_START)
        lifecycle_started(vmm, machine);
    if (ready & 1u << POLL_OUTPUT)
        child_read_output(&machine->child);
    if (ready & 1u << POLL_CONSOLE)
        news_console(vmm, machine);
    if (ready & 1u << POLL_LINE)
        news_line(vmm, machine);
    if (ready & 1u << POLL_CONTROL)
        vmm->places.hypervisor->hear(vmm, machine);
    if (ready & 1u << POLL_CHILD || (machine->child.pid != 0 && machine->child.exit_fd < 0))
        lifecycle_child(vmm, machine);
    if (ready & 1u << POLL_REPORT || news_report_waits(machine))
        news_report(vmm, machine);
}

static void take_news(struct vmm *vmm)
{
    char wakes[64];
    while (vmm->polls[0].revents != 0 && recv(vmm->wake_read_fd, wakes, sizeof wakes, MSG_DONTWAIT) > 0)
        ;
    news_sweep(vmm);
    own_keeper_look(vmm, vmm->polls[1].revents != 0, clock_monotonic_ms());
    const struct pollfd *next = vmm->polls + SUPERVISOR_POLLS_OWN;
    for (size_t at = 0; at < vmm->served_count; at++) {
        unsigned ready = 0;
        for (unsigned place = 0; place < SUPERVISOR_POLLS_PER_MACHINE; place++)
            if (vmm->polled[at] & 1u << place && (next++)->revents != 0)
                ready |= 1u << place;
        take_one(vmm, vmm->served[at], ready);
    }
}

static bool is_over(struct vmm *vmm)
{
    pthread_mutex_lock(&vmm->lock);
    bool over = vmm->closing && vmm->machine_count == 0;
    pthread_mutex_unlock(&vmm->lock);
    return over;
}

static void *run_supervisor(void *context)
{
    struct vmm *vmm = context;
    while (true) {
        take_orders(vmm);
        uint64_t now_ms = clock_monotonic_ms();
        for (size_t at = 0; at < vmm->served_count; at++)
            lifecycle_tick(vmm, vmm->served[at], now_ms);
        take_prepared(vmm);
        clear_finished(vmm);
        if (is_over(vmm))
            return NULL;
        await_news(vmm);
        take_news(vmm);
    }
}

/* ---- both -------------------------------------------------------------------------------------------------- */

static int start_thread(pthread_t *ret_thread, void *(*run)(void *), struct vmm *vmm, struct error *err)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for main() */
    int code = pthread_create(ret_thread, NULL, run, vmm);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code == 0 ? 0 : error_set(err, -code, "cannot start a thread: %s", strerror(code));
}

static void stop_preparer(struct vmm *vmm)
{
    pthread_mutex_lock(&vmm->lock);
    vmm->preparer_ends = true;
    pthread_cond_signal(&vmm->work);
    pthread_mutex_unlock(&vmm->lock);
    pthread_join(vmm->preparer, NULL);
}

static void done(struct vmm *vmm)
{
    own_keeper_close(&vmm->own_keeper);
    fd_close(&vmm->wake_read_fd);
    fd_close(&vmm->wake_write_fd);
    pthread_cond_destroy(&vmm->work);
    pthread_mutex_destroy(&vmm->lock);
}

int supervisor_start(struct vmm *vmm, struct error *err)
{
    int rc = attachment_pair(SOCK_STREAM, &vmm->wake_read_fd, &vmm->wake_write_fd, err);
    if (rc != 0)
        return rc;
    own_keeper_open(&vmm->own_keeper);
    REQUIRE(pthread_mutex_init(&vmm->lock, NULL) == 0 && pthread_cond_init(&vmm->work, NULL) == 0);
    rc = start_thread(&vmm->preparer, run_preparer, vmm, err);
    if (rc != 0) {
        done(vmm);
        return rc;
    }
    rc = start_thread(&vmm->supervisor, run_supervisor, vmm, err);
    if (rc != 0) {
        stop_preparer(vmm);
        done(vmm);
    }
    return rc;
}

void supervisor_stop(struct vmm *vmm, bool leave)
{
    pthread_mutex_lock(&vmm->lock);
    vmm->closing = true;
    vmm->leaving = leave;
    pthread_mutex_unlock(&vmm->lock);
    supervisor_wake(vmm);
    pthread_join(vmm->supervisor, NULL);
    direct_keeper_close(vmm->keeper);
    stop_preparer(vmm);
    done(vmm);
}

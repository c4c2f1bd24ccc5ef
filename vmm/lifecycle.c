/* The first cause of an end is the one that is told; whatever follows from it changes nothing.
 *
 *     PREPARING -> STARTING -> RUNNING -> STOPPING -> FINISHED
 *         |            |  ^------/ |         ^
 *         |            |  watchdog |         |
 *         +------------+-----------+---------+
 *
 * The NAT's gate is shut with the first step of every end. The process is then asked (powerdown), told (quit) and killed,
 * each after its time; FINISHED comes with its exit and with nothing else. */
#include "vmm/lifecycle.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/scope.h"
#include "vmm/accel.h"

enum {
    REPORTS_MAX = 64, /* taken at a time */
    FINAL_READS_MAX = 64,
};

static void tell(struct vmm *vmm, const struct machine *machine, struct vmm_event *event)
{
    event->id = machine->spec->id;
    if (event->at_ms == 0)
        event->at_ms = clock_wall_ms();
    vmm->config.on_event(vmm->config.context, event);
}

/* ---- ending ------------------------------------------------------------------------------------------------ */

static void take_step(struct vmm *vmm, struct machine *machine, enum machine_step step)
{
    uint64_t now_ms = clock_monotonic_ms();
    machine->step = step;
    switch (step) {
    case MACHINE_STEP_POWERDOWN:
        machine->step_ms = now_ms + vmm->config.powerdown_ms;
        if (qmp_send(&machine->qmp, QMP_SYSTEM_POWERDOWN) != 0)
            take_step(vmm, machine, MACHINE_STEP_KILL);
        return;
    case MACHINE_STEP_QUIT:
        machine->step_ms = now_ms + LIFECYCLE_QUIT_MS;
        (void)qmp_send(&machine->qmp, QMP_QUIT);
        return;
    case MACHINE_STEP_KILL:
        machine->step_ms = now_ms + LIFECYCLE_KILL_MS;
        (void)child_signal(&machine->child, SIGKILL);
        return;
    }
}

static void end_machine(struct vmm *vmm, struct machine *machine, enum vmm_end end, enum machine_step step,
                        const char *detail)
{
    if (machine->state >= MACHINE_STOPPING)
        return;
    bool unprepared = machine->state == MACHINE_PREPARING;
    machine->state = MACHINE_STOPPING;
    machine->cancelled = true;
    machine->end = end;
    machine->detected_ms = clock_wall_ms();
    snprintf(machine->detail, sizeof machine->detail, "%s", detail);
    machine->start_by_ms = 0;
    machine->watchdog_ms = 0;
    machine->gone_by_ms = 0;
    if (machine->nat != NULL)
        nat_shut(machine->nat);
    if (machine->child.pid != 0)
        take_step(vmm, machine, step);
    else if (!unprepared)
        machine->state = MACHINE_FINISHED; /* else lifecycle_prepared() finishes it */
    struct vmm_event event = {
        .kind = VMM_EVENT_STOPPING, .end = end, .detected_ms = machine->detected_ms, .detail = machine->detail};
    tell(vmm, machine, &event);
}

void lifecycle_stop(struct vmm *vmm, struct machine *machine, enum vmm_end end)
{
    end_machine(vmm, machine, end, MACHINE_STEP_POWERDOWN, "");
}

static void describe_exit(const struct machine *machine, char ret_text[static VMM_DETAIL_BYTES])
{
    int used = machine->exit.signal != 0
                   ? snprintf(ret_text, VMM_DETAIL_BYTES, "the hypervisor was ended by signal %d", machine->exit.signal)
                   : snprintf(ret_text, VMM_DETAIL_BYTES, "the hypervisor exited with code %d", machine->exit.code);
    if (machine->child.output_total == 0)
        return;
    used += snprintf(ret_text + used, VMM_DETAIL_BYTES - (size_t)used, ": ");
    child_format_output(&machine->child, ret_text + used, VMM_DETAIL_BYTES - (size_t)used);
}

static void take_last_reports(struct vmm *vmm, struct machine *machine)
{
    for (int reads = 0; reads < FINAL_READS_MAX && machine->report_fd >= 0; reads++)
        lifecycle_report(vmm, machine);
}

void lifecycle_clear(struct vmm *vmm, struct machine *machine)
{
    take_last_reports(vmm, machine); /* so that a thread that waits for room to report can end */
    pthread_mutex_lock(&vmm->lock);
    struct nat *nat = machine->nat;
    machine->nat = NULL;
    pthread_mutex_unlock(&vmm->lock);
    nat_stop(nat, NULL);
    take_last_reports(vmm, machine);
    machine_release(machine, &vmm->places);
}

void lifecycle_ended(struct vmm *vmm, struct machine *machine)
{
    uint8_t console[VMM_CONSOLE_BYTES];
    struct vmm_event event = {
        .kind = VMM_EVENT_ENDED,
        .end = machine->end,
        .exit_code = machine->exit.code,
        .signal = machine->exit.signal,
        .detected_ms = machine->detected_ms,
        .detail = machine->detail,
        .console = console,
        .console_bytes = console_read(&machine->console, console, sizeof console, NULL),
    };
    tell(vmm, machine, &event);
}

/* ---- starting ---------------------------------------------------------------------------------------------- */

static void start_hypervisor(struct vmm *vmm, struct machine *machine)
{
    struct vmm_accel accel;
    struct error err = {0};
    vmm_read_accel(vmm, &accel);
    if (machine_spawn(machine, &vmm->places, &accel, &err) != 0) {
        end_machine(vmm, machine, VMM_END_START_FAILED, MACHINE_STEP_KILL, err.message);
        return;
    }
    uint64_t now_ms = clock_monotonic_ms();
    machine->state = MACHINE_STARTING;
    machine->gone_by_ms = 0;
    machine->start_by_ms = now_ms + vmm->config.start_timeout_ms;
    if (strcmp(accel.name, "kvm") == 0)
        machine->watchdog_ms = now_ms + vmm->config.boot_watchdog_ms;
    else
        machine_settle(machine);
    struct vmm_event event = {.kind = VMM_EVENT_SPAWNED,
                              .accelerator = machine->accel.name,
                              .pid = machine->child.pid,
                              .pid_start_ticks = machine->child.start_ticks};
    tell(vmm, machine, &event);
}

static int start_nat(struct vmm *vmm, struct machine *machine, struct error *err)
{
    struct nat *nat = NULL;
    int rc = machine_attach(machine, &nat, err);
    pthread_mutex_lock(&vmm->lock);
    machine->nat = nat;
    pthread_mutex_unlock(&vmm->lock);
    return rc;
}

void lifecycle_prepared(struct vmm *vmm, struct machine *machine)
{
    if (machine->state == MACHINE_STOPPING) {
        machine->state = MACHINE_FINISHED;
        return;
    }
    const struct error *failed = &machine->prepare_error;
    machine->state = MACHINE_STARTING;
    if (failed->code != 0) {
        /* Only what is wrong with the image itself carries a slug. */
        end_machine(vmm, machine, failed->slug != NULL ? VMM_END_IMAGE_REJECTED : VMM_END_START_FAILED,
                    MACHINE_STEP_KILL, failed->message);
        return;
    }
    struct error err = {0};
    if (start_nat(vmm, machine, &err) != 0) {
        end_machine(vmm, machine, VMM_END_FILTER_FAILED, MACHINE_STEP_KILL, err.message);
        return;
    }
    struct vmm_accel accel;
    vmm_read_accel(vmm, &accel);
    struct vmm_event event = {
        .kind = VMM_EVENT_PREPARED, .image_digest = machine->image.image.digest, .accelerator = accel.name};
    tell(vmm, machine, &event);
    start_hypervisor(vmm, machine);
}

static void note_running(struct vmm *vmm, struct machine *machine)
{
    if (machine->state != MACHINE_STARTING || machine->qmp.state != QMP_READY ||
        machine->enforced != machine->spec->policy_generation)
        return;
    machine->state = MACHINE_RUNNING;
    machine->start_by_ms = 0;
    if (machine->told_running)
        return; /* started again with another accelerator */
    machine->told_running = true;
    struct vmm_event event = {.kind = VMM_EVENT_RUNNING, .generation = machine->enforced};
    tell(vmm, machine, &event);
}

/* ---- what the hypervisor says ------------------------------------------------------------------------------ */

static void on_ready(struct vmm *vmm, struct machine *machine)
{
    if (!machine->policy_posted) {
        struct error err = {0};
        const struct nat_policy policy = {.mode = machine->spec->mode,
                                          .generation = machine->spec->policy_generation,
                                          .allow_count = 1,
                                          .allow = {machine->spec->tunnel.consumer}};
        if (nat_apply(machine->nat, &policy, &err) != 0) {
            end_machine(vmm, machine, VMM_END_FILTER_FAILED, MACHINE_STEP_KILL, err.message);
            return;
        }
        machine->policy_posted = true;
    }
    note_running(vmm, machine);
}

static void on_shutdown(struct vmm *vmm, struct machine *machine, const struct qmp_message *message)
{
    char detail[VMM_DETAIL_BYTES];
    char word[4 * QMP_WORD_BYTES];
    log_escape(message->word, strlen(message->word), word, sizeof word);
    snprintf(detail, sizeof detail, "%s shut down: %s", message->by_guest ? "the guest" : "the hypervisor", word);
    enum vmm_end end = VMM_END_HYPERVISOR_CRASH;
    if (message->by_guest)
        end = strcmp(word, "guest-shutdown") == 0 ? VMM_END_GUEST_SHUTDOWN : VMM_END_GUEST_CRASH;
    /* The hypervisor ends by itself now; quit does no harm and sets the time that it has for that. */
    end_machine(vmm, machine, end, MACHINE_STEP_QUIT, detail);
}

static void on_status(struct vmm *vmm, struct machine *machine, const struct qmp_message *message)
{
    if (strcmp(message->word, "running") == 0)
        return;
    char detail[VMM_DETAIL_BYTES];
    char word[4 * QMP_WORD_BYTES];
    log_escape(message->word, strlen(message->word), word, sizeof word);
    snprintf(detail, sizeof detail, "the virtual CPUs stopped: %s", word);
    end_machine(vmm, machine, VMM_END_HYPERVISOR_CRASH, MACHINE_STEP_KILL, detail);
}

static void on_message(struct vmm *vmm, struct machine *machine, const struct qmp_message *message)
{
    switch (message->kind) {
    case QMP_MESSAGE_READY:
        if (machine->state == MACHINE_STARTING && !machine->retry)
            on_ready(vmm, machine);
        return;
    case QMP_MESSAGE_SHUTDOWN:
        on_shutdown(vmm, machine, message);
        return;
    case QMP_MESSAGE_PANICKED:
        end_machine(vmm, machine, VMM_END_GUEST_CRASH, MACHINE_STEP_QUIT, "the guest's kernel panicked");
        return;
    case QMP_MESSAGE_STOPPED:
        (void)qmp_send(&machine->qmp, QMP_QUERY_STATUS);
        return;
    case QMP_MESSAGE_STATUS:
        on_status(vmm, machine, message);
        return;
    }
}

void lifecycle_qmp(struct vmm *vmm, struct machine *machine)
{
    struct qmp_message message;
    struct error err = {0};
    int received = qmp_receive(&machine->qmp);
    int rc;
    while ((rc = qmp_next(&machine->qmp, clock_monotonic_ms(), &message, &err)) > 0)
        on_message(vmm, machine, &message);
    if (rc < 0)
        end_machine(vmm, machine, VMM_END_HYPERVISOR_CRASH, MACHINE_STEP_KILL, err.message);
    /* A closed channel is not the end of the process; its exit says more about why. */
    if (received == -EPIPE && machine->state < MACHINE_STOPPING && !machine->retry)
        machine->gone_by_ms = clock_monotonic_ms() + LIFECYCLE_QUIT_MS;
}

static void take_last_words(struct vmm *vmm, struct machine *machine)
{
    for (int reads = 0; reads < FINAL_READS_MAX && machine_read_console(machine) > 0; reads++)
        ;
    for (int reads = 0; reads < FINAL_READS_MAX && machine->qmp.fd >= 0; reads++)
        lifecycle_qmp(vmm, machine);
    for (int reads = 0; reads < FINAL_READS_MAX && machine->child.output_fd >= 0; reads++)
        child_read_output(&machine->child);
}

void lifecycle_child(struct vmm *vmm, struct machine *machine)
{
    if (!child_reap(&machine->child, &machine->exit))
        return;
    take_last_words(vmm, machine); /* may find out the cause */
    if (machine->state == MACHINE_STOPPING) {
        machine->state = MACHINE_FINISHED;
    } else if (machine->retry) {
        machine->retry = false;
        machine->exit = (struct child_exit){.code = -1};
        start_hypervisor(vmm, machine);
    } else if (machine->state < MACHINE_STOPPING) {
        char detail[VMM_DETAIL_BYTES];
        describe_exit(machine, detail);
        end_machine(vmm, machine, machine->told_running ? VMM_END_HYPERVISOR_CRASH : VMM_END_START_FAILED,
                    MACHINE_STEP_KILL, detail);
    }
}

/* ---- what the guest and its NAT show ------------------------------------------------------------------------- */

static void note_alive(struct machine *machine)
{
    if (machine->watchdog_ms == 0)
        return;
    machine->watchdog_ms = 0;
    machine_settle(machine);
}

void lifecycle_console(struct machine *machine)
{
    if (machine_read_console(machine) > 0)
        note_alive(machine);
}

static uint64_t wall_of(uint64_t monotonic_ms)
{
    uint64_t now_ms = clock_monotonic_ms();
    return clock_wall_ms() - (monotonic_ms < now_ms ? now_ms - monotonic_ms : 0);
}

static void on_report(struct vmm *vmm, struct machine *machine, const struct nat_report *report)
{
    struct vmm_event event = {.at_ms = wall_of(report->at_ms)};
    switch (report->kind) {
    case NAT_REPORT_POLICY:
        if (machine->state >= MACHINE_STOPPING)
            return; /* its gate is shut by now */
        machine->enforced = report->generation;
        event.kind = VMM_EVENT_POLICY;
        event.generation = report->generation;
        tell(vmm, machine, &event);
        note_running(vmm, machine);
        return;
    case NAT_REPORT_VIOLATION:
        event.kind = VMM_EVENT_VIOLATION;
        event.violation = &report->violation;
        tell(vmm, machine, &event);
        return;
    case NAT_REPORT_TUNNEL:
        event.kind = VMM_EVENT_TUNNEL;
        event.tunnel = report->tunnel;
        tell(vmm, machine, &event);
        return;
    case NAT_REPORT_FAILED:
        end_machine(vmm, machine, VMM_END_FILTER_FAILED, MACHINE_STEP_KILL, report->text);
        return;
    }
}

void lifecycle_report(struct vmm *vmm, struct machine *machine)
{
    for (int reports = 0; reports < REPORTS_MAX && machine->report_fd >= 0; reports++) {
        struct nat_report report;
        ssize_t length = recv(machine->report_fd, &report, sizeof report, MSG_DONTWAIT);
        if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return;
        if (length != (ssize_t)sizeof report) {
            fd_close(&machine->report_fd);
            end_machine(vmm, machine, VMM_END_FILTER_FAILED, MACHINE_STEP_KILL, "the filter's thread is gone");
            return;
        }
        on_report(vmm, machine, &report);
    }
}

/* ---- timers ------------------------------------------------------------------------------------------------ */

static void bite(struct vmm *vmm, struct machine *machine)
{
    struct nat_stats stats;
    uint64_t frames = 0;
    nat_read_stats(machine->nat, &stats);
    for (size_t reason = 0; reason < NAT_REASON_COUNT; reason++)
        frames += stats.frames[reason];
    if (frames > 0) {
        note_alive(machine);
        return;
    }
    struct vmm_accel tcg = {.known = true, .name = "tcg", .cpu = ACCEL_CPU_TCG};
    snprintf(tcg.reason, sizeof tcg.reason, "a machine with kvm showed no sign of life within %" PRIu32 " ms",
             vmm->config.boot_watchdog_ms);
    pthread_mutex_lock(&vmm->lock);
    vmm->accel = tcg;
    pthread_mutex_unlock(&vmm->lock);
    (void)accel_remember(vmm->places.qemu, vmm->kvm_device, vmm->config.cache_dir, &tcg, NULL);

    machine->state = MACHINE_STARTING;
    machine->gone_by_ms = 0;
    machine->start_by_ms = clock_monotonic_ms() + vmm->config.start_timeout_ms;
    machine->retry = true;
    (void)child_signal(&machine->child, SIGKILL);
    char detail[VMM_DETAIL_BYTES];
    snprintf(detail, sizeof detail, "%s; it starts again with tcg, and so will others until the next boot", tcg.reason);
    struct vmm_event event = {.kind = VMM_EVENT_NOTICE, .accelerator = tcg.name, .detail = detail};
    tell(vmm, machine, &event);
}

static bool take_timer(uint64_t *timer_ms, uint64_t now_ms)
{
    if (*timer_ms == 0 || now_ms < *timer_ms)
        return false;
    *timer_ms = 0;
    return true;
}

static void next_step(struct vmm *vmm, struct machine *machine)
{
    switch (machine->step) {
    case MACHINE_STEP_POWERDOWN:
        take_step(vmm, machine, MACHINE_STEP_QUIT);
        return;
    case MACHINE_STEP_QUIT:
        take_step(vmm, machine, MACHINE_STEP_KILL);
        return;
    case MACHINE_STEP_KILL:
        log_line(vmm->config.log, LOG_ERROR, "machine.does_not_die", "lease=%s pid=%" PRId64, machine->spec->id.text,
                 (int64_t)machine->child.pid);
        return;
    }
}

void lifecycle_tick(struct vmm *vmm, struct machine *machine, uint64_t now_ms)
{
    if (machine->state < MACHINE_STOPPING && take_timer(&machine->spec->deadline_ms, now_ms))
        end_machine(vmm, machine, VMM_END_DEADLINE, MACHINE_STEP_POWERDOWN, "");
    if (take_timer(&machine->start_by_ms, now_ms))
        end_machine(vmm, machine, VMM_END_START_TIMEOUT, MACHINE_STEP_KILL, "the hypervisor did not answer in time");
    if (take_timer(&machine->gone_by_ms, now_ms))
        end_machine(vmm, machine, VMM_END_HYPERVISOR_CRASH, MACHINE_STEP_KILL, "the hypervisor closed QMP");
    if (take_timer(&machine->watchdog_ms, now_ms))
        bite(vmm, machine);
    if (machine->state == MACHINE_STOPPING && take_timer(&machine->step_ms, now_ms))
        next_step(vmm, machine);
}

uint64_t lifecycle_next_ms(const struct machine *machine)
{
    const uint64_t timers[] = {machine->state < MACHINE_STOPPING ? machine->spec->deadline_ms : 0, machine->start_by_ms,
                               machine->gone_by_ms, machine->watchdog_ms, machine->step_ms};
    uint64_t next = UINT64_MAX;
    for (size_t at = 0; at < sizeof timers / sizeof *timers; at++)
        if (timers[at] != 0 && timers[at] < next)
            next = timers[at];
    return next;
}

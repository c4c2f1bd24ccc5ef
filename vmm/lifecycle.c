/* The first cause of an end is the one that is told; whatever follows from it changes nothing.
 *
 *     PREPARING -> STARTING -> RUNNING -> STOPPING -> FINISHED
 *         |            |  ^------/ |         ^
 *         |            |  watchdog |         |
 *         +------------+-----------+---------+
 *
 * The NAT's gate is shut with the first step of every end. The process is then asked (powerdown), told (quit) and killed,
 * each after its time; FINISHED comes with its exit and with nothing else.
 *
 * A machine that an earlier daemon started comes in as STARTING: it is proved where another one would be spawned. One that
 * outlives this daemon goes from RUNNING to LEFT, and nobody is told of an end that is none. */
#include "vmm/lifecycle.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/scope.h"
#include "vmm/boot_watchdog.h"
#include "vmm/hypervisor.h"
#include "vmm/news.h"
#include "vmm/own_addresses.h"
#include "vmm/totals.h"

void lifecycle_tell(struct vmm *vmm, const struct machine *machine, struct vmm_event *event)
{
    struct nat_violation violation;
    struct vmm_guest_report report;
    event->id = machine->spec->id;
    if (event->violation != NULL) {
        violation = *event->violation;
        violation.serial += machine->serial;
        event->violation = &violation;
    }
    if (event->guest_report != NULL) {
        report = *event->guest_report;
        report.serial += machine->guest_serial;
        event->guest_report = &report;
    }
    if (event->at_ms == 0)
        event->at_ms = clock_wall_ms();
    vmm->config.on_event(vmm->config.context, event);
    news_sweep(vmm); /* that may have taken a while */
}

uint64_t lifecycle_wall_of(uint64_t monotonic_ms)
{
    uint64_t now_ms = clock_monotonic_ms();
    return clock_wall_ms() - (monotonic_ms < now_ms ? now_ms - monotonic_ms : 0);
}

/* ---- ending ------------------------------------------------------------------------------------------------ */

static void take_step(struct vmm *vmm, struct machine *machine, enum machine_step step)
{
    uint64_t now_ms = clock_monotonic_ms();
    machine->step = step;
    switch (step) {
    case MACHINE_STEP_POWERDOWN:
        machine->step_ms = now_ms + vmm->config.powerdown_ms;
        if (vmm->places.hypervisor->ask_to_end(machine, &vmm->places, step) != 0)
            take_step(vmm, machine, MACHINE_STEP_KILL);
        return;
    case MACHINE_STEP_QUIT:
        machine->step_ms = now_ms + LIFECYCLE_QUIT_MS;
        (void)vmm->places.hypervisor->ask_to_end(machine, &vmm->places, step);
        return;
    case MACHINE_STEP_KILL:
        machine->step_ms = now_ms + LIFECYCLE_KILL_MS;
        machine_kill(machine);
        return;
    }
}

/* What can go wrong before a machine runs; for one that comes from an earlier daemon it means that it could not be proved. */
static bool is_of_start(enum vmm_end end)
{
    return end == VMM_END_START_FAILED || end == VMM_END_START_TIMEOUT || end == VMM_END_HYPERVISOR_CRASH ||
           end == VMM_END_FILTER_FAILED;
}

void lifecycle_end(struct vmm *vmm, struct machine *machine, enum vmm_end end, enum machine_step step,
                   const char *detail)
{
    news_take_in(machine);
    if (machine->condemned && end != VMM_END_POLICY_VIOLATION)
        news_report(vmm, machine); /* what it is killed for came first */
    if (machine->state >= MACHINE_STOPPING)
        return;
    bool unprepared = machine->state == MACHINE_PREPARING;
    if (machine->adopted && !machine->told_running && is_of_start(end))
        end = VMM_END_RECOVERY_FAILED;
    machine->state = MACHINE_STOPPING;
    machine->cancelled = true;
    machine->end = end;
    machine->detected_ms =
        end == VMM_END_POLICY_VIOLATION ? lifecycle_wall_of(machine->violation.last_ms) : clock_wall_ms();
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
    lifecycle_tell(vmm, machine, &event);
}

void lifecycle_stop(struct vmm *vmm, struct machine *machine, enum vmm_end end)
{
    lifecycle_end(vmm, machine, end, MACHINE_STEP_POWERDOWN, "");
}

void lifecycle_leave(struct vmm *vmm, struct machine *machine)
{
    news_take_in(machine);
    if (machine->state != MACHINE_RUNNING || !machine->outlives || machine->condemned) {
        lifecycle_stop(vmm, machine, VMM_END_SHUTDOWN);
        return;
    }
    if (machine->nat != NULL)
        nat_shut(machine->nat);
    machine->state = MACHINE_LEFT;
}

static void describe_exit(const struct machine *machine, char ret_text[static VMM_DETAIL_BYTES])
{
    if (machine->adopted) {
        snprintf(ret_text, VMM_DETAIL_BYTES, "the hypervisor ended; only the daemon that started it could know how");
        return;
    }
    int used = machine->exit.signal != 0
                   ? snprintf(ret_text, VMM_DETAIL_BYTES, "the hypervisor was ended by signal %d", machine->exit.signal)
                   : snprintf(ret_text, VMM_DETAIL_BYTES, "the hypervisor exited with code %d", machine->exit.code);
    if (machine->child.output_total == 0)
        return;
    used += snprintf(ret_text + used, VMM_DETAIL_BYTES - (size_t)used, ": ");
    child_format_output(&machine->child, ret_text + used, VMM_DETAIL_BYTES - (size_t)used);
}

void lifecycle_clear(struct vmm *vmm, struct machine *machine)
{
    if (vmm->keeper != NULL)
        (void)direct_keeper_remove(vmm->keeper, &machine->spec->id, NULL);
    news_last_reports(vmm, machine); /* so that a thread that waits for room to report can end */
    totals_keep(vmm, machine);
    if (machine->condemned && machine->gone_ms == 0)
        machine->gone_ms = clock_monotonic_ms(); /* external: its network is all that can be ended */
    guest_reports_finish(&machine->guest_reports);
    news_last_reports(vmm, machine);
    if (machine->state == MACHINE_LEFT)
        machine_leave(machine);
    else
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
    if (machine->end == VMM_END_POLICY_VIOLATION) {
        event.violation = &machine->violation;
        if (machine->gone_ms > machine->violation.last_ms)
            event.stop_latency_ms = machine->gone_ms - machine->violation.last_ms;
    }
    lifecycle_tell(vmm, machine, &event);
}

/* ---- starting ---------------------------------------------------------------------------------------------- */

void lifecycle_note_spawned(struct vmm *vmm, const struct machine *machine, pid_t pid, uint64_t start_ticks)
{
    struct vmm_event event = {
        .kind = VMM_EVENT_SPAWNED, .accelerator = machine->accel.name, .pid = pid, .pid_start_ticks = start_ticks};
    lifecycle_tell(vmm, machine, &event);
}

static void start_hypervisor(struct vmm *vmm, struct machine *machine)
{
    struct vmm_accel accel;
    struct error err = {0};
    vmm_read_accel(vmm, &accel);
    if (machine_spawn(machine, &vmm->places, &accel, &err) != 0) {
        lifecycle_end(vmm, machine, VMM_END_START_FAILED, MACHINE_STEP_KILL, err.message);
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
    if (!machine->spec->direct) /* else news_line() learns its pid */
        lifecycle_note_spawned(vmm, machine, machine->child.pid, machine->child.start_ticks);
}

void lifecycle_noted(struct vmm *vmm, struct machine *machine, int64_t pid)
{
    struct error err = {0};
    if (machine->child.start_fd < 0 || machine->child.released || machine->child.pid != pid ||
        machine->state != MACHINE_STARTING)
        return;
    if (machine_release_child(machine, &err) != 0)
        lifecycle_end(vmm, machine, VMM_END_START_FAILED, MACHINE_STEP_KILL, err.message);
}

void lifecycle_started(struct vmm *vmm, struct machine *machine)
{
    struct error err = {0};
    int rc = machine_started(machine, &vmm->places, &err);
    if (rc != 0 && rc != -EINPROGRESS)
        lifecycle_end(vmm, machine, VMM_END_START_FAILED, MACHINE_STEP_KILL, err.message);
}

static int start_nat(struct vmm *vmm, struct machine *machine, struct error *err)
{
    struct nat *nat = NULL;
    int rc = machine_attach(machine, &vmm->places, &nat, err);
    pthread_mutex_lock(&vmm->lock);
    machine->nat = nat;
    pthread_mutex_unlock(&vmm->lock);
    return rc;
}

/* Its NAT's gate is shut until the last proof: see news.c, on_name(). */
static void adopt(struct vmm *vmm, struct machine *machine)
{
    struct error err = {0};
    machine->start_by_ms = clock_monotonic_ms() + vmm->config.start_timeout_ms;
    int rc = machine_adopt(machine, &vmm->places, &err);
    if (rc == 0)
        rc = start_nat(vmm, machine, &err);
    if (rc != 0)
        lifecycle_end(vmm, machine, VMM_END_RECOVERY_FAILED, MACHINE_STEP_KILL, err.message);
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
        bool rejected = failed->slug != NULL && strncmp(failed->slug, "image-", 6) == 0;
        lifecycle_end(vmm, machine, rejected ? VMM_END_IMAGE_REJECTED : VMM_END_START_FAILED, MACHINE_STEP_KILL,
                      failed->message);
        return;
    }
    struct error err = {0};
    if (machine->adopted) {
        adopt(vmm, machine);
        return;
    }
    if (!machine->spec->direct && start_nat(vmm, machine, &err) != 0) {
        lifecycle_end(vmm, machine, VMM_END_FILTER_FAILED, MACHINE_STEP_KILL, err.message);
        return;
    }
    if (machine->spec->external) {
        machine->start_by_ms = clock_monotonic_ms() + vmm->config.start_timeout_ms;
        lifecycle_ready(vmm, machine); /* there is no hypervisor to wait for */
        return;
    }
    struct vmm_accel accel;
    vmm_read_accel(vmm, &accel);
    struct vmm_event event = {
        .kind = VMM_EVENT_PREPARED, .image_digest = machine->image.image.digest, .accelerator = accel.name};
    lifecycle_tell(vmm, machine, &event);
    start_hypervisor(vmm, machine);
}

void lifecycle_note_running(struct vmm *vmm, struct machine *machine)
{
    bool answers = machine->spec->external || vmm->places.hypervisor->answers(machine);
    if (machine->state != MACHINE_STARTING || !answers ||
        (!machine->spec->direct && machine->enforced < machine->spec->policy.generation))
        return;
    machine->state = MACHINE_RUNNING;
    machine->start_by_ms = 0;
    if (machine->told_running)
        return; /* started again with another accelerator */
    machine->told_running = true;
    machine->running_ms = clock_monotonic_ms();
    tunnel_watch_running(&machine->tunnel, machine->running_ms);
    struct vmm_event event = {.kind = machine->spec->external ? VMM_EVENT_OPENED : VMM_EVENT_RUNNING,
                              .generation = machine->enforced};
    lifecycle_tell(vmm, machine, &event);
}

static int post_policy(struct vmm *vmm, struct machine *machine, struct error *err)
{
    struct nat_policy policy = machine->spec->policy;
    int rc = machine_complete_policy(machine, &policy, err);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&vmm->lock); /* the next ones come from other threads */
    rc = nat_apply(machine->nat, &policy, err);
    pthread_mutex_unlock(&vmm->lock);
    return rc;
}

void lifecycle_ready(struct vmm *vmm, struct machine *machine)
{
    if (machine->state != MACHINE_STARTING || machine->retry)
        return;
    if (!machine->spec->direct && !machine->policy_posted) {
        struct error err = {0};
        if (post_policy(vmm, machine, &err) != 0) {
            lifecycle_end(vmm, machine, VMM_END_FILTER_FAILED, MACHINE_STEP_KILL, err.message);
            return;
        }
        machine->policy_posted = true;
    }
    lifecycle_note_running(vmm, machine);
}

/* ---- the process's end ------------------------------------------------------------------------------------- */

/* The keeper of own addresses may have killed it, which is then the cause of its end. */
static void forget_direct(struct vmm *vmm, struct machine *machine)
{
    struct error err = {0};
    if (vmm->keeper != NULL && machine->spec->direct &&
        direct_keeper_remove(vmm->keeper, &machine->spec->id, &err) != 0)
        lifecycle_end(vmm, machine, VMM_END_FILTER_FAILED, MACHINE_STEP_KILL, err.message);
}

static enum vmm_end end_of_exit(const struct vmm *vmm, const struct machine *machine)
{
    if (!machine->told_running)
        return VMM_END_START_FAILED;
    return vmm->places.hypervisor->ends_with_guest && machine->exit.code == 0 ? VMM_END_GUEST_SHUTDOWN
                                                                              : VMM_END_HYPERVISOR_CRASH;
}

void lifecycle_child(struct vmm *vmm, struct machine *machine)
{
    if (machine->condemned)
        news_report(vmm, machine); /* why it was killed */
    if (!machine_reap(machine))
        return;
    forget_direct(vmm, machine);
    if (machine->condemned && machine->gone_ms == 0)
        machine->gone_ms = clock_monotonic_ms();
    news_last_words(vmm, machine); /* may find out the cause */
    if (machine->state == MACHINE_STOPPING) {
        machine->state = MACHINE_FINISHED;
    } else if (machine->retry) {
        machine->retry = false;
        machine->exit = (struct child_exit){.code = -1};
        start_hypervisor(vmm, machine);
    } else if (machine->state < MACHINE_STOPPING) {
        char detail[VMM_DETAIL_BYTES];
        describe_exit(machine, detail);
        lifecycle_end(vmm, machine, end_of_exit(vmm, machine), MACHINE_STEP_KILL, detail);
    }
}

/* ---- timers ------------------------------------------------------------------------------------------------ */

void lifecycle_note_alive(struct machine *machine)
{
    if (machine->watchdog_ms == 0)
        return;
    machine->watchdog_ms = 0;
    machine_settle(machine);
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

static void look_at_tunnel(struct vmm *vmm, struct machine *machine, uint64_t now_ms)
{
    struct nat_stats stats = {0};
    if (machine->tunnel.due_ms == 0 || now_ms < machine->tunnel.due_ms)
        return;
    if (machine->nat != NULL)
        nat_read_stats(machine->nat, &stats);
    switch (tunnel_watch_look(&machine->tunnel, stats.consumer_heard_ms, now_ms)) {
    case TUNNEL_WATCH_WELL:
        return;
    case TUNNEL_WATCH_NEVER_UP:
        lifecycle_end(vmm, machine, VMM_END_TUNNEL_TIMEOUT, MACHINE_STEP_POWERDOWN,
                      "the tunnel did not come up in time");
        return;
    case TUNNEL_WATCH_SILENT:
        lifecycle_end(vmm, machine, VMM_END_TUNNEL_LOST, MACHINE_STEP_POWERDOWN, "the consumer was silent too long");
        return;
    }
}

/* It closed its channel and lives on. */
static void end_closed(struct vmm *vmm, struct machine *machine)
{
    if (machine->spec->direct && machine->direct.pid == 0)
        lifecycle_end(vmm, machine, VMM_END_START_FAILED, MACHINE_STEP_KILL,
                      "the machine's namespace could not be made");
    else
        lifecycle_end(vmm, machine, VMM_END_HYPERVISOR_CRASH, MACHINE_STEP_KILL, "the hypervisor closed QMP");
}

void lifecycle_tick(struct vmm *vmm, struct machine *machine, uint64_t now_ms)
{
    if (take_timer(&machine->start_by_ms, now_ms))
        lifecycle_end(vmm, machine, VMM_END_START_TIMEOUT, MACHINE_STEP_KILL, "the hypervisor did not answer in time");
    if (take_timer(&machine->gone_by_ms, now_ms))
        end_closed(vmm, machine);
    if (take_timer(&machine->watchdog_ms, now_ms))
        boot_watchdog_bite(vmm, machine);
    if (vmm->places.hypervisor->look != NULL && take_timer(&machine->look_ms, now_ms))
        vmm->places.hypervisor->look(vmm, machine, now_ms);
    if (machine->state == MACHINE_RUNNING)
        look_at_tunnel(vmm, machine, now_ms);
    news_guest_reports(vmm, machine, now_ms);
    if (machine->state == MACHINE_STOPPING && take_timer(&machine->step_ms, now_ms))
        next_step(vmm, machine);
}

uint64_t lifecycle_next_ms(const struct machine *machine)
{
    const uint64_t timers[] = {machine->start_by_ms, machine->gone_by_ms,
                               machine->watchdog_ms, machine->look_ms,
                               machine->step_ms,     machine->state == MACHINE_RUNNING ? machine->tunnel.due_ms : 0};
    uint64_t next = guest_reports_due_ms(&machine->guest_reports);
    for (size_t at = 0; at < sizeof timers / sizeof *timers; at++)
        if (timers[at] != 0 && timers[at] < next)
            next = timers[at];
    return next;
}

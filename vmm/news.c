#include "vmm/news.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/scope.h"
#include "vmm/channel.h"
#include "vmm/lifecycle.h"

enum {
    REPORTS_MAX = 64, /* told of at a time */
    FINAL_READS_MAX = 64,
};

/* ---- the NAT ------------------------------------------------------------------------------------------------- */

/* Its NAT has shut the gate already; now the process goes, before anything that could take time. */
static void condemn(struct machine *machine, const struct nat_violation *violation)
{
    machine->condemned = true;
    machine->violation = *violation;
    machine_kill(machine);
}

static void note_gone(struct machine *machine)
{
    struct pollfd process = {.fd = machine->child.exit_fd, .events = POLLIN};
    if (machine->condemned && machine->gone_ms == 0 && process.fd >= 0 && poll(&process, 1, 0) > 0)
        machine->gone_ms = clock_monotonic_ms();
}

void news_take_in(struct machine *machine)
{
    struct nat_violation violation;
    if (!machine->condemned && machine->nat != NULL && nat_condemned(machine->nat, &violation))
        condemn(machine, &violation);
    while (machine->report_fd >= 0 && machine->inbox_count < MACHINE_INBOX_MAX) {
        struct nat_report *report = &machine->inbox[machine->inbox_count];
        ssize_t length = recv(machine->report_fd, report, sizeof *report, MSG_DONTWAIT);
        if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            break;
        if (length != (ssize_t)sizeof *report) {
            fd_close(&machine->report_fd);
            *report = (struct nat_report){.kind = NAT_REPORT_FAILED, .text = "the filter's thread is gone"};
            report->at_ms = clock_monotonic_ms();
        }
        machine->inbox_count++;
        if (report->kind == NAT_REPORT_VIOLATION && report->violation.terminated && !machine->condemned)
            condemn(machine, &report->violation);
    }
    note_gone(machine);
}

void news_sweep(struct vmm *vmm)
{
    for (size_t at = 0; at < vmm->served_count; at++)
        if (vmm->served[at]->child.pid != 0) /* else there is nothing that would have to be killed */
            news_take_in(vmm->served[at]);
}

bool news_report_waits(const struct machine *machine)
{
    bool untold = machine->condemned && !machine->told_condemned && machine->state < MACHINE_STOPPING;
    return machine->inbox_count > 0 || untold;
}

static void on_policy(struct vmm *vmm, struct machine *machine, const struct nat_report *report,
                      struct vmm_event *event)
{
    if (machine->state >= MACHINE_STOPPING)
        return; /* its gate is shut by now */
    machine->enforced = report->generation;
    if (machine->spec->external && !machine->told_running) {
        lifecycle_note_running(vmm, machine); /* tells of both */
        return;
    }
    event->kind = VMM_EVENT_POLICY;
    event->generation = report->generation;
    lifecycle_tell(vmm, machine, event);
    lifecycle_note_running(vmm, machine);
}

static void on_violation(struct vmm *vmm, struct machine *machine, const struct nat_violation *violation,
                         struct vmm_event *event)
{
    event->kind = VMM_EVENT_VIOLATION;
    event->violation = violation;
    lifecycle_tell(vmm, machine, event);
    if (violation->terminated)
        lifecycle_end(vmm, machine, VMM_END_POLICY_VIOLATION, MACHINE_STEP_KILL, nat_reason_name(violation->reason));
}

/* Whether the report says no more than was told when the machine was condemned. */
static bool is_told(const struct machine *machine, const struct nat_violation *violation)
{
    return machine->told_condemned && violation->serial == machine->violation.serial &&
           violation->count <= machine->violation.count;
}

static void on_report(struct vmm *vmm, struct machine *machine, const struct nat_report *report)
{
    struct vmm_event event = {.at_ms = lifecycle_wall_of(report->at_ms)};
    switch (report->kind) {
    case NAT_REPORT_POLICY:
        on_policy(vmm, machine, report, &event);
        return;
    case NAT_REPORT_VIOLATION:
        if (!is_told(machine, &report->violation))
            on_violation(vmm, machine, &report->violation, &event);
        return;
    case NAT_REPORT_TUNNEL:
        if (report->tunnel == NAT_TUNNEL_ESTABLISHED)
            tunnel_watch_established(&machine->tunnel, report->at_ms);
        event.kind = VMM_EVENT_TUNNEL;
        event.tunnel = report->tunnel;
        event.ports = report->ports;
        lifecycle_tell(vmm, machine, &event);
        return;
    case NAT_REPORT_DETACHED:
        return; /* the hypervisor has ended or is about to, and says more about it */
    case NAT_REPORT_FAILED:
        lifecycle_end(vmm, machine, VMM_END_FILTER_FAILED, MACHINE_STEP_KILL, report->text);
        return;
    }
}

/* What it was killed for comes before the reports that its NAT made first; those only add to the picture. */
static void tell_condemned(struct vmm *vmm, struct machine *machine)
{
    if (!machine->condemned || machine->state >= MACHINE_STOPPING || machine->told_condemned)
        return;
    machine->told_condemned = true;
    struct vmm_event event = {.at_ms = lifecycle_wall_of(machine->violation.last_ms)};
    on_violation(vmm, machine, &machine->violation, &event);
}

/* Each report leaves the inbox before it is acted on, because that may look into the inbox again. */
void news_report(struct vmm *vmm, struct machine *machine)
{
    for (int reports = 0; reports < REPORTS_MAX; reports++) {
        news_take_in(machine);
        tell_condemned(vmm, machine);
        if (machine->inbox_count == 0)
            return;
        const struct nat_report report = machine->inbox[0];
        machine->inbox_count--;
        memmove(machine->inbox, machine->inbox + 1, machine->inbox_count * sizeof *machine->inbox);
        on_report(vmm, machine, &report);
    }
}

/* ---- the guest ----------------------------------------------------------------------------------------------- */

static void note_ready(struct vmm *vmm, struct machine *machine)
{
    if (machine->spec->boot_isolation != VMM_BOOT_ONLINE_INSTALL || machine->state != MACHINE_RUNNING ||
        machine->told_exposed)
        return;
    machine->told_exposed = true;
    struct vmm_event event = {.kind = VMM_EVENT_EXPOSED, .exposed_ms = clock_monotonic_ms() - machine->running_ms};
    lifecycle_tell(vmm, machine, &event);
}

void news_console(struct vmm *vmm, struct machine *machine)
{
    bool ready = false;
    if (machine_read_console(machine, &ready) > 0)
        lifecycle_note_alive(machine);
    if (ready)
        note_ready(vmm, machine);
}

void news_guest_reports(struct vmm *vmm, struct machine *machine, uint64_t now_ms)
{
    for (int told = 0; told < NEWS_GUEST_REPORTS_MAX; told++) {
        const struct vmm_guest_report *report = guest_reports_next(&machine->guest_reports, now_ms);
        if (report == NULL)
            return;
        struct vmm_event event = {.kind = VMM_EVENT_GUEST_REPORT, .guest_report = report};
        lifecycle_tell(vmm, machine, &event);
    }
}

/* ---- the hypervisor ------------------------------------------------------------------------------------------ */

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
    lifecycle_end(vmm, machine, end, MACHINE_STEP_QUIT, detail);
}

static void on_status(struct vmm *vmm, struct machine *machine, const struct qmp_message *message)
{
    if (strcmp(message->word, "running") == 0)
        return;
    char detail[VMM_DETAIL_BYTES];
    char word[4 * QMP_WORD_BYTES];
    log_escape(message->word, strlen(message->word), word, sizeof word);
    snprintf(detail, sizeof detail, "the virtual CPUs stopped: %s", word);
    lifecycle_end(vmm, machine, VMM_END_HYPERVISOR_CRASH, MACHINE_STEP_KILL, detail);
}

/* It has answered, so its end of the channel is a descriptor of somebody's. A hypervisor that stopped while nobody listened
 * says so now; its name comes last, and with it the machine runs. */
static void prove_adopted(struct vmm *vmm, struct machine *machine)
{
    int rc = channel_reaches(machine->qmp.fd, machine->child.pid);
    if (rc != 0) {
        lifecycle_end(vmm, machine, VMM_END_RECOVERY_FAILED, MACHINE_STEP_KILL,
                      rc == -EPERM ? "the control channel is not the hypervisor's"
                                   : "the kernel does not tell whose the control channel is (CONFIG_UNIX_DIAG)");
        return;
    }
    (void)qmp_send(&machine->qmp, QMP_QUERY_STATUS);
    (void)qmp_send(&machine->qmp, QMP_QUERY_NAME);
}

static void on_name(struct vmm *vmm, struct machine *machine, const struct qmp_message *message)
{
    if (strcmp(message->word, machine->spec->id.text) == 0)
        lifecycle_ready(vmm, machine);
    else
        lifecycle_end(vmm, machine, VMM_END_RECOVERY_FAILED, MACHINE_STEP_KILL, "the hypervisor is another machine's");
}

static void on_message(struct vmm *vmm, struct machine *machine, const struct qmp_message *message)
{
    switch (message->kind) {
    case QMP_MESSAGE_READY:
        if (machine->adopted)
            prove_adopted(vmm, machine);
        else
            lifecycle_ready(vmm, machine);
        return;
    case QMP_MESSAGE_NAME:
        on_name(vmm, machine, message);
        return;
    case QMP_MESSAGE_SHUTDOWN:
        on_shutdown(vmm, machine, message);
        return;
    case QMP_MESSAGE_PANICKED:
        lifecycle_end(vmm, machine, VMM_END_GUEST_CRASH, MACHINE_STEP_QUIT, "the guest's kernel panicked");
        return;
    case QMP_MESSAGE_STOPPED:
        (void)qmp_send(&machine->qmp, QMP_QUERY_STATUS);
        return;
    case QMP_MESSAGE_STATUS:
        on_status(vmm, machine, message);
        return;
    }
}

void news_qmp(struct vmm *vmm, struct machine *machine)
{
    struct qmp_message message;
    struct error err = {0};
    int received = qmp_receive(&machine->qmp);
    int rc;
    while ((rc = qmp_next(&machine->qmp, clock_monotonic_ms(), &message, &err)) > 0)
        on_message(vmm, machine, &message);
    if (rc < 0)
        lifecycle_end(vmm, machine, VMM_END_HYPERVISOR_CRASH, MACHINE_STEP_KILL, err.message);
    /* A closed channel is not the end of the process; its exit says more about why. */
    if (received == -EPIPE && machine->state < MACHINE_STOPPING && !machine->retry)
        machine->gone_by_ms = clock_monotonic_ms() + LIFECYCLE_QUIT_MS;
}

/* ---- direct mode's launcher ---------------------------------------------------------------------------------- */

/* The keeper is started with the first direct machine: others do not need what it needs. */
static int keep_addresses(struct vmm *vmm, const struct machine *machine, struct error *err)
{
    int rc = vmm->keeper == NULL ? direct_keeper_open(&vmm->keeper, err) : 0;
    return rc != 0 ? rc : direct_keeper_add(vmm->keeper, &machine->spec->id, &machine->direct, err);
}

void news_line(struct vmm *vmm, struct machine *machine)
{
    struct error err = {0};
    int rc = direct_receive(&machine->direct, &err);
    if (rc == 0)
        return;
    if (rc < 0) { /* what pasta and the launcher print, and their end, say more about why */
        if (machine->state < MACHINE_STOPPING && !machine->retry)
            machine->gone_by_ms = clock_monotonic_ms() + LIFECYCLE_QUIT_MS;
        return;
    }
    lifecycle_note_spawned(vmm, machine, machine->direct.pid, machine->direct.start_ticks);
    if (keep_addresses(vmm, machine, &err) != 0)
        lifecycle_end(vmm, machine, VMM_END_FILTER_FAILED, MACHINE_STEP_KILL, err.message);
}

/* ---- the end ------------------------------------------------------------------------------------------------- */

void news_last_words(struct vmm *vmm, struct machine *machine)
{
    bool ready = false; /* too late to matter */
    for (int reads = 0; reads < FINAL_READS_MAX && machine_read_console(machine, &ready) > 0; reads++)
        ;
    for (int reads = 0; reads < FINAL_READS_MAX && machine->qmp.fd >= 0; reads++)
        news_qmp(vmm, machine);
    for (int reads = 0; reads < FINAL_READS_MAX && machine->child.output_fd >= 0; reads++)
        child_read_output(&machine->child);
}

void news_last_reports(struct vmm *vmm, struct machine *machine)
{
    for (int rounds = 0; rounds < FINAL_READS_MAX; rounds++)
        news_report(vmm, machine);
    for (int rounds = 0; rounds < FINAL_READS_MAX; rounds++)
        news_guest_reports(vmm, machine, clock_monotonic_ms());
}

/* What the public interface cannot bring about: a NAT that fails while its machine runs. */
#include "vmm/lifecycle.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/cmocka.h"
#include "vmm/hypervisor.h"
#include "vmm/news.h"

static struct vmm vmm;
static struct machine *machine;
static int reports; /* the NAT's end */
static int told[VMM_EVENT_NOTICE + 1];
static uint64_t told_at_ms;
static char told_detail[VMM_DETAIL_BYTES];
static bool gone_before_told; /* the process had ended when its violation was told */
static uint64_t told_exposed_ms;
static uint64_t told_stop_latency_ms;
static struct nat_report report_while_telling; /* arrives while the first event is told */

static void send_now(const struct nat_report *report)
{
    assert_int_equal(send(reports, report, sizeof *report, 0), sizeof *report);
}

static void on_event(void *context, const struct vmm_event *event)
{
    (void)context;
    told[event->kind]++;
    told_at_ms = event->at_ms;
    told_exposed_ms = event->exposed_ms;
    told_stop_latency_ms = event->stop_latency_ms;
    if (event->kind == VMM_EVENT_VIOLATION && event->violation->terminated) {
        struct pollfd process = {.fd = machine->child.exit_fd, .events = POLLIN};
        gone_before_told = process.fd < 0 || poll(&process, 1, 10000) == 1;
    }
    if (report_while_telling.at_ms != 0) {
        send_now(&report_while_telling);
        report_while_telling.at_ms = 0;
    }
    if (event->detail != NULL)
        snprintf(told_detail, sizeof told_detail, "%s", event->detail);
}

/* A machine that runs: a process, a report socket, no NAT. */
static int set_up(void **state)
{
    (void)state;
    static char *const argv[] = {(char *)"sleep", (char *)"60", NULL};
    static struct vmm_spec spec;
    assert_true(sodium_init() >= 0);
    memset(&vmm, 0, sizeof vmm);
    memset(told, 0, sizeof told);
    told_detail[0] = '\0';
    report_while_telling.at_ms = 0;
    gone_before_told = false;
    vmm.config.on_event = on_event;
    vmm.config.powerdown_ms = 1000;
    vmm.places.hypervisor = hypervisor_of(VMM_HYPERVISOR_QEMU);
    pthread_mutex_init(&vmm.lock, NULL);
    spec.id = id_new();
    spec.policy.generation = 3;
    machine = machine_create(&spec);
    assert_non_null(machine);
    machine->state = MACHINE_RUNNING;
    machine->told_running = true;
    assert_int_equal(child_spawn("/bin/sleep", argv, NULL, 0, &machine->child, NULL), 0);
    assert_int_equal(attachment_pair(ATTACHMENT_REPORTS, &machine->report_fd, &reports, NULL), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close(reports);
    lifecycle_clear(&vmm, machine);
    machine_free(machine);
    pthread_mutex_destroy(&vmm.lock);
    return 0;
}

static void send_report(const struct nat_report *report)
{
    send_now(report);
    news_report(&vmm, machine);
}

static void await_exit(void)
{
    for (int waited = 0; machine->state != MACHINE_FINISHED; waited += CHILD_TICK_MS) {
        assert_true(waited < 10000);
        struct pollfd fd = {.fd = machine->child.exit_fd, .events = POLLIN};
        poll(&fd, 1, CHILD_TICK_MS);
        lifecycle_child(&vmm, machine);
    }
}

static void a_filter_that_fails_kills_the_machine_at_once(void **state)
{
    (void)state;
    send_report(&(struct nat_report){.kind = NAT_REPORT_FAILED, .error_code = -EIO, .text = "poll: no luck"});
    assert_int_equal(machine->state, MACHINE_STOPPING);
    assert_int_equal(machine->end, VMM_END_FILTER_FAILED);
    assert_string_equal(told_detail, "poll: no luck");
    await_exit();
    assert_int_equal(machine->exit.signal, SIGKILL);
    assert_int_equal(told[VMM_EVENT_STOPPING], 1);
}

#ifndef OMERTAD_PORTABLE
static void a_filter_that_is_gone_without_a_word_has_failed(void **state)
{
    (void)state;
    shutdown(reports, SHUT_RDWR);
    news_report(&vmm, machine);
    assert_int_equal(machine->end, VMM_END_FILTER_FAILED);
    await_exit();
}
#endif

static struct nat_report terminating(uint32_t serial)
{
    uint64_t now_ms = clock_monotonic_ms();
    return (struct nat_report){.kind = NAT_REPORT_VIOLATION,
                               .at_ms = now_ms,
                               .violation = {.serial = serial,
                                             .reason = NAT_REASON_PORT_NOT_ALLOWED,
                                             .terminated = true,
                                             .count = 1,
                                             .first_ms = now_ms - 20,
                                             .last_ms = now_ms}};
}

static void a_terminating_violation_kills_before_anything_is_told(void **state)
{
    (void)state;
    struct nat_report report = terminating(9);
    send_report(&report);
    assert_int_equal(told[VMM_EVENT_VIOLATION], 1);
    assert_true(gone_before_told);
    assert_int_equal(machine->end, VMM_END_POLICY_VIOLATION);
    await_exit();
    assert_int_equal(machine->exit.signal, SIGKILL);
    assert_int_equal(machine->violation.serial, 9);
    lifecycle_ended(&vmm, machine);
    assert_int_equal(told[VMM_EVENT_ENDED], 1);
    assert_in_range(told_stop_latency_ms, 0, 9999);
    assert_int_equal(told_stop_latency_ms,
                     machine->gone_ms > machine->violation.last_ms ? machine->gone_ms - machine->violation.last_ms : 0);
}

static void a_machine_is_killed_while_an_event_of_another_is_told(void **state)
{
    (void)state;
    static struct vmm_spec other_spec;
    other_spec.id = id_new();
    struct machine *other = machine_create(&other_spec);
    assert_non_null(other);
    struct machine *served[] = {machine};
    vmm.served = served;
    vmm.served_count = 1;
    report_while_telling = terminating(3);
    struct vmm_event event = {.kind = VMM_EVENT_NOTICE};
    lifecycle_tell(&vmm, other, &event); /* nobody has looked at the first machine's reports yet */
    assert_true(machine->condemned);
    assert_int_equal(machine->state, MACHINE_RUNNING);
    assert_true(news_report_waits(machine));
    struct pollfd process = {.fd = machine->child.exit_fd, .events = POLLIN};
    assert_true(process.fd < 0 || poll(&process, 1, 10000) == 1);
    await_exit(); /* its exit alone must not look like a crash */
    assert_int_equal(machine->end, VMM_END_POLICY_VIOLATION);
    assert_int_equal(told[VMM_EVENT_VIOLATION], 1);
    vmm.served_count = 0;
    machine_free(other);
}

static void a_violation_in_the_inbox_outranks_a_later_cause(void **state)
{
    (void)state;
    struct nat_report report = terminating(1);
    send_now(&report);
    lifecycle_stop(&vmm, machine, VMM_END_ASKED);
    await_exit();
    assert_int_equal(machine->end, VMM_END_POLICY_VIOLATION);
    assert_int_equal(told[VMM_EVENT_STOPPING], 1);
}

static void more_reports_than_the_inbox_holds_are_all_told_in_order(void **state)
{
    (void)state;
    enum { REPORTS = 3 * MACHINE_INBOX_MAX };
    for (uint64_t at = 0; at < REPORTS; at++)
        send_now(&(struct nat_report){.kind = NAT_REPORT_POLICY, .generation = at});
    news_take_in(machine);
    assert_int_equal(machine->inbox_count, MACHINE_INBOX_MAX);
    for (uint64_t at = 0; at < MACHINE_INBOX_MAX; at++)
        assert_int_equal(machine->inbox[at].generation, at);
    news_report(&vmm, machine);
    assert_int_equal(told[VMM_EVENT_POLICY], REPORTS);
    assert_int_equal(machine->enforced, REPORTS - 1);
    assert_false(news_report_waits(machine));
}

static void a_tunnel_that_was_up_is_lost_after_its_silence(void **state)
{
    (void)state;
    uint64_t now_ms = clock_monotonic_ms();
    tunnel_watch_init(&machine->tunnel, 100, 5000);
    tunnel_watch_running(&machine->tunnel, now_ms);
    assert_int_equal(lifecycle_next_ms(machine), now_ms + 100);
    send_report(&(struct nat_report){.kind = NAT_REPORT_TUNNEL, .at_ms = now_ms, .tunnel = NAT_TUNNEL_ESTABLISHED});
    assert_int_equal(lifecycle_next_ms(machine), now_ms + 5000);
    lifecycle_tick(&vmm, machine, now_ms + 4999);
    assert_int_equal(machine->state, MACHINE_RUNNING);
    lifecycle_tick(&vmm, machine, now_ms + 5000);
    assert_int_equal(machine->end, VMM_END_TUNNEL_LOST);
    assert_string_equal(told_detail, "the consumer was silent too long");
}

/* Print on the machine's console. */
static void print(const char *text)
{
    int far_fd;
    assert_int_equal(attachment_pair(SOCK_STREAM, &machine->console_fd, &far_fd, NULL), 0);
    assert_int_equal(write(far_fd, text, strlen(text)), strlen(text));
    close(far_fd);
    while (machine->console_fd >= 0)
        news_console(&vmm, machine);
}

static void only_an_online_installation_is_told_as_exposed_and_once(void **state)
{
    (void)state;
    snprintf(machine->image.image.ready_line, sizeof machine->image.image.ready_line, "guest: ready");
    machine->running_ms = clock_monotonic_ms() - 1500;
    print("guest: ready\n");
    assert_int_equal(told[VMM_EVENT_EXPOSED], 0);
    machine->spec->boot_isolation = VMM_BOOT_ONLINE_INSTALL;
    print("guest: rea");
    assert_int_equal(told[VMM_EVENT_EXPOSED], 0);
    print("dy\r\n");
    assert_int_equal(told[VMM_EVENT_EXPOSED], 1);
    assert_in_range(told_exposed_ms, 1500, 60000);
    print("[12.3] guest: ready\n");
    assert_int_equal(told[VMM_EVENT_EXPOSED], 1);
}

static void guest_reports_are_told_a_few_at_a_time_and_all_at_the_end(void **state)
{
    (void)state;
    char text[8192] = "";
    for (int at = 0; at < 20; at++)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "ROGUE-ATTEMPT: IN= OUT=eth0 SRC=192.168.64.2 DST=203.0.113.%d PROTO=ICMP TYPE=8\n", at);
    print(text);
    uint64_t now_ms = clock_monotonic_ms();
    lifecycle_tick(&vmm, machine, now_ms);
    assert_int_equal(told[VMM_EVENT_GUEST_REPORT], NEWS_GUEST_REPORTS_MAX);
    assert_true(lifecycle_next_ms(machine) <= now_ms);
    lifecycle_tick(&vmm, machine, now_ms);
    lifecycle_tick(&vmm, machine, now_ms);
    assert_int_equal(told[VMM_EVENT_GUEST_REPORT], 20);
    print(text);
    lifecycle_tick(&vmm, machine, now_ms);
    assert_int_equal(told[VMM_EVENT_GUEST_REPORT], 20);
    lifecycle_clear(&vmm, machine);
    assert_int_equal(told[VMM_EVENT_GUEST_REPORT], 40);
}

static void a_direct_machine_runs_when_qmp_answers_and_has_no_filter(void **state)
{
    (void)state;
    struct nat_stats stats;
    machine->spec->direct = true;
    machine->state = MACHINE_STARTING;
    machine->told_running = false;
    machine->qmp.state = QMP_READY;
    lifecycle_ready(&vmm, machine);
    assert_int_equal(told[VMM_EVENT_RUNNING], 1);
    assert_int_equal(told[VMM_EVENT_POLICY], 0);
    assert_false(machine->policy_posted);
    struct machine *machines[] = {machine};
    vmm.machines = machines;
    vmm.machine_count = 1;
    assert_int_equal(vmm_read_stats(&vmm, &machine->spec->id, &stats), -ENOENT);
    machine->spec->direct = false;
    assert_int_equal(vmm_read_stats(&vmm, &machine->spec->id, &stats), 0);
    vmm.machine_count = 0;
}

#ifndef OMERTAD_PORTABLE /* which has no direct mode */
static void a_namespace_that_is_not_made_ends_the_start(void **state)
{
    (void)state;
    int far_fd;
    machine->spec->direct = true;
    machine->state = MACHINE_STARTING;
    machine->told_running = false;
    assert_int_equal(attachment_pair(SOCK_SEQPACKET, &machine->direct.line_fd, &far_fd, NULL), 0);
    news_line(&vmm, machine);
    assert_int_equal(machine->gone_by_ms, 0); /* nothing was said */
    close(far_fd);
    news_line(&vmm, machine);
    assert_int_equal(machine->direct.line_fd, -1);
    assert_true(machine->gone_by_ms > 0);
    lifecycle_tick(&vmm, machine, machine->gone_by_ms);
    assert_int_equal(machine->end, VMM_END_START_FAILED);
    assert_string_equal(told_detail, "the machine's namespace could not be made");
    machine->spec->direct = false; /* what runs here is no guard */
    machine_kill(machine);
    await_exit();
}
#endif

static void the_first_cause_wins(void **state)
{
    (void)state;
    lifecycle_stop(&vmm, machine, VMM_END_ASKED);
    send_report(&(struct nat_report){.kind = NAT_REPORT_FAILED, .error_code = -EIO, .text = "late"});
    lifecycle_stop(&vmm, machine, VMM_END_SHUTDOWN);
    await_exit();
    assert_int_equal(machine->end, VMM_END_ASKED);
    assert_int_equal(told[VMM_EVENT_STOPPING], 1);
}

static void a_report_is_told_when_it_was_made(void **state)
{
    (void)state;
    uint64_t before_ms = clock_wall_ms();
    send_report(&(struct nat_report){
        .kind = NAT_REPORT_TUNNEL, .at_ms = clock_monotonic_ms() - 5000, .tunnel = NAT_TUNNEL_ESTABLISHED});
    assert_int_equal(told[VMM_EVENT_TUNNEL], 1);
    assert_in_range(told_at_ms, before_ms - 5100, before_ms - 4000);
}

static void a_machine_runs_only_with_the_newest_policy(void **state)
{
    (void)state;
    machine->state = MACHINE_STARTING;
    machine->told_running = false;
    machine->qmp.state = QMP_READY;
    send_report(&(struct nat_report){.kind = NAT_REPORT_POLICY, .generation = 2});
    assert_int_equal(told[VMM_EVENT_POLICY], 1);
    assert_int_equal(told[VMM_EVENT_RUNNING], 0);
    send_report(&(struct nat_report){.kind = NAT_REPORT_POLICY, .generation = 3});
    assert_int_equal(told[VMM_EVENT_RUNNING], 1);
    assert_int_equal(machine->state, MACHINE_RUNNING);
}

static void timers_that_do_not_run_are_no_time(void **state)
{
    (void)state;
    assert_true(lifecycle_next_ms(machine) == UINT64_MAX);
    machine->start_by_ms = 70;
    machine->gone_by_ms = 90;
    assert_int_equal(lifecycle_next_ms(machine), 70);
    lifecycle_tick(&vmm, machine, 69);
    assert_int_equal(machine->state, MACHINE_RUNNING);
    lifecycle_tick(&vmm, machine, 70);
    assert_int_equal(machine->end, VMM_END_START_TIMEOUT);
    assert_int_equal(machine->step, MACHINE_STEP_KILL); /* there is no QMP to ask on */
}

#define WITH_MACHINE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_MACHINE(a_filter_that_fails_kills_the_machine_at_once),
#ifndef OMERTAD_PORTABLE
        WITH_MACHINE(a_filter_that_is_gone_without_a_word_has_failed),
#endif
        WITH_MACHINE(a_terminating_violation_kills_before_anything_is_told),
        WITH_MACHINE(a_machine_is_killed_while_an_event_of_another_is_told),
        WITH_MACHINE(a_violation_in_the_inbox_outranks_a_later_cause),
        WITH_MACHINE(more_reports_than_the_inbox_holds_are_all_told_in_order),
        WITH_MACHINE(a_tunnel_that_was_up_is_lost_after_its_silence),
        WITH_MACHINE(only_an_online_installation_is_told_as_exposed_and_once),
        WITH_MACHINE(guest_reports_are_told_a_few_at_a_time_and_all_at_the_end),
        WITH_MACHINE(a_direct_machine_runs_when_qmp_answers_and_has_no_filter),
#ifndef OMERTAD_PORTABLE
        WITH_MACHINE(a_namespace_that_is_not_made_ends_the_start),
#endif
        WITH_MACHINE(the_first_cause_wins),
        WITH_MACHINE(a_report_is_told_when_it_was_made),
        WITH_MACHINE(a_machine_runs_only_with_the_newest_policy),
        WITH_MACHINE(timers_that_do_not_run_are_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

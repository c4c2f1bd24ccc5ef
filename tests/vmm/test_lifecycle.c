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

static struct vmm vmm;
static struct machine *machine;
static int reports; /* the NAT's end */
static int told[VMM_EVENT_NOTICE + 1];
static uint64_t told_at_ms;
static char told_detail[VMM_DETAIL_BYTES];

static void on_event(void *context, const struct vmm_event *event)
{
    (void)context;
    told[event->kind]++;
    told_at_ms = event->at_ms;
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
    vmm.config.on_event = on_event;
    vmm.config.powerdown_ms = 1000;
    pthread_mutex_init(&vmm.lock, NULL);
    spec.id = id_new();
    spec.policy_generation = 3;
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
    assert_int_equal(send(reports, report, sizeof *report, 0), sizeof *report);
    lifecycle_report(&vmm, machine);
}

static void await_exit(void)
{
    for (int waited = 0; machine->state != MACHINE_FINISHED; waited += CHILD_TICK_MS) {
        assert_true(waited < 10000);
        struct pollfd fd = {.fd = machine->child.pidfd, .events = POLLIN};
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
    lifecycle_report(&vmm, machine);
    assert_int_equal(machine->end, VMM_END_FILTER_FAILED);
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
    machine->spec->deadline_ms = 70;
    machine->start_by_ms = 90;
    assert_int_equal(lifecycle_next_ms(machine), 70);
    lifecycle_tick(&vmm, machine, 69);
    assert_int_equal(machine->state, MACHINE_RUNNING);
    lifecycle_tick(&vmm, machine, 70);
    assert_int_equal(machine->end, VMM_END_DEADLINE);
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
        WITH_MACHINE(the_first_cause_wins),
        WITH_MACHINE(a_report_is_told_when_it_was_made),
        WITH_MACHINE(a_machine_runs_only_with_the_newest_policy),
        WITH_MACHINE(timers_that_do_not_run_are_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Machines that outlive their daemon. Here both daemons are this process: one leaves, the next one adopts. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cmocka.h"
#include "tests/vmm/fake_qemu.h"
#include "tests/vmm/vmm_fixture.h"
#include "vmm/process.h"
#include "vmm/vmm.h"

static const char *program;
static struct vmm_fixture world;
static char boot_id[ID_TEXT_BYTES];

static int set_up(void **state)
{
    (void)state;
    fixture_init(&world, program);
    world.config.keep_machines = true;
    vmm_boot_id(boot_id);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_done(&world);
    return 0;
}

#define WHOLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

/* A machine as the store would know it. */
struct known {
    struct vmm_spec spec;
    struct vmm_adoption adoption;
};

static void run(const char *word, struct known *ret_known)
{
    struct error err = {0};
    fixture_spec(&world, word, &ret_known->spec);
    assert_int_equal(vmm_start(world.vmm, &ret_known->spec, &err), 0);
    struct fixture_event spawned = fixture_await(&world, &ret_known->spec.id, VMM_EVENT_SPAWNED);
    fixture_await(&world, &ret_known->spec.id, VMM_EVENT_RUNNING);
    ret_known->adoption = (struct vmm_adoption){.pid = spawned.event.pid,
                                                .start_ticks = spawned.event.pid_start_ticks,
                                                .boot_id = boot_id,
                                                .accelerator = "tcg",
                                                .guest_report_serial = VMM_GUEST_SERIAL_FIRST};
}

/* One daemon goes, another comes; what the first one told is forgotten. */
static void change_daemons(void)
{
    vmm_leave(world.vmm);
    world.vmm = NULL;
    world.count = 0;
    fixture_open(&world);
}

static void run_and_change(const char *word, struct known *ret_known)
{
    fixture_open(&world);
    run(word, ret_known);
    change_daemons();
}

#ifndef OMERTAD_PORTABLE

static void adopt(const struct known *known)
{
    struct error err = {0};
    if (vmm_adopt(world.vmm, &known->spec, &known->adoption, &err) != 0)
        fail_msg("%s", err.message);
}

static bool lives(const struct known *known)
{
    return process_runs((pid_t)known->adoption.pid, known->adoption.start_ticks);
}

/* The process is this one's child all the same, as an earlier daemon's would not be. */
static void bury(const struct known *known)
{
    assert_int_equal(waitpid((pid_t)known->adoption.pid, NULL, 0), known->adoption.pid);
}

static void put_to_death(const struct known *known)
{
    assert_int_equal(kill((pid_t)known->adoption.pid, SIGKILL), 0);
    bury(known);
}

static void a_machine_that_is_left_lives_on_and_can_be_adopted(void **state)
{
    (void)state;
    struct known known;
    run_and_change("obedient", &known);
    assert_true(lives(&known));
    assert_int_equal(fixture_count(&world, &known.spec.id, VMM_EVENT_ENDED), 0);
    adopt(&known);
    vmm_sweep(world.vmm); /* what is adopted keeps its folder */
    assert_int_equal(fixture_await(&world, &known.spec.id, VMM_EVENT_RUNNING).event.generation, 1);
    assert_int_equal(fixture_count(&world, &known.spec.id, VMM_EVENT_SPAWNED), 0);
    assert_true(lives(&known));
    uint8_t printed[64];
    for (int waited = 0; vmm_read_console(world.vmm, &known.spec.id, printed, sizeof printed, NULL) == 0; waited++) {
        assert_true(waited < FIXTURE_WAIT_MS);
        poll(NULL, 0, 1);
    }
    vmm_stop(world.vmm, &known.spec.id, VMM_END_ASKED);
    struct fixture_event ended = fixture_await_end(&world, &known.spec.id, VMM_END_ASKED);
    assert_int_equal(ended.event.exit_code, -1); /* nobody can know */
    assert_string_equal(ended.console, "fake guest, again\n");
    bury(&known);
}

static void an_adopted_machine_is_filtered_again_with_serials_of_its_own(void **state)
{
    (void)state;
    struct known known;
    fixture_open(&world);
    run("rogue-frame", &known);
    known.adoption.violation_serial = 40;
    change_daemons();
    fixture_act(&world); /* its frames go nowhere while there is no NAT */
    poll(NULL, 0, 100);
    assert_true(lives(&known));
    adopt(&known);
    struct fixture_event seen = fixture_await(&world, &known.spec.id, VMM_EVENT_VIOLATION);
    assert_int_equal(seen.violation.serial, 40);
    assert_int_equal(seen.violation.reason, NAT_REASON_DESTINATION_NOT_ALLOWED);
    vmm_stop(world.vmm, &known.spec.id, VMM_END_ASKED);
    fixture_await_end(&world, &known.spec.id, VMM_END_ASKED);
    bury(&known);
}

static void an_adopted_machine_is_terminated_for_a_violation(void **state)
{
    (void)state;
    struct known known;
    fixture_open(&world);
    run("rogue-frame", &known);
    known.spec.policy.terminate = true;
    change_daemons();
    adopt(&known);
    fixture_await(&world, &known.spec.id, VMM_EVENT_RUNNING);
    fixture_act(&world);
    struct fixture_event ended = fixture_await_end(&world, &known.spec.id, VMM_END_POLICY_VIOLATION);
    assert_true(ended.violation.terminated);
    bury(&known);
}

static void an_adopted_machine_can_be_left_and_adopted_again(void **state)
{
    (void)state;
    struct known known;
    run_and_change("obedient", &known);
    for (int times = 0; times < 3; times++) {
        adopt(&known);
        fixture_await(&world, &known.spec.id, VMM_EVENT_RUNNING);
        change_daemons();
        assert_true(lives(&known));
    }
    put_to_death(&known);
    vmm_sweep(world.vmm);
}

static void a_hypervisor_that_ended_meanwhile_is_not_adopted(void **state)
{
    (void)state;
    struct known known;
    struct error err = {0};
    run_and_change("obedient", &known);
    put_to_death(&known);
    assert_int_equal(vmm_adopt(world.vmm, &known.spec, &known.adoption, &err), -ESRCH);
    vmm_sweep(world.vmm);
}

static void a_process_with_another_identity_is_not_adopted(void **state)
{
    (void)state;
    struct known known;
    struct error err = {0};
    run_and_change("obedient", &known);
    struct vmm_adoption wrong = known.adoption;
    wrong.start_ticks++;
    assert_int_equal(vmm_adopt(world.vmm, &known.spec, &wrong, &err), -ESRCH);
    wrong = known.adoption;
    wrong.boot_id = "00000000-0000-0000-0000-000000000000";
    assert_int_equal(vmm_adopt(world.vmm, &known.spec, &wrong, &err), -ESRCH);
    assert_true(lives(&known));
    put_to_death(&known);
    vmm_sweep(world.vmm);
}

static void assert_recovery_fails(struct known *known, const char *why)
{
    adopt(known);
    struct fixture_event ended = fixture_await_end(&world, &known->spec.id, VMM_END_RECOVERY_FAILED);
    if (strstr(ended.detail, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", ended.detail, why);
    assert_int_equal(fixture_count(&world, &known->spec.id, VMM_EVENT_RUNNING), 0);
    assert_false(lives(known));
    bury(known);
}

static void a_hypervisor_that_calls_itself_otherwise_is_ended(void **state)
{
    (void)state;
    struct known known;
    run_and_change("other-name", &known);
    assert_recovery_fails(&known, "another machine's");
}

static void a_hypervisor_without_its_folder_is_ended(void **state)
{
    (void)state;
    struct known known;
    run_and_change("obedient", &known);
    vmm_sweep(world.vmm);
    assert_recovery_fails(&known, "folder");
}

static void a_control_channel_that_is_somebody_elses_is_not_trusted(void **state)
{
    (void)state;
    struct known one;
    struct known other;
    char name[96];
    char from[256];
    char to[256];
    fixture_open(&world);
    run("obedient", &one);
    run("also-obedient", &other);
    change_daemons();
    snprintf(name, sizeof name, "run/machines/%s/qmp.sock", other.spec.id.text);
    fixture_path(&world, name, from);
    snprintf(name, sizeof name, "run/machines/%s/qmp.sock", one.spec.id.text);
    fixture_path(&world, name, to);
    assert_int_equal(rename(from, to), 0);
    assert_recovery_fails(&one, "not the hypervisor's");
    put_to_death(&other);
    vmm_sweep(world.vmm);
}

static void a_hypervisor_that_does_not_answer_is_ended(void **state)
{
    (void)state;
    struct known known;
    fixture_open(&world);
    run("obedient", &known);
    world.config.start_timeout_ms = 200;
    assert_int_equal(kill((pid_t)known.adoption.pid, SIGSTOP), 0);
    change_daemons();
    assert_recovery_fails(&known, "in time");
}

static void a_machine_that_does_not_run_yet_is_ended_when_the_daemon_leaves(void **state)
{
    (void)state;
    world.forgets_processes = true;
    fixture_open(&world);
    struct id id = fixture_start(&world, "obedient");
    fixture_await(&world, &id, VMM_EVENT_SPAWNED);
    vmm_leave(world.vmm);
    world.vmm = NULL;
    assert_int_equal(fixture_await(&world, &id, VMM_EVENT_ENDED).event.end, VMM_END_SHUTDOWN);
}

static void closing_ends_machines_that_could_outlive_the_daemon(void **state)
{
    (void)state;
    struct known known;
    fixture_open(&world);
    run("obedient", &known);
    vmm_close(world.vmm);
    world.vmm = NULL;
    assert_false(lives(&known));
    assert_int_equal(fixture_await(&world, &known.spec.id, VMM_EVENT_ENDED).event.end, VMM_END_SHUTDOWN);
}

static void nothing_outlives_a_daemon_that_is_not_told_to_keep_machines(void **state)
{
    (void)state;
    struct known known;
    world.config.keep_machines = false;
    fixture_open(&world);
    run("obedient", &known);
    vmm_leave(world.vmm);
    world.vmm = NULL;
    assert_false(lives(&known));
    assert_int_equal(fixture_await(&world, &known.spec.id, VMM_EVENT_ENDED).event.end, VMM_END_SHUTDOWN);
}

static void a_hypervisor_that_ends_after_its_adoption_has_crashed(void **state)
{
    (void)state;
    struct known known;
    run_and_change("obedient", &known);
    adopt(&known);
    fixture_await(&world, &known.spec.id, VMM_EVENT_RUNNING);
    assert_int_equal(kill((pid_t)known.adoption.pid, SIGKILL), 0);
    struct fixture_event ended = fixture_await_end(&world, &known.spec.id, VMM_END_HYPERVISOR_CRASH);
    assert_int_equal(ended.event.signal, 0);
    bury(&known);
}

#else

/* A signal by number might meet another process, so it is not taken over; ending it is what is left. */
static void a_portable_build_adopts_none_and_ends_it_as_a_stray(void **state)
{
    (void)state;
    struct known known;
    struct error err = {0};
    run_and_change("obedient", &known);
    assert_int_equal(vmm_adopt(world.vmm, &known.spec, &known.adoption, &err), -ENOTSUP);
    assert_int_equal(vmm_reap_stray(known.adoption.pid, known.adoption.start_ticks, boot_id, &err), 1);
    assert_int_equal(waitpid((pid_t)known.adoption.pid, NULL, 0), known.adoption.pid);
    vmm_sweep(world.vmm);
}

#endif

int main(int argc, char **argv)
{
    program = argv[0];
    if (fake_qemu_is_meant(program))
        return fake_qemu_main(argc, argv);
    const struct CMUnitTest tests[] = {
#ifdef OMERTAD_PORTABLE
        WHOLE(a_portable_build_adopts_none_and_ends_it_as_a_stray),
#else
        WHOLE(a_machine_that_is_left_lives_on_and_can_be_adopted),
        WHOLE(an_adopted_machine_is_filtered_again_with_serials_of_its_own),
        WHOLE(an_adopted_machine_is_terminated_for_a_violation),
        WHOLE(an_adopted_machine_can_be_left_and_adopted_again),
        WHOLE(a_hypervisor_that_ended_meanwhile_is_not_adopted),
        WHOLE(a_process_with_another_identity_is_not_adopted),
        WHOLE(a_hypervisor_that_calls_itself_otherwise_is_ended),
        WHOLE(a_hypervisor_without_its_folder_is_ended),
        WHOLE(a_control_channel_that_is_somebody_elses_is_not_trusted),
        WHOLE(a_hypervisor_that_does_not_answer_is_ended),
        WHOLE(a_machine_that_does_not_run_yet_is_ended_when_the_daemon_leaves),
        WHOLE(closing_ends_machines_that_could_outlive_the_daemon),
        WHOLE(nothing_outlives_a_daemon_that_is_not_told_to_keep_machines),
        WHOLE(a_hypervisor_that_ends_after_its_adoption_has_crashed),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

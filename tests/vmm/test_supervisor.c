/* Whole machines through the public interface, with a hypervisor that misbehaves in every way that matters. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/cmocka.h"
#include "tests/vmm/whole.h"

/* Run a machine, let its hypervisor do @word, and see how it ends. */
static struct fixture_event run_to_end(const char *word, enum vmm_end end)
{
    fixture_open(&world);
    struct id id = fixture_run(&world, word);
    fixture_act(&world);
    return fixture_await_end(&world, &id, end);
}

static void a_machine_runs_in_order_and_powers_down_when_asked(void **state)
{
    (void)state;
    fixture_open(&world);
    struct id id = fixture_run(&world, "obedient");
    struct fixture_event prepared = fixture_await(&world, &id, VMM_EVENT_PREPARED);
    assert_string_equal(prepared.accelerator, "tcg");
    struct fixture_event spawned = fixture_await(&world, &id, VMM_EVENT_SPAWNED);
    assert_true(spawned.event.pid > 1);
    assert_true(spawned.event.pid_start_ticks > 0);
    assert_int_equal(fixture_await(&world, &id, VMM_EVENT_POLICY).event.generation, 1);
    assert_int_equal(fixture_await(&world, &id, VMM_EVENT_RUNNING).event.generation, 1);
    static const enum vmm_event_kind order[] = {VMM_EVENT_PREPARED, VMM_EVENT_SPAWNED, VMM_EVENT_POLICY,
                                                VMM_EVENT_RUNNING};
    for (size_t at = 0; at < 4; at++)
        assert_int_equal(world.events[at].event.kind, order[at]);
    struct nat_stats stats;
    assert_int_equal(vmm_read_stats(world.vmm, &id, &stats), 0);
    assert_int_equal(stats.policy_generation, 1);
    assert_int_equal(vmm_stop(world.vmm, &id, VMM_END_ASKED), 0);
    struct fixture_event ended = fixture_await_end(&world, &id, VMM_END_ASKED);
    assert_int_equal(ended.event.exit_code, 0);
    assert_int_equal(ended.event.signal, 0);
    assert_string_equal(ended.console, "fake guest\n");
}

static void the_hypervisor_has_its_descriptors_and_nothing_else(void **state)
{
    (void)state;
    fixture_open(&world);
    setenv("OMERTAD_CANARY", "secret", 1);
    struct id id = fixture_run(&world, "show");
    unsetenv("OMERTAD_CANARY");
    vmm_stop(world.vmm, &id, VMM_END_ASKED);
    struct fixture_event ended = fixture_await_end(&world, &id, VMM_END_ASKED);
    assert_non_null(strstr(ended.console, "fds: 0 1 2 3 4 5 6 7 8 9\n"));
    assert_non_null(strstr(ended.console, "environment: PATH=/usr/bin:/bin LANG=C\n"));
}

static void the_console_can_be_read_while_the_machine_runs(void **state)
{
    (void)state;
    fixture_open(&world);
    struct id id = fixture_run(&world, "flood-console");
    fixture_act(&world);
    static uint8_t bytes[VMM_CONSOLE_BYTES];
    uint64_t offset = 0;
    uint64_t limit = clock_monotonic_ms() + FIXTURE_WAIT_MS;
    const uint64_t printed = 300000 + strlen("fake guest\nthe end");
    int64_t length;
    do {
        length = vmm_read_console(world.vmm, &id, bytes, sizeof bytes, &offset);
        assert_true(length >= 0);
    } while (offset + (uint64_t)length < printed && clock_monotonic_ms() < limit);
    assert_int_equal(length, sizeof bytes);
    assert_int_equal(offset, printed - sizeof bytes);
    assert_memory_equal(bytes + sizeof bytes - 8, "xthe end", 8);
    vmm_stop(world.vmm, &id, VMM_END_ASKED);
    assert_int_equal(fixture_await_end(&world, &id, VMM_END_ASKED).event.console_bytes, VMM_CONSOLE_BYTES);
}

static void a_violation_is_passed_up_with_wall_time(void **state)
{
    (void)state;
    fixture_open(&world);
    uint64_t before_ms = clock_wall_ms();
    struct id id = fixture_run(&world, "vlan-frame");
    fixture_act(&world);
    struct fixture_event violation = fixture_await(&world, &id, VMM_EVENT_VIOLATION);
    assert_int_equal(violation.violation.reason, NAT_REASON_VLAN);
    assert_in_range(violation.event.at_ms, before_ms - 1000, clock_wall_ms() + 1000);
    vmm_stop(world.vmm, &id, VMM_END_ASKED);
    fixture_await_end(&world, &id, VMM_END_ASKED);
}

static void a_guest_that_powers_off_ends_its_machine(void **state)
{
    (void)state;
    assert_int_equal(run_to_end("guest-shutdown", VMM_END_GUEST_SHUTDOWN).event.exit_code, 0);
}

static void a_guest_that_resets_has_crashed(void **state)
{
    (void)state;
    assert_string_equal(run_to_end("guest-reset", VMM_END_GUEST_CRASH).detail, "the guest shut down: guest-reset");
}

static void a_guest_that_panics_has_crashed(void **state)
{
    (void)state;
    assert_string_equal(run_to_end("guest-panic", VMM_END_GUEST_CRASH).detail, "the guest's kernel panicked");
}

static void a_hypervisor_that_aborts_is_told_with_its_signal(void **state)
{
    (void)state;
    struct fixture_event ended = run_to_end("crash", VMM_END_HYPERVISOR_CRASH);
    assert_int_equal(ended.event.signal, SIGABRT);
    assert_int_equal(ended.event.exit_code, -1);
    assert_string_equal(ended.detail, "the hypervisor was ended by signal 6");
}

static void a_hypervisor_that_exits_is_told_with_its_last_words_escaped(void **state)
{
    (void)state;
    struct fixture_event ended = run_to_end("exit", VMM_END_HYPERVISOR_CRASH);
    assert_int_equal(ended.event.exit_code, 3);
    assert_string_equal(ended.detail, "the hypervisor exited with code 3: fake: \\x22lost\\x22 its \\x1b[31mway");
}

static void a_hypervisor_ended_by_a_stranger_has_crashed(void **state)
{
    (void)state;
    assert_string_equal(run_to_end("host-signal", VMM_END_HYPERVISOR_CRASH).detail,
                        "the hypervisor shut down: host-signal");
}

static void virtual_cpus_that_stop_by_themselves_are_a_crash(void **state)
{
    (void)state;
    assert_string_equal(run_to_end("internal-error", VMM_END_HYPERVISOR_CRASH).detail,
                        "the virtual CPUs stopped: internal-error");
}

static void a_hypervisor_that_floods_qmp_is_killed(void **state)
{
    (void)state;
    struct fixture_event ended = run_to_end("flood-qmp", VMM_END_HYPERVISOR_CRASH);
    assert_string_equal(ended.detail, "the hypervisor broke QMP: too many lines in a second");
}

static void a_hypervisor_that_sends_an_endless_line_is_killed(void **state)
{
    (void)state;
    assert_string_equal(run_to_end("long-line", VMM_END_HYPERVISOR_CRASH).detail,
                        "the hypervisor broke QMP: too long a line");
}

static void a_hypervisor_that_sends_garbage_is_killed(void **state)
{
    (void)state;
    struct fixture_event ended = run_to_end("garbage", VMM_END_HYPERVISOR_CRASH);
    assert_string_equal(ended.detail, "the hypervisor broke QMP: not a JSON object");
    assert_int_equal(ended.event.signal, SIGKILL);
}

static void a_hypervisor_that_closes_qmp_and_lives_on_is_killed(void **state)
{
    (void)state;
    struct fixture_event ended = run_to_end("close-qmp", VMM_END_HYPERVISOR_CRASH);
    assert_string_equal(ended.detail, "the hypervisor closed QMP");
    assert_int_equal(ended.event.signal, SIGKILL);
}

static void a_guest_that_ignores_powerdown_is_quit(void **state)
{
    (void)state;
    world.config.powerdown_ms = 50;
    fixture_open(&world);
    struct id id = fixture_run(&world, "ignore-powerdown");
    vmm_stop(world.vmm, &id, VMM_END_ASKED);
    assert_int_equal(fixture_await_end(&world, &id, VMM_END_ASKED).event.exit_code, 0);
}

static void a_frozen_or_deaf_hypervisor_is_killed_at_last(void **state)
{
    (void)state;
    world.config.powerdown_ms = 50;
    fixture_open(&world);
    struct id deaf = fixture_run(&world, "ignore-all");
    struct id frozen = fixture_run(&world, "freeze");
    fixture_act(&world);
    vmm_stop(world.vmm, &deaf, VMM_END_ASKED);
    vmm_stop(world.vmm, &frozen, VMM_END_ASKED);
    assert_int_equal(fixture_await_end(&world, &deaf, VMM_END_ASKED).event.signal, SIGKILL);
    fixture_await_end(&world, &frozen, VMM_END_ASKED); /* it may have obeyed before it froze */
}

static void a_stop_tells_the_cause_that_was_given_first(void **state)
{
    (void)state;
    const enum vmm_end ends[] = {VMM_END_DEADLINE, VMM_END_HEARTBEAT_LOST};
    fixture_open(&world);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        struct id id = fixture_start(&world, "obedient");
        vmm_stop(world.vmm, &id, ends[i]);
        vmm_stop(world.vmm, &id, VMM_END_ASKED);
        fixture_await_end(&world, &id, ends[i]);
    }
}

static void a_stop_right_after_the_start_works_at_any_instant(void **state)
{
    (void)state;
    fixture_open(&world);
    for (int delay = 0; delay < 12; delay++) {
        struct id id = fixture_start(&world, "obedient");
        usleep((useconds_t)(delay * delay * 250));
        vmm_stop(world.vmm, &id, VMM_END_ASKED);
        vmm_stop(world.vmm, &id, VMM_END_ASKED);
        fixture_await_end(&world, &id, VMM_END_ASKED);
    }
}

static void machines_do_not_disturb_each_other(void **state)
{
    (void)state;
    enum { MACHINES = 8 };
    struct id ids[MACHINES];
    fixture_open(&world);
    for (size_t at = 0; at < MACHINES; at++)
        ids[at] = fixture_start(&world, at % 2 == 0 ? "obedient" : "crash");
    for (size_t at = 0; at < MACHINES; at++)
        fixture_await(&world, &ids[at], VMM_EVENT_RUNNING);
    fixture_act(&world);
    for (size_t at = 1; at < MACHINES; at += 2)
        fixture_await_end(&world, &ids[at], VMM_END_HYPERVISOR_CRASH);
    for (size_t at = 0; at < MACHINES; at += 2) {
        assert_int_equal(fixture_count(&world, &ids[at], VMM_EVENT_STOPPING), 0);
        vmm_stop(world.vmm, &ids[at], VMM_END_ASKED);
        fixture_await_end(&world, &ids[at], VMM_END_ASKED);
    }
}

static void closing_ends_all_that_is_there(void **state)
{
    (void)state;
    fixture_open(&world);
    struct id running = fixture_run(&world, "obedient");
    struct id starting = fixture_start(&world, "mute");
    struct id waiting = fixture_start(&world, "obedient");
    vmm_close(world.vmm);
    world.vmm = NULL;
    const struct id *const all[] = {&running, &starting, &waiting};
    for (size_t at = 0; at < 3; at++)
        assert_int_equal(fixture_await(&world, all[at], VMM_EVENT_ENDED).event.end, VMM_END_SHUTDOWN);
}

static void opening_says_what_is_missing(void **state)
{
    (void)state;
    struct error err = {0};
    world.config.program = "no-such-hypervisor";
    assert_int_equal(vmm_open(&world.config, &world.vmm, &err), -ENOENT);
    assert_string_equal(err.message, "no-such-hypervisor: no such program; install it: apt install qemu-system-x86");
    world.config.program = world.qemu;
    assert_int_equal(mkdir(world.config.runtime_dir, 0700), 0);
    assert_int_equal(chmod(world.config.runtime_dir, 0755), 0);
    assert_int_equal(vmm_open(&world.config, &world.vmm, &err), -EPERM);
    assert_non_null(strstr(err.message, "mode 0700"));
}

static void sweeping_clears_stale_folders_and_opening_keeps_a_second_daemon_out(void **state)
{
    (void)state;
    char path[256];
    struct error err = {0};
    struct vmm *second = NULL;
    char disk[256];
    fixture_open(&world);
    vmm_close(world.vmm);
    static const char *const disks[] = {"cache/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.disk",
                                        "cache/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.overlay", "cache/mine.disk"};
    for (size_t at = 0; at < sizeof disks / sizeof disks[0]; at++) {
        FILE *made = fopen(fixture_path(&world, disks[at], disk), "w");
        assert_non_null(made);
        fclose(made);
    }
    static const char stale[] = "run/machines/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    assert_int_equal(mkdir(fixture_path(&world, stale, path), 0700), 0);
    strcat(path, "/seed.iso");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    fixture_open(&world);
    vmm_sweep(world.vmm);
    assert_int_equal(access(path, F_OK), -1);
    for (size_t at = 0; at < sizeof disks / sizeof disks[0]; at++)
        assert_int_equal(access(fixture_path(&world, disks[at], disk), F_OK), at < 2 ? -1 : 0);
    assert_int_equal(vmm_open(&world.config, &second, &err), -EBUSY);
}

static void an_id_can_run_only_once(void **state)
{
    (void)state;
    struct vmm_spec spec;
    fixture_open(&world);
    fixture_spec(&world, "obedient", &spec);
    assert_int_equal(vmm_start(world.vmm, &spec, NULL), 0);
    assert_int_equal(vmm_start(world.vmm, &spec, NULL), -EEXIST);
    struct id unknown = id_new();
    assert_int_equal(vmm_stop(world.vmm, &unknown, VMM_END_ASKED), -ENOENT);
}

int main(int argc, char **argv)
{
    if (fake_qemu_is_meant(argv[0]))
        return fake_qemu_main(argc, argv);
    program = argv[0];
    const struct CMUnitTest tests[] = {
        WHOLE(a_machine_runs_in_order_and_powers_down_when_asked),
        WHOLE(the_hypervisor_has_its_descriptors_and_nothing_else),
        WHOLE(the_console_can_be_read_while_the_machine_runs),
        WHOLE(a_violation_is_passed_up_with_wall_time),
        WHOLE(a_guest_that_powers_off_ends_its_machine),
        WHOLE(a_guest_that_resets_has_crashed),
        WHOLE(a_guest_that_panics_has_crashed),
        WHOLE(a_hypervisor_that_aborts_is_told_with_its_signal),
        WHOLE(a_hypervisor_that_exits_is_told_with_its_last_words_escaped),
        WHOLE(a_hypervisor_ended_by_a_stranger_has_crashed),
        WHOLE(virtual_cpus_that_stop_by_themselves_are_a_crash),
        WHOLE(a_hypervisor_that_floods_qmp_is_killed),
        WHOLE(a_hypervisor_that_sends_an_endless_line_is_killed),
        WHOLE(a_hypervisor_that_sends_garbage_is_killed),
        WHOLE(a_hypervisor_that_closes_qmp_and_lives_on_is_killed),
        WHOLE(a_guest_that_ignores_powerdown_is_quit),
        WHOLE(a_frozen_or_deaf_hypervisor_is_killed_at_last),
        WHOLE(a_stop_tells_the_cause_that_was_given_first),
        WHOLE(a_stop_right_after_the_start_works_at_any_instant),
        WHOLE(machines_do_not_disturb_each_other),
        WHOLE(closing_ends_all_that_is_there),
        WHOLE(opening_says_what_is_missing),
        WHOLE(sweeping_clears_stale_folders_and_opening_keeps_a_second_daemon_out),
        WHOLE(an_id_can_run_only_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

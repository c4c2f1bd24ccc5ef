/* How machines start, and how they do not. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/cmocka.h"
#include "tests/vmm/whole.h"

static void a_hypervisor_that_exits_before_qmp_did_not_start(void **state)
{
    (void)state;
    fixture_open(&world);
    struct id id = fixture_start(&world, "exit-at-once");
    struct fixture_event ended = fixture_await_end(&world, &id, VMM_END_START_FAILED);
    assert_int_equal(ended.event.exit_code, 1);
    assert_string_equal(ended.detail, "the hypervisor exited with code 1: fake: no such machine");
    assert_int_equal(fixture_count(&world, &id, VMM_EVENT_RUNNING), 0);
}

static void a_hypervisor_that_never_answers_times_out(void **state)
{
    (void)state;
    world.config.start_timeout_ms = 100;
    fixture_open(&world);
    struct id id = fixture_start(&world, "mute");
    assert_int_equal(fixture_await_end(&world, &id, VMM_END_START_TIMEOUT).event.signal, SIGKILL);
}

static void nothing_of_a_hypervisor_runs_before_its_process_is_written_down(void **state)
{
    (void)state;
    world.forgets_processes = true;
    fixture_open(&world);
    struct id id = fixture_start(&world, "nothing");
    int64_t pid = fixture_await(&world, &id, VMM_EVENT_SPAWNED).event.pid;
    vmm_spawn_noted(world.vmm, &id, pid + 1); /* another process is not meant */
    poll(NULL, 0, 100);
    assert_int_equal(vmm_read_console(world.vmm, &id, (uint8_t[1]){0}, 1, NULL), 0);
    assert_int_equal(fixture_count(&world, &id, VMM_EVENT_RUNNING), 0);
    vmm_spawn_noted(world.vmm, &id, pid);
    fixture_await(&world, &id, VMM_EVENT_RUNNING);
    vmm_spawn_noted(world.vmm, &id, pid); /* a second time it means nothing */
    vmm_stop(world.vmm, &id, VMM_END_ASKED);
    fixture_await_end(&world, &id, VMM_END_ASKED);
}

static void a_hypervisor_that_does_not_get_to_run_keeps_nobody_else(void **state)
{
    (void)state;
    world.forgets_processes = true;
    fixture_open(&world);
    struct id slow = fixture_start(&world, "obedient");
    int64_t pid = fixture_await(&world, &slow, VMM_EVENT_SPAWNED).event.pid;
    assert_int_equal(kill((pid_t)pid, SIGSTOP), 0);
    vmm_spawn_noted(world.vmm, &slow, pid);
    struct id other = fixture_start(&world, "obedient");
    vmm_spawn_noted(world.vmm, &other, fixture_await(&world, &other, VMM_EVENT_SPAWNED).event.pid);
    fixture_await(&world, &other, VMM_EVENT_RUNNING);
    assert_int_equal(fixture_count(&world, &slow, VMM_EVENT_RUNNING), 0);
    vmm_stop(world.vmm, &slow, VMM_END_ASKED);
    fixture_await_end(&world, &slow, VMM_END_ASKED);
}

static void a_hypervisor_that_cannot_be_written_down_never_runs(void **state)
{
    (void)state;
    world.forgets_processes = true;
    world.config.start_timeout_ms = 100;
    fixture_open(&world);
    struct id id = fixture_start(&world, "nothing");
    struct fixture_event ended = fixture_await_end(&world, &id, VMM_END_START_TIMEOUT);
    assert_string_equal(ended.console, "");
}

static void an_image_that_is_not_there_is_rejected(void **state)
{
    (void)state;
    struct vmm_spec spec;
    fixture_open(&world);
    fixture_spec(&world, "obedient", &spec);
    snprintf(spec.image, sizeof spec.image, "nowhere");
    assert_int_equal(vmm_start(world.vmm, &spec, NULL), 0);
    fixture_await_end(&world, &spec.id, VMM_END_IMAGE_REJECTED);
    assert_int_equal(fixture_count(&world, &spec.id, VMM_EVENT_PREPARED), 0);
}

static void an_image_that_was_changed_is_rejected(void **state)
{
    (void)state;
    struct vmm_spec spec;
    char path[256];
    fixture_open(&world);
    fixture_spec(&world, "obedient", &spec);
    assert_int_equal(truncate(fixture_path(&world, "images/obedient/kernel", path), 3), 0);
    assert_int_equal(vmm_start(world.vmm, &spec, NULL), 0);
    fixture_await_end(&world, &spec.id, VMM_END_IMAGE_REJECTED);
}

static void a_policy_that_cannot_be_enforced_ends_the_machine(void **state)
{
    (void)state;
    struct vmm_spec spec;
    fixture_open(&world);
    fixture_spec(&world, "obedient", &spec);
    spec.tunnel.consumer.ip = 0x7F000001; /* loopback is never allowed */
    assert_int_equal(vmm_start(world.vmm, &spec, NULL), 0);
    fixture_await_end(&world, &spec.id, VMM_END_FILTER_FAILED);
    assert_int_equal(fixture_count(&world, &spec.id, VMM_EVENT_RUNNING), 0);
}

static void a_silent_kvm_is_replaced_by_tcg(void **state)
{
    (void)state;
    world.config.kvm_device = "/dev/null"; /* the fake answers the trial, so kvm it is */
    world.config.boot_watchdog_ms = 100;
    fixture_open(&world);
    struct id id = fixture_start(&world, "silent-kvm");
    fixture_await(&world, &id, VMM_EVENT_NOTICE);
    assert_string_equal(fixture_await(&world, &id, VMM_EVENT_PREPARED).accelerator, "kvm");
    uint64_t limit = clock_monotonic_ms() + FIXTURE_WAIT_MS;
    uint8_t console[32];
    while (vmm_read_console(world.vmm, &id, console, sizeof console, NULL) != 11 && clock_monotonic_ms() < limit)
        usleep(2000);
    assert_int_equal(fixture_count(&world, &id, VMM_EVENT_SPAWNED), 2);
    fixture_await(&world, &id, VMM_EVENT_RUNNING);
    assert_int_equal(fixture_count(&world, &id, VMM_EVENT_RUNNING), 1);
    struct vmm_accel accel;
    vmm_read_accel(world.vmm, &accel);
    assert_string_equal(accel.name, "tcg");
    assert_int_equal(vmm_probe_accel(&world.config, false, &accel, NULL), 0);
    assert_string_equal(accel.name, "tcg"); /* and so for the next daemon */
    vmm_stop(world.vmm, &id, VMM_END_ASKED);
    fixture_await_end(&world, &id, VMM_END_ASKED);
    assert_int_equal(fixture_count(&world, &id, VMM_EVENT_NOTICE), 1);
}

static void a_kvm_guest_that_shows_life_keeps_kvm(void **state)
{
    (void)state;
    world.config.kvm_device = "/dev/null";
    world.config.boot_watchdog_ms = 2500;
    fixture_open(&world);
    struct id prints = fixture_run(&world, "obedient");
    struct id sends = fixture_run(&world, "frame-kvm");
    usleep(2700 * 1000);
    assert_int_equal(fixture_count(&world, &prints, VMM_EVENT_NOTICE), 0);
    assert_int_equal(fixture_count(&world, &sends, VMM_EVENT_NOTICE), 0);
    assert_string_equal(fixture_await(&world, &prints, VMM_EVENT_SPAWNED).accelerator, "kvm");
}

int main(int argc, char **argv)
{
    if (fake_qemu_is_meant(argv[0]))
        return fake_qemu_main(argc, argv);
    program = argv[0];
    const struct CMUnitTest tests[] = {
        WHOLE(a_hypervisor_that_exits_before_qmp_did_not_start),
        WHOLE(a_hypervisor_that_never_answers_times_out),
        WHOLE(nothing_of_a_hypervisor_runs_before_its_process_is_written_down),
        WHOLE(a_hypervisor_that_does_not_get_to_run_keeps_nobody_else),
        WHOLE(a_hypervisor_that_cannot_be_written_down_never_runs),
        WHOLE(an_image_that_is_not_there_is_rejected),
        WHOLE(an_image_that_was_changed_is_rejected),
        WHOLE(a_policy_that_cannot_be_enforced_ends_the_machine),
        WHOLE(a_silent_kvm_is_replaced_by_tcg),
        WHOLE(a_kvm_guest_that_shows_life_keeps_kvm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

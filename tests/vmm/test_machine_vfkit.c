/* Whole machines whose hypervisor is a stand-in for vfkit: it checks its arguments as vfkit does, and answers as it does. */
#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"
#include "tests/vmm/fake_vfkit.h"
#include "tests/vmm/vmm_fixture.h"
#include "vmm/file_copy.h"
#include "vmm/overlay.h"

static struct vmm_fixture world;
static const char *program;

static int set_up(void **state)
{
    (void)state;
    static char vfkit[256];
    fixture_init(&world, program);
    char *self = realpath(program, NULL);
    assert_int_equal(symlink(self, fixture_path(&world, "fake_vfkit", vfkit)), 0);
    free(self);
    world.config.hypervisor = VMM_HYPERVISOR_VFKIT;
    world.config.program = vfkit;
    world.config.keep_machines = true;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_done(&world);
    return 0;
}

static bool is_there(const char *before, const struct id *id, const char *after)
{
    char name[128];
    char path[256];
    snprintf(name, sizeof name, "%s%s%s", before, id->text, after);
    return access(fixture_path(&world, name, path), F_OK) == 0;
}

static void assert_no_disks(const struct id *id)
{
    assert_false(is_there("cache/", id, ".disk"));
    assert_false(is_there("cache/", id, ".overlay"));
    assert_false(is_there("run/machines/", id, ""));
}

static void a_machine_runs_is_asked_to_stop_and_leaves_nothing(void **state)
{
    (void)state;
    struct vmm_accel accel;
    fixture_open(&world);
    struct id id = fixture_run(&world, "obedient");
    struct fixture_event spawned = fixture_await(&world, &id, VMM_EVENT_SPAWNED);
    assert_string_equal(spawned.accelerator, "vz");
    assert_true(spawned.event.pid > 1);
    assert_true(is_there("run/machines/", &id, "/seed.iso"));
    assert_true(is_there("run/machines/", &id, "/kernel"));
    assert_true(is_there("cache/", &id, ".disk"));
    vmm_read_accel(world.vmm, &accel);
    assert_true(accel.known);
    assert_string_equal(accel.name, "vz");
    assert_int_equal(vmm_stop(world.vmm, &id, VMM_END_ASKED), 0);
    struct fixture_event end = fixture_await_end(&world, &id, VMM_END_ASKED);
    assert_int_equal(end.event.exit_code, 0);
    assert_non_null(strstr(end.console, "fake guest\ncpus 1 memory 128 disks 2\n"));
    assert_non_null(strstr(end.console, " CIDATA\n"));
    assert_non_null(strstr(end.console, "disk 67108864 \n"));
    assert_non_null(strstr(end.console, "stop\n"));
    assert_null(strstr(end.console, "hard stop"));
    assert_no_disks(&id);
}

static void a_root_disk_is_a_copy_and_the_image_stays_as_it_is(void **state)
{
    (void)state;
    enum { BYTES = 3 * 1024 * 1024 };
    fixture_image_with_disk(&world, "obedient", BYTES);
    fixture_open(&world);
    struct id id = fixture_run(&world, "obedient");
    char name[96];
    char path[256];
    struct stat found;
    snprintf(name, sizeof name, "cache/%s.overlay", id.text);
    assert_int_equal(stat(fixture_path(&world, name, path), &found), 0);
    assert_int_equal(found.st_size, BYTES);
    assert_int_equal(found.st_mode & 0777, 0600);
    vmm_stop(world.vmm, &id, VMM_END_ASKED);
    struct fixture_event end = fixture_await_end(&world, &id, VMM_END_ASKED);
    assert_non_null(strstr(end.console, "disks 3\ndisk 3145728 \n"));
    assert_no_disks(&id);
}

/* An image whose disk is a sound qcow2 file: that of fixture_image_with_disk() with another disk in its manifest. */
static void make_thin_image(void)
{
    char path[256];
    char text[4096];
    char hex[65];
    unsigned char bytes[4 * OVERLAY_CLUSTER_BYTES];
    unsigned char digest[crypto_hash_sha256_BYTES];
    int fd SCOPED_FD = -1;
    fixture_image_with_disk(&world, "thin", 512);
    fixture_path(&world, "images/thin/disk.raw", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(overlay_make(path, 1024 * 1024, &fd, NULL), 0);
    assert_int_equal(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    assert_int_equal(file_copy(fd, path, 0600, NULL), 0);
    crypto_hash_sha256(digest, bytes, sizeof bytes);
    sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
    FILE *file = fopen(fixture_path(&world, "images/thin/manifest.json", path), "r+");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    char *disk = strstr(text, "\"disk\": {");
    const char *rest = strchr(disk, '}');
    rewind(file);
    *disk = '\0';
    fprintf(file, "%s\"disk\": {\"file\": \"disk.raw\", \"format\": \"qcow2\", \"sha256\": \"%s\", \"bytes\": %zu%s",
            text, hex, sizeof bytes, rest);
    assert_int_equal(fclose(file), 0);
}

static void a_thin_disk_is_refused(void **state)
{
    (void)state;
    make_thin_image();
    fixture_open(&world);
    struct id id = fixture_start(&world, "thin");
    struct fixture_event end = fixture_await_end(&world, &id, VMM_END_IMAGE_REJECTED);
    assert_string_equal(end.detail, "disk.raw is qcow2, and vfkit takes raw disks alone");
    assert_no_disks(&id);
}

static void who_does_not_stop_is_stopped_hard_and_then_killed(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        const char *console;
        int signal;
    } table[] = {{"ignore-stop", "stop\nhard stop\n", 0},
                 {"refuse-stop", "stop\nhard stop\n", 0},
                 {"ignore-all", "stop\nhard stop\n", SIGKILL}};
    world.config.powerdown_ms = 200;
    fixture_open(&world);
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        struct id id = fixture_run(&world, table[at].word);
        vmm_stop(world.vmm, &id, VMM_END_ASKED);
        struct fixture_event end = fixture_await_end(&world, &id, VMM_END_ASKED);
        assert_non_null(strstr(end.console, table[at].console));
        assert_int_equal(end.event.signal, table[at].signal);
        assert_no_disks(&id);
    }
}

static void each_end_has_its_cause(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        enum vmm_end end;
        const char *detail;
    } table[] = {
        {"guest-shutdown", VMM_END_GUEST_SHUTDOWN, "exited with code 0"},
        {"stop-and-stay", VMM_END_GUEST_SHUTDOWN, "the guest shut down"},
        {"crash", VMM_END_HYPERVISOR_CRASH, "ended by signal 6"},
        {"exit", VMM_END_HYPERVISOR_CRASH, "exited with code 1: Error: the machine: is lost"},
        {"pause", VMM_END_HYPERVISOR_CRASH, "the virtual CPUs stopped: Paused"},
        {"error", VMM_END_HYPERVISOR_CRASH, "the virtual CPUs stopped: Error"},
    };
    struct id ids[sizeof table / sizeof *table];
    fixture_open(&world);
    for (size_t at = 0; at < sizeof table / sizeof *table; at++)
        ids[at] = fixture_run(&world, table[at].word);
    fixture_act(&world);
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        struct fixture_event end = fixture_await_end(&world, &ids[at], table[at].end);
        assert_non_null(strstr(end.detail, table[at].detail));
        assert_no_disks(&ids[at]);
    }
}

static void what_does_not_start_says_why(void **state)
{
    (void)state;
    world.config.start_timeout_ms = 500;
    fixture_open(&world);
    struct id exits = fixture_start(&world, "exit-at-once");
    struct id mute = fixture_start(&world, "mute");
    struct id garbage = fixture_start(&world, "garbage");
    struct fixture_event end = fixture_await_end(&world, &exits, VMM_END_START_FAILED);
    assert_non_null(strstr(end.detail, "Error: no such machine: fake"));
    fixture_await_end(&world, &mute, VMM_END_START_TIMEOUT);
    fixture_await_end(&world, &garbage, VMM_END_START_TIMEOUT);
    assert_no_disks(&exits);
    assert_no_disks(&mute);
}

static void a_console_is_kept_to_its_newest_bytes_however_much_is_printed(void **state)
{
    (void)state;
    fixture_open(&world);
    struct id id = fixture_run(&world, "flood-console");
    fixture_act(&world);
    uint8_t bytes[8] = "";
    uint64_t offset;
    for (int looks = 0; looks < 500 && memcmp(bytes, "xthe end", 8) != 0; looks++) {
        usleep(20 * 1000);
        assert_true(vmm_read_console(world.vmm, &id, bytes, sizeof bytes, &offset) >= 0);
    }
    assert_memory_equal(bytes, "xthe end", 8);
    vmm_stop(world.vmm, &id, VMM_END_ASKED);
    fixture_await_end(&world, &id, VMM_END_ASKED);
}

static void a_machine_does_not_outlive_its_daemon(void **state)
{
    (void)state;
    fixture_open(&world);
    struct id id = fixture_run(&world, "obedient");
    vmm_leave(world.vmm);
    world.vmm = NULL;
    assert_int_equal(fixture_await(&world, &id, VMM_EVENT_ENDED).event.end, VMM_END_SHUTDOWN);
    assert_no_disks(&id);
}

static void direct_mode_is_refused(void **state)
{
    (void)state;
    struct vmm_spec spec;
    struct error err = {0};
    fixture_open(&world);
    fixture_spec(&world, "obedient", &spec);
    spec.direct = true;
    assert_int_equal(vmm_start(world.vmm, &spec, &err), -ENOTSUP);
    assert_string_equal(err.slug, "direct-unavailable");
}

static void opening_says_what_is_missing(void **state)
{
    (void)state;
    struct error err = {0};
    world.config.program = "no-such-hypervisor";
    assert_int_equal(vmm_open(&world.config, &world.vmm, &err), -ENOENT);
    assert_string_equal(err.message, "no-such-hypervisor: no such program; install it: brew install vfkit");
}

static void names_are_found_again(void **state)
{
    (void)state;
    enum vmm_hypervisor kind;
    assert_true(vmm_hypervisor_parse("vfkit", &kind));
    assert_int_equal(kind, VMM_HYPERVISOR_VFKIT);
    assert_true(vmm_hypervisor_parse(vmm_hypervisor_name(VMM_HYPERVISOR_QEMU), &kind));
    assert_int_equal(kind, VMM_HYPERVISOR_QEMU);
    assert_false(vmm_hypervisor_parse("", &kind));
    assert_false(vmm_hypervisor_parse("xen", &kind));
}

int main(int argc, char **argv)
{
    if (fake_vfkit_is_meant(argv[0]))
        return fake_vfkit_main(argc, argv);
    program = argv[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_machine_runs_is_asked_to_stop_and_leaves_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_root_disk_is_a_copy_and_the_image_stays_as_it_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_thin_disk_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_does_not_stop_is_stopped_hard_and_then_killed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(each_end_has_its_cause, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_does_not_start_says_why, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_console_is_kept_to_its_newest_bytes_however_much_is_printed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_machine_does_not_outlive_its_daemon, set_up, tear_down),
        cmocka_unit_test_setup_teardown(direct_mode_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(opening_says_what_is_missing, set_up, tear_down),
        cmocka_unit_test(names_are_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

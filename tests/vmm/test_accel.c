/* A healthy KVM is rarely at hand where tests run. So the ROM is shown to come through under tcg, which is the positive
 * control, and programs that stand for QEMU show that each way to end gives the right answer. */
#include "vmm/accel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "tests/cmocka.h"
#include "vmm/accel_rom.h"

#define QEMU "qemu-system-x86_64"
#define OPENS "/dev/null" /* a device that opens for reading and writing, as a broken /dev/kvm does */

/* A folder with a program in place of QEMU. */
struct fixture {
    char folder[64];
    char program[96];
    char cache[96];
};

static void put_program(const struct fixture *fixture, const char *body)
{
    FILE *file = fopen(fixture->program, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n%s\n", body);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(fixture->program, 0755), 0);
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/test_accel.XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->program, sizeof fixture->program, "%s/qemu", fixture->folder);
    snprintf(fixture->cache, sizeof fixture->cache, "%s/accelerator.json", fixture->folder);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", fixture->folder);
    assert_int_equal(system(command), 0);
    free(fixture);
    return 0;
}

static bool is_there(const char *program)
{
    char command[128];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", program);
    return system(command) == 0;
}

static void assert_accel(const struct vmm_accel *accel, const char *name, const char *cpu, const char *in_reason)
{
    assert_true(accel->known);
    assert_string_equal(accel->name, name);
    assert_string_equal(accel->cpu, cpu);
    if (strstr(accel->reason, in_reason) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", in_reason, accel->reason);
}

static void only_the_exit_code_of_the_rom_means_kvm(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *body;
        const char *name;
        const char *reason;
    } table[] = {
        {"exit 85", "kvm", "kvm took a trial guest through long mode in "},
        {"exit 0", "tcg", "kvm opened but QEMU ended with code 0"},
        {"exit 1", "tcg", "kvm opened but QEMU ended with code 1"},
        {"exit 84", "tcg", "code 84"},
        {"exit 86", "tcg", "code 86"},
        {"echo 'cannot set \"MSR\"' >&2; exit 3", "tcg", "code 3: cannot set"},
        {"kill -ABRT $$", "tcg", "kvm opened but QEMU ended with signal 6"},
    };
    assert_int_equal(ACCEL_ROM_EXIT_CODE, 85);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct vmm_accel accel = {0};
        struct error err = {0};
        put_program(fixture, table[i].body);
        assert_int_equal(accel_probe(fixture->program, OPENS, 5000, &accel, &err), 0);
        assert_accel(&accel, table[i].name, strcmp(table[i].name, "kvm") == 0 ? "host" : "max", table[i].reason);
    }
}

static void a_trial_that_hangs_is_killed_in_time(void **state)
{
    struct fixture *fixture = *state;
    struct vmm_accel accel = {0};
    struct error err = {0};
    char pid_file[128];
    char body[256];
    snprintf(pid_file, sizeof pid_file, "%s/pid", fixture->folder);
    snprintf(body, sizeof body, "echo $$ > %s; exec sleep 60", pid_file);
    put_program(fixture, body);
    uint64_t start_ms = clock_monotonic_ms();
    assert_int_equal(accel_probe(fixture->program, OPENS, 1200, &accel, &err), 0); /* time for a shell to begin */
    assert_in_range(clock_monotonic_ms() - start_ms, 1200, 30000);
    assert_accel(&accel, "tcg", "max", "kvm opened but a trial guest hung on its way through long mode for 1.");
    FILE *file = fopen(pid_file, "r");
    int pid = 0;
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &pid), 1);
    fclose(file);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* reaped */
    assert_int_equal(errno, ECHILD);
}

static void a_trial_that_floods_its_output_ends_too(void **state)
{
    struct fixture *fixture = *state;
    struct vmm_accel accel = {0};
    put_program(fixture, "exec yes 'a line of output'");
    assert_int_equal(accel_probe(fixture->program, OPENS, 300, &accel, NULL), 0);
    assert_accel(&accel, "tcg", "max", "hung");
}

static void the_trial_gets_the_cpu_that_is_planned_and_the_rom(void **state)
{
    struct fixture *fixture = *state;
    struct vmm_accel accel = {0};
    char body[512];
    snprintf(body, sizeof body, "printf '%%s\\n' \"$@\" > %s/args; cat /dev/fd/3 > %s/bios; exit 85", fixture->folder,
             fixture->folder);
    put_program(fixture, body);
    assert_int_equal(accel_probe(fixture->program, OPENS, 5000, &accel, NULL), 0);
    assert_string_equal(accel.name, "kvm");
    char path[128];
    char text[2048];
    snprintf(path, sizeof path, "%s/args", fixture->folder);
    FILE *file = fopen(path, "r");
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(text, "-machine\nq35,usb=off,vmport=off\n-accel\nkvm\n-cpu\nhost\n-smp\n1\n-m\n16\n"
                              "-no-user-config\n-nodefaults\n-no-reboot\n-display\nnone\n-sandbox\n"
                              "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny\n"
                              "-device\nisa-debug-exit,iobase=0xf4,iosize=4\n-bios\n/dev/fd/3\n");
    static uint8_t bios[65537];
    snprintf(path, sizeof path, "%s/bios", fixture->folder);
    file = fopen(path, "r");
    assert_int_equal(fread(bios, 1, sizeof bios, file), 65536);
    fclose(file);
    assert_int_equal(bios[0], 0xf4);
    assert_memory_equal(bios + 65536 - ACCEL_ROM_BYTES, accel_rom, ACCEL_ROM_BYTES);
}

static void a_device_that_does_not_open_means_tcg_and_says_why(void **state)
{
    struct fixture *fixture = *state;
    struct vmm_accel accel = {0};
    struct error err = {0};
    put_program(fixture, "exit 85");
    assert_int_equal(accel_probe(fixture->program, "/no/such/kvm", 1000, &accel, &err), 0);
    assert_accel(&accel, "tcg", "max", "/no/such/kvm: No such file or directory; load kvm_intel or kvm_amd");
    assert_int_equal(accel_find(fixture->program, "/no/such/kvm", fixture->folder, false, &accel, &err), 0);
    assert_accel(&accel, "tcg", "max", "/no/such/kvm: ");
    assert_int_equal(access(fixture->cache, F_OK), -1); /* asked again each time */
    if (geteuid() == 0)
        return; /* nothing is closed to root */
    char closed[128];
    snprintf(closed, sizeof closed, "%s/closed", fixture->folder);
    close(open(closed, O_WRONLY | O_CREAT, 0000));
    assert_int_equal(accel_probe(fixture->program, closed, 1000, &accel, &err), 0);
    assert_accel(&accel, "tcg", "max", "Permission denied; add this user to group kvm");
}

static void a_missing_qemu_is_an_error_that_says_what_to_install(void **state)
{
    (void)state;
    struct vmm_accel accel = {0};
    struct error err = {0};
    assert_int_equal(accel_probe("no-such-qemu", OPENS, 1000, &accel, &err), -ENOENT);
    assert_non_null(strstr(err.message, "apt install qemu-system-x86"));
    assert_int_equal(accel_find("no-such-qemu", OPENS, NULL, false, &accel, &err), -ENOENT);
    assert_false(accel.known);
}

static void a_finding_is_kept_until_it_is_asked_for_afresh(void **state)
{
    struct fixture *fixture = *state;
    struct vmm_accel accel = {0};
    struct error err = {0};
    struct stat found;
    char boot_id[ID_TEXT_BYTES];
    if (vmm_boot_id(boot_id)[0] == '\0')
        skip();
    /* The program counts how often it runs and stays the same file. */
    char body[192];
    char count[128];
    snprintf(count, sizeof count, "%s/count", fixture->folder);
    snprintf(body, sizeof body, "echo >> %s; exit 85", count);
    put_program(fixture, body);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(accel_find(fixture->program, OPENS, fixture->folder, i == 2, &accel, &err), 0);
        assert_accel(&accel, "kvm", "host", "kvm took a trial guest");
        assert_int_equal(stat(count, &found), 0);
        assert_int_equal(found.st_size, i == 2 ? 2 : 1);
    }
    assert_int_equal(stat(fixture->cache, &found), 0);
    assert_int_equal(found.st_mode & 07777, 0600);
    assert_int_equal(accel_find(fixture->program, OPENS, NULL, false, &accel, &err), 0);
    assert_int_equal(stat(count, &found), 0);
    assert_int_equal(found.st_size, 3);
}

static void a_remembered_finding_holds_for_this_qemu_and_this_device_only(void **state)
{
    struct fixture *fixture = *state;
    struct vmm_accel accel = {0};
    struct error err = {0};
    char boot_id[ID_TEXT_BYTES];
    if (vmm_boot_id(boot_id)[0] == '\0')
        skip();
    const struct vmm_accel silent = {
        .known = true, .name = "tcg", .cpu = "max", .reason = "kvm showed no sign of life for 10 s"};
    put_program(fixture, "exit 85");
    assert_int_equal(accel_remember(fixture->program, OPENS, fixture->folder, &silent, &err), 0);
    assert_int_equal(accel_find(fixture->program, OPENS, fixture->folder, false, &accel, &err), 0);
    assert_accel(&accel, "tcg", "max", "kvm showed no sign of life for 10 s");
    assert_int_equal(accel_find(fixture->program, "/dev/zero", fixture->folder, false, &accel, &err), 0);
    assert_string_equal(accel.name, "kvm");
    assert_int_equal(accel_remember(fixture->program, OPENS, fixture->folder, &silent, &err), 0);
    put_program(fixture, "exit 85 # another version");
    assert_int_equal(accel_find(fixture->program, OPENS, fixture->folder, false, &accel, &err), 0);
    assert_string_equal(accel.name, "kvm");
    assert_int_equal(accel_remember(fixture->program, OPENS, "/no/such/folder", &silent, &err), -ENOENT);
}

static void a_damaged_cache_is_ignored_and_replaced(void **state)
{
    struct fixture *fixture = *state;
    static const char *const texts[] = {"", "{", "[]", "{\"for\": {}, \"finding\": {}}", "{\"for\": 1}", "\xff\xfe"};
    for (size_t i = 0; i <= sizeof texts / sizeof texts[0]; i++) {
        struct vmm_accel accel = {0};
        struct error err = {0};
        put_program(fixture, "exit 85");
        unlink(fixture->cache);
        if (i < sizeof texts / sizeof texts[0]) {
            FILE *file = fopen(fixture->cache, "w");
            fputs(texts[i], file);
            fclose(file);
        } else {
            assert_int_equal(symlink("/dev/zero", fixture->cache), 0);
        }
        assert_int_equal(accel_find(fixture->program, OPENS, fixture->folder, false, &accel, &err), 0);
        assert_string_equal(accel.name, "kvm");
    }
}

static void a_cache_that_makes_up_an_accelerator_is_ignored(void **state)
{
    struct fixture *fixture = *state;
    static const struct vmm_accel made_up[] = {
        {.known = true, .name = "xen", .cpu = "host", .reason = "r"},
        {.known = true, .name = "kvm", .cpu = "max,+vmx", .reason = "r"},
        {.known = true, .name = "tcg", .cpu = "", .reason = "r"},
    };
    char boot_id[ID_TEXT_BYTES];
    if (vmm_boot_id(boot_id)[0] == '\0')
        skip();
    put_program(fixture, "exit 85");
    for (size_t i = 0; i < sizeof made_up / sizeof made_up[0]; i++) {
        struct vmm_accel accel = {0};
        assert_int_equal(accel_remember(fixture->program, OPENS, fixture->folder, &made_up[i], NULL), 0);
        assert_int_equal(accel_find(fixture->program, OPENS, fixture->folder, false, &accel, NULL), 0);
        assert_accel(&accel, "kvm", "host", "trial guest");
    }
}

static void the_committed_rom_is_what_its_source_assembles_to(void **state)
{
    struct fixture *fixture = *state;
#if defined(__x86_64__)
    if (!is_there("as") || !is_there("objcopy") || access("vmm/accel_rom.S", R_OK) != 0)
        skip();
    char command[512];
    char path[128];
    uint8_t bytes[ACCEL_ROM_BYTES + 1];
    snprintf(path, sizeof path, "%s/rom.bin", fixture->folder);
    snprintf(command, sizeof command, "as --64 -o %s/rom.o vmm/accel_rom.S && objcopy -O binary -j .text %s/rom.o %s",
             fixture->folder, fixture->folder, path);
    assert_int_equal(system(command), 0);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(bytes, 1, sizeof bytes, file), ACCEL_ROM_BYTES);
    fclose(file);
    assert_memory_equal(bytes, accel_rom, ACCEL_ROM_BYTES);
#else
    (void)fixture;
    skip();
#endif
}

/* QEMU's exit code with the ROM under tcg; -1 when it was killed. */
static int run_rom(const struct fixture *fixture, const char *cpu)
{
    char path[128];
    char command[512];
    uint8_t bios[65536];
    memset(bios, 0xf4, sizeof bios);
    memcpy(bios + sizeof bios - ACCEL_ROM_BYTES, accel_rom, ACCEL_ROM_BYTES);
    snprintf(path, sizeof path, "%s/bios", fixture->folder);
    FILE *file = fopen(path, "w");
    assert_int_equal(fwrite(bios, 1, sizeof bios, file), sizeof bios);
    fclose(file);
    snprintf(command, sizeof command,
             "timeout -s KILL 20 " QEMU " -machine q35 -accel tcg,tb-size=32 -cpu %s -m 16 -nodefaults -no-user-config "
             "-no-reboot -display none -device isa-debug-exit,iobase=%#x,iosize=4 -bios %s 2>/dev/null",
             cpu, ACCEL_ROM_EXIT_PORT, path);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_rom_comes_through_long_mode_under_tcg(void **state)
{
    if (!is_there(QEMU))
        skip();
    assert_int_equal(run_rom(*state, "max"), ACCEL_ROM_EXIT_CODE);
    assert_int_equal(run_rom(*state, "qemu64"), ACCEL_ROM_EXIT_CODE);
}

static void the_rom_does_not_come_through_on_a_cpu_without_long_mode(void **state)
{
    if (!is_there(QEMU))
        skip();
    assert_int_not_equal(run_rom(*state, "qemu32"), ACCEL_ROM_EXIT_CODE);
}

static void this_machine_gets_an_answer_with_a_reason_in_time(void **state)
{
    (void)state;
    if (!is_there(QEMU))
        skip();
    struct vmm_accel accel = {0};
    struct error err = {0};
    const struct vmm_config config = {.program = QEMU, .kvm_device = "/dev/kvm"};
    uint64_t start_ms = clock_monotonic_ms();
    assert_int_equal(vmm_probe_accel(&config, true, &accel, &err), 0);
    assert_in_range(clock_monotonic_ms() - start_ms, 0, 5 * ACCEL_PROBE_MS);
    assert_true(accel.known);
    assert_true(strcmp(accel.name, "kvm") == 0 || strcmp(accel.name, "tcg") == 0);
    assert_int_not_equal(accel.reason[0], '\0');
    print_message("%s: %s\n", accel.name, accel.reason);
}

#define ACCEL_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACCEL_TEST(only_the_exit_code_of_the_rom_means_kvm),
        ACCEL_TEST(a_trial_that_hangs_is_killed_in_time),
        ACCEL_TEST(a_trial_that_floods_its_output_ends_too),
        ACCEL_TEST(the_trial_gets_the_cpu_that_is_planned_and_the_rom),
        ACCEL_TEST(a_device_that_does_not_open_means_tcg_and_says_why),
        ACCEL_TEST(a_missing_qemu_is_an_error_that_says_what_to_install),
        ACCEL_TEST(a_finding_is_kept_until_it_is_asked_for_afresh),
        ACCEL_TEST(a_remembered_finding_holds_for_this_qemu_and_this_device_only),
        ACCEL_TEST(a_damaged_cache_is_ignored_and_replaced),
        ACCEL_TEST(a_cache_that_makes_up_an_accelerator_is_ignored),
        ACCEL_TEST(the_committed_rom_is_what_its_source_assembles_to),
        ACCEL_TEST(the_rom_comes_through_long_mode_under_tcg),
        ACCEL_TEST(the_rom_does_not_come_through_on_a_cpu_without_long_mode),
        ACCEL_TEST(this_machine_gets_an_answer_with_a_reason_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

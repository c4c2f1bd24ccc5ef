/* The snapshot is what an operator sees in ps(1): a changed line is a changed machine. */
#include "vmm/command_vfkit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/cmocka.h"

static struct command_vfkit sound(void)
{
    return (struct command_vfkit){.program = "/opt/homebrew/bin/vfkit",
                                  .vcpus = 2,
                                  .memory_mib = 512,
                                  .control_socket = "/run/machines/x/rest.sock",
                                  .kernel = "/run/machines/x/kernel",
                                  .initrd = "/run/machines/x/initrd",
                                  .kernel_command_line = "console=hvc0 quiet a=b,c",
                                  .root = "/data/x.overlay",
                                  .seed = "/run/machines/x/seed.iso",
                                  .disk = "/data/x.disk",
                                  .console = "/run/machines/x/console.log",
                                  .guest_mac = {{0x52, 0x54, 0x00, 0xab, 0xcd, 0xef}}};
}

static const char snapshot[] = "/opt/homebrew/bin/vfkit\n"
                               "--log-level\nerror\n"
                               "--restful-uri\nunix:///run/machines/x/rest.sock\n"
                               "--cpus\n2\n"
                               "--memory\n512\n"
                               "--bootloader\nlinux,kernel=/run/machines/x/kernel,initrd=/run/machines/x/initrd,"
                               "cmdline=\"console=hvc0 quiet a=b,c\"\n"
                               "--device\nvirtio-blk,path=/data/x.overlay\n"
                               "--device\nvirtio-blk,path=/run/machines/x/seed.iso\n"
                               "--device\nvirtio-blk,path=/data/x.disk\n"
                               "--device\nvirtio-net,fd=3,mac=52:54:00:ab:cd:ef\n"
                               "--device\nvirtio-serial,logFilePath=/run/machines/x/console.log\n"
                               "--device\nvirtio-rng\n";

static void join(const struct command *command, char *ret_text, size_t capacity)
{
    size_t used = 0;
    for (size_t at = 0; at < command->count; at++)
        used += (size_t)snprintf(ret_text + used, capacity - used, "%s\n", command->argv[at]);
    assert_null(command->argv[command->count]);
}

static void the_command_of_a_machine_with_disks_is_the_snapshot(void **state)
{
    (void)state;
    char text[2 * COMMAND_TEXT_BYTES];
    const struct command_vfkit vfkit = sound();
    struct command command;
    assert_int_equal(command_vfkit_build(&vfkit, &command, NULL), 0);
    join(&command, text, sizeof text);
    assert_string_equal(text, snapshot);
}

static void disks_that_are_not_there_are_not_named(void **state)
{
    (void)state;
    char text[2 * COMMAND_TEXT_BYTES];
    struct command_vfkit vfkit = sound();
    struct command command;
    vfkit.root = NULL;
    vfkit.disk = NULL;
    assert_int_equal(command_vfkit_build(&vfkit, &command, NULL), 0);
    join(&command, text, sizeof text);
    assert_null(strstr(text, "/data/"));
    assert_non_null(strstr(text, "virtio-blk,path=/run/machines/x/seed.iso\n"));
}

static void paths_that_vfkit_would_take_apart_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {NULL,    "",      "relative/file", "/a,readonly", "/a\"b",  "/a b",
                                      "/a\nb", "/a\\b", "/\xc3\xa9",     "/a%2Cb",      "/a?b=c", "/a#b"};
    static const char *const fields[] = {"control_socket", "kernel", "initrd", "seed", "console", "root", "disk"};
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++)
        for (size_t field = 0; field < sizeof fields / sizeof *fields; field++) {
            struct command_vfkit vfkit = sound();
            const char **paths[] = {&vfkit.control_socket, &vfkit.kernel, &vfkit.initrd, &vfkit.seed,
                                    &vfkit.console,        &vfkit.root,   &vfkit.disk};
            struct command command;
            struct error err = {0};
            *paths[field] = bad[at];
            if (bad[at] == NULL && field > 4)
                continue; /* may lack */
            assert_int_equal(command_vfkit_build(&vfkit, &command, &err), -EINVAL);
            assert_string_equal(err.field, fields[field]);
            assert_int_equal(command.count, 0);
        }
}

static void a_control_socket_has_to_fit_a_socket(void **state)
{
    (void)state;
    char path[200];
    struct command_vfkit vfkit = sound();
    struct command command;
    memset(path, 'x', sizeof path);
    path[0] = '/';
    path[107] = '\0';
    vfkit.control_socket = path;
    assert_int_equal(command_vfkit_build(&vfkit, &command, NULL), 0);
    path[107] = 'x';
    path[108] = '\0';
    assert_int_equal(command_vfkit_build(&vfkit, &command, NULL), -EINVAL);
}

static void a_command_line_that_would_end_its_quotation_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"a=\"b\"", "a\nb", "a\tb", "\xc3\xa9", "\x7f"};
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++) {
        struct command_vfkit vfkit = sound();
        struct command command;
        struct error err = {0};
        vfkit.kernel_command_line = bad[at];
        assert_int_equal(command_vfkit_build(&vfkit, &command, &err), -EINVAL);
        assert_string_equal(err.field, "kernel_command_line");
    }
}

static void numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint32_t vcpus;
        uint32_t memory_mib;
        uint8_t mac0;
        int rc;
    } table[] = {{0, 512, 0x52, -EINVAL}, {1, 512, 0x52, 0},        {255, 512, 0x52, 0},    {256, 512, 0x52, -EINVAL},
                 {1, 0, 0x52, -EINVAL},   {1, UINT32_MAX, 0x52, 0}, {1, 512, 0x53, -EINVAL}};
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        struct command_vfkit vfkit = sound();
        struct command command;
        vfkit.vcpus = table[at].vcpus;
        vfkit.memory_mib = table[at].memory_mib;
        vfkit.guest_mac.b[0] = table[at].mac0;
        assert_int_equal(command_vfkit_build(&vfkit, &command, NULL), table[at].rc);
    }
    struct command_vfkit vfkit = sound();
    struct command command;
    vfkit.program = "";
    assert_int_equal(command_vfkit_build(&vfkit, &command, NULL), -EINVAL);
}

static void a_program_that_leaves_no_room_is_refused(void **state)
{
    (void)state;
    char program[COMMAND_TEXT_BYTES];
    memset(program, '/', sizeof program - 1);
    program[sizeof program - 1] = '\0';
    struct command_vfkit vfkit = sound();
    struct command command;
    vfkit.program = program;
    assert_int_equal(command_vfkit_build(&vfkit, &command, NULL), -E2BIG);
    assert_null(command.argv[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_command_of_a_machine_with_disks_is_the_snapshot),
        cmocka_unit_test(disks_that_are_not_there_are_not_named),
        cmocka_unit_test(paths_that_vfkit_would_take_apart_are_refused),
        cmocka_unit_test(a_control_socket_has_to_fit_a_socket),
        cmocka_unit_test(a_command_line_that_would_end_its_quotation_is_refused),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(a_program_that_leaves_no_room_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The snapshot is what an operator sees in ps(1): a changed line is a changed machine. */
#include "vmm/command_qemu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/cmocka.h"

static struct command_qemu sound(void)
{
    return (struct command_qemu){.program = "/usr/bin/qemu-system-x86_64",
                                 .accel = "tcg",
                                 .cpu = "max",
                                 .name = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
                                 .vcpus = 2,
                                 .memory_mib = 512,
                                 .guest_mac = {{0x52, 0x54, 0x00, 0xab, 0xcd, 0xef}},
                                 .kernel_command_line = "console=ttyS0,115200 quiet",
                                 .has_disk = true};
}

static const char snapshot_disk_tcg[] =
    "/usr/bin/qemu-system-x86_64\n"
    "-name\n0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b\n"
    "-machine\nq35,usb=off,vmport=off\n"
    "-accel\ntcg,thread=multi,tb-size=64\n"
    "-cpu\nmax\n"
    "-smp\n2\n"
    "-m\n512\n"
    "-no-user-config\n"
    "-nodefaults\n"
    "-no-reboot\n"
    "-display\nnone\n"
    "-sandbox\non,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny\n"
    "-chardev\nsocket,id=console,fd=4\n"
    "-serial\nchardev:console\n"
    "-chardev\nsocket,id=qmp,fd=5,server=on,wait=off\n"
    "-mon\nchardev=qmp,mode=control\n"
    "-netdev\ndgram,id=net0,local.type=fd,local.str=3\n"
    "-device\nvirtio-net-pci,netdev=net0,mac=52:54:00:ab:cd:ef,romfile=\n"
    "-add-fd\nfd=6,set=1\n"
    "-blockdev\ndriver=raw,node-name=seed,read-only=on,file.driver=file,file.filename=/dev/fdset/1\n"
    "-device\nvirtio-blk-pci,drive=seed\n"
    "-add-fd\nfd=9,set=2\n"
    "-blockdev\ndriver=raw,node-name=disk,read-only=off,file.driver=file,file.filename=/dev/fdset/2\n"
    "-device\nvirtio-blk-pci,drive=disk\n"
    "-device\npvpanic-pci\n"
    "-object\nrng-builtin,id=rng\n"
    "-device\nvirtio-rng-pci,rng=rng\n"
    "-kernel\n/dev/fd/7\n"
    "-initrd\n/dev/fd/8\n"
    "-append\nconsole=ttyS0,115200 quiet\n";

static void assert_lines(const struct command *command, const char *snapshot)
{
    const char *line = snapshot;
    for (size_t i = 0; i < command->count; i++) {
        size_t length = strcspn(line, "\n");
        char expected[COMMAND_TEXT_BYTES];
        snprintf(expected, sizeof expected, "%.*s", (int)length, line);
        assert_string_equal(command->argv[i], expected);
        line += length + (line[length] == '\n');
    }
    assert_string_equal(line, "");
    assert_null(command->argv[command->count]);
}

static bool has_argument(const struct command *command, const char *argument)
{
    for (size_t i = 0; i < command->count; i++)
        if (strcmp(command->argv[i], argument) == 0)
            return true;
    return false;
}

static void the_command_of_a_tcg_machine_with_a_disk_is_the_snapshot(void **state)
{
    (void)state;
    struct command_qemu qemu = sound();
    struct command command;
    struct error err = {0};
    assert_int_equal(command_qemu_build(&qemu, &command, &err), 0);
    assert_lines(&command, snapshot_disk_tcg);
}

static void without_a_disk_nothing_names_its_descriptor(void **state)
{
    (void)state;
    struct command_qemu qemu = sound();
    struct command command;
    struct error err = {0};
    qemu.has_disk = false;
    assert_int_equal(command_qemu_build(&qemu, &command, &err), 0);
    for (size_t i = 0; i < command.count; i++) {
        assert_null(strstr(command.argv[i], "fd=9"));
        assert_null(strstr(command.argv[i], "/dev/fdset/2"));
        assert_null(strstr(command.argv[i], "disk"));
    }
}

static void a_machine_that_outlives_its_daemon_has_names_where_others_have_a_socket(void **state)
{
    (void)state;
    struct command_qemu qemu = sound();
    struct command command;
    struct error err = {0};
    qemu.net = COMMAND_NET_NAMED;
    qemu.vm_socket = "/run/user/1000/omertad/machines/x/vm.sock";
    qemu.host_socket = "/run/user/1000/omertad/machines/x/host.sock";
    assert_int_equal(command_qemu_build(&qemu, &command, &err), 0);
    assert_true(has_argument(&command,
                             "dgram,id=net0,local.type=unix,local.path=/run/user/1000/omertad/machines/x/vm.sock,"
                             "remote.type=unix,remote.path=/run/user/1000/omertad/machines/x/host.sock"));
    assert_true(has_argument(&command, "socket,id=console,fd=4,server=on,wait=off"));
    assert_true(has_argument(&command, "socket,id=qmp,fd=5,server=on,wait=off"));
}

static void a_stream_attachment_is_the_same_descriptor_with_another_netdev(void **state)
{
    (void)state;
    struct command_qemu qemu = sound();
    struct command command;
    struct error err = {0};
    qemu.net = COMMAND_NET_STREAM;
    assert_int_equal(command_qemu_build(&qemu, &command, &err), 0);
    assert_true(has_argument(&command, "stream,id=net0,server=off,addr.type=fd,addr.str=3"));
    assert_true(has_argument(&command, "virtio-net-pci,netdev=net0,mac=52:54:00:ab:cd:ef,romfile="));
    assert_true(has_argument(&command, "socket,id=console,fd=4"));
}

static void names_that_qemu_would_take_apart_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {NULL,
                                      "",
                                      "relative/vm.sock",
                                      "/run/a,remote.path=/b",
                                      "/run/a\nb",
                                      "/run/\xc3\xa9",
                                      "/run/this/path/is/so/long/that/no/unix/socket/can/have/it/as/its/name/because/"
                                      "there/is/room/for/one/hundred/and/seven"};
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++)
        for (int which = 0; which < 2; which++) {
            struct command_qemu qemu = sound();
            struct command command;
            struct error err = {0};
            qemu.net = COMMAND_NET_NAMED;
            qemu.vm_socket = which == 0 ? bad[at] : "/run/vm.sock";
            qemu.host_socket = which == 0 ? "/run/host.sock" : bad[at];
            assert_int_equal(command_qemu_build(&qemu, &command, &err), -EINVAL);
            assert_string_equal(err.field, "socket");
        }
}

static void a_direct_machine_has_a_tap_at_the_same_descriptor_and_else_the_same_command(void **state)
{
    (void)state;
    struct command_qemu qemu = sound();
    struct command datagrams;
    struct command tap;
    assert_int_equal(command_qemu_build(&qemu, &datagrams, NULL), 0);
    qemu.net = COMMAND_NET_TAP;
    assert_int_equal(command_qemu_build(&qemu, &tap, NULL), 0);
    assert_int_equal(tap.count, datagrams.count);
    size_t differ = 0;
    for (size_t i = 0; i < tap.count; i++)
        differ += strcmp(tap.argv[i], datagrams.argv[i]) != 0;
    assert_int_equal(differ, 1);
    assert_true(has_argument(&tap, "tap,id=net0,fd=3,vhost=off"));
    assert_false(has_argument(&datagrams, "tap,id=net0,fd=3,vhost=off"));
}

/* Return: where the argument stands; fails the test when it is not there. */
static size_t place_of(const struct command *command, const char *argument)
{
    for (size_t i = 0; i < command->count; i++)
        if (strcmp(command->argv[i], argument) == 0)
            return i;
    fail_msg("not there: %s", argument);
    return 0;
}

static void a_root_disk_is_the_first_and_stands_under_its_overlay_alone(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        const char *base;
    } table[] = {
        {"raw", "{\"driver\":\"raw\",\"node-name\":\"base\",\"read-only\":true,"
                "\"file\":{\"driver\":\"file\",\"filename\":\"/dev/fdset/3\"}}"},
        {"qcow2", "{\"driver\":\"qcow2\",\"node-name\":\"base\",\"read-only\":true,\"backing\":null,"
                  "\"file\":{\"driver\":\"file\",\"filename\":\"/dev/fdset/3\"}}"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct command_qemu qemu = sound();
        struct command command;
        qemu.base_format = table[i].format;
        assert_int_equal(command_qemu_build(&qemu, &command, NULL), 0);
        assert_true(has_argument(&command, "fd=10,set=3"));
        assert_true(has_argument(&command, "fd=11,set=4"));
        assert_true(has_argument(&command, table[i].base));
        assert_true(has_argument(&command, "driver=qcow2,node-name=root,read-only=off,cache.no-flush=on,backing=base,"
                                           "file.driver=file,file.filename=/dev/fdset/4"));
        size_t root = place_of(&command, "virtio-blk-pci,drive=root");
        assert_true(root < place_of(&command, "virtio-blk-pci,drive=seed"));
        assert_true(root < place_of(&command, "virtio-blk-pci,drive=disk"));
    }
    static const char *const others[] = {"", "vmdk", "raw,file.filename=x", "RAW"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct command_qemu qemu = sound();
        struct command command;
        struct error err = {0};
        qemu.base_format = others[i];
        assert_int_equal(command_qemu_build(&qemu, &command, &err), -EINVAL);
        assert_string_equal(err.field, "base_format");
    }
}

static void kvm_gets_no_translation_cache(void **state)
{
    (void)state;
    struct command_qemu qemu = sound();
    struct command command;
    struct error err = {0};
    qemu.accel = "kvm";
    qemu.cpu = "host";
    assert_int_equal(command_qemu_build(&qemu, &command, &err), 0);
    assert_true(has_argument(&command, "kvm"));
    assert_true(has_argument(&command, "host"));
    for (size_t i = 0; i < command.count; i++)
        assert_null(strstr(command.argv[i], "tb-size"));
}

static void the_same_values_give_the_same_arguments(void **state)
{
    (void)state;
    struct command_qemu qemu = sound();
    struct command one;
    struct command two;
    assert_int_equal(command_qemu_build(&qemu, &one, NULL), 0);
    assert_int_equal(command_qemu_build(&qemu, &two, NULL), 0);
    assert_int_equal(one.used, two.used);
    assert_memory_equal(one.text, two.text, one.used);
}

static void values_that_could_become_options_are_refused(void **state)
{
    (void)state;
    char long_word[66];
    memset(long_word, 'a', sizeof long_word - 1);
    long_word[sizeof long_word - 1] = '\0';
    const char *hostile[] = {"",    "a,b",  "a=b", "a b",  "-a",  "a\nb",     "a;b",
                             "a/b", "a\"b", "a'b", "$(a)", "a%s", "\xc3\xa9", long_word};
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        struct command command;
        struct error err = {0};
        struct command_qemu qemu = sound();
        qemu.name = hostile[i];
        assert_int_equal(command_qemu_build(&qemu, &command, &err), -EINVAL);
        assert_string_equal(err.field, "name");
        assert_int_equal(command.count, 0);
        qemu = sound();
        qemu.cpu = hostile[i];
        assert_int_equal(command_qemu_build(&qemu, &command, &err), -EINVAL);
        assert_string_equal(err.field, "cpu");
        qemu = sound();
        qemu.accel = hostile[i];
        assert_int_equal(command_qemu_build(&qemu, &command, &err), -EINVAL);
        assert_string_equal(err.field, "accel");
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
    } table[] = {
        {0, 512, 0x52, -EINVAL}, {1, 512, 0x52, 0},        {255, 512, 0x52, 0},     {256, 512, 0x52, -EINVAL},
        {1, 0, 0x52, -EINVAL},   {1, UINT32_MAX, 0x52, 0}, {1, 512, 0x53, -EINVAL}, {1, 512, 0xff, -EINVAL},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct command command;
        struct command_qemu qemu = sound();
        qemu.vcpus = table[i].vcpus;
        qemu.memory_mib = table[i].memory_mib;
        qemu.guest_mac.b[0] = table[i].mac0;
        assert_int_equal(command_qemu_build(&qemu, &command, NULL), table[i].rc);
    }
}

static void the_kernel_command_line_is_one_argument_whatever_it_holds(void **state)
{
    (void)state;
    struct command_qemu qemu = sound();
    struct command command;
    qemu.kernel_command_line = "a=b,c -kernel /etc/passwd %s%n";
    assert_int_equal(command_qemu_build(&qemu, &command, NULL), 0);
    assert_string_equal(command.argv[command.count - 1], qemu.kernel_command_line);
    assert_string_equal(command.argv[command.count - 2], "-append");
    static const char *const hostile[] = {"a\nb", "a\tb", "a\x7f", "a\x1b[2J", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        struct error err = {0};
        qemu.kernel_command_line = hostile[i];
        assert_int_equal(command_qemu_build(&qemu, &command, &err), -EINVAL);
        assert_string_equal(err.field, "kernel_command_line");
    }
}

static void a_kernel_command_line_may_have_2047_characters(void **state)
{
    (void)state;
    char line[2049];
    struct command_qemu qemu = sound();
    struct command command;
    memset(line, 'x', sizeof line);
    line[2048] = '\0';
    qemu.kernel_command_line = line;
    assert_int_equal(command_qemu_build(&qemu, &command, NULL), -EINVAL);
    line[2047] = '\0';
    assert_int_equal(command_qemu_build(&qemu, &command, NULL), 0);
}

static void a_program_that_leaves_no_room_is_refused(void **state)
{
    (void)state;
    char program[COMMAND_TEXT_BYTES];
    memset(program, '/', sizeof program - 1);
    program[sizeof program - 1] = '\0';
    struct command_qemu qemu = sound();
    struct command command;
    qemu.program = program;
    assert_int_equal(command_qemu_build(&qemu, &command, NULL), -E2BIG);
    assert_int_equal(command.count, 0);
    assert_null(command.argv[0]);
}

static void a_full_command_stays_failed(void **state)
{
    (void)state;
    struct command command;
    command_start(&command, "p");
    for (size_t i = 1; i < COMMAND_ARGS_MAX; i++)
        command_add(&command, "%zu", i);
    assert_false(command.failed);
    assert_int_equal(command.count, COMMAND_ARGS_MAX);
    assert_null(command.argv[COMMAND_ARGS_MAX]);
    command_add(&command, "one too many");
    assert_true(command.failed);
    command_add(&command, "another");
    assert_int_equal(command.count, COMMAND_ARGS_MAX);
}

static void text_fits_to_the_last_byte_and_no_further(void **state)
{
    (void)state;
    char filler[COMMAND_TEXT_BYTES];
    memset(filler, 'x', sizeof filler);
    struct command command;
    filler[COMMAND_TEXT_BYTES - 2 - 1] = '\0'; /* "p" and its NUL come first */
    command_start(&command, "p");
    command_add(&command, "%s", filler);
    assert_false(command.failed);
    assert_int_equal(command.used, COMMAND_TEXT_BYTES);
    command_add(&command, "%s", "");
    assert_true(command.failed);
    assert_int_equal(command.count, 2);
}

static void a_program_is_found_in_path_or_where_its_slash_says(void **state)
{
    (void)state;
    char found[VMM_PATH_BYTES];
    struct error err = {0};
    assert_int_equal(command_find("sh", found, &err), 0);
    assert_int_equal(found[0], '/');
    assert_string_equal(strrchr(found, '/'), "/sh");
    assert_int_equal(command_find("/bin/sh", found, &err), 0);
    assert_string_equal(found, "/bin/sh");
    static const char *const absent[] = {"", "no-such-program-here", "/bin", "/no/such/program", "../sh"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        assert_int_equal(command_find(absent[i], found, &err), -ENOENT);
    char too_long[VMM_PATH_BYTES + 1];
    memset(too_long, 'x', sizeof too_long);
    too_long[sizeof too_long - 1] = '\0';
    assert_int_equal(command_find(too_long, found, &err), -ENAMETOOLONG);
    assert_string_equal(found, "/bin/sh");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_command_of_a_tcg_machine_with_a_disk_is_the_snapshot),
        cmocka_unit_test(without_a_disk_nothing_names_its_descriptor),
        cmocka_unit_test(a_machine_that_outlives_its_daemon_has_names_where_others_have_a_socket),
        cmocka_unit_test(a_stream_attachment_is_the_same_descriptor_with_another_netdev),
        cmocka_unit_test(names_that_qemu_would_take_apart_are_refused),
        cmocka_unit_test(a_direct_machine_has_a_tap_at_the_same_descriptor_and_else_the_same_command),
        cmocka_unit_test(a_root_disk_is_the_first_and_stands_under_its_overlay_alone),
        cmocka_unit_test(kvm_gets_no_translation_cache),
        cmocka_unit_test(the_same_values_give_the_same_arguments),
        cmocka_unit_test(values_that_could_become_options_are_refused),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(the_kernel_command_line_is_one_argument_whatever_it_holds),
        cmocka_unit_test(a_kernel_command_line_may_have_2047_characters),
        cmocka_unit_test(a_program_that_leaves_no_room_is_refused),
        cmocka_unit_test(a_full_command_stays_failed),
        cmocka_unit_test(text_fits_to_the_last_byte_and_no_further),
        cmocka_unit_test(a_program_is_found_in_path_or_where_its_slash_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

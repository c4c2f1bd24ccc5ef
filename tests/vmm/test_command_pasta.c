/* The snapshot is what an operator sees in ps(1), and what closes the host to the namespace. */
#include "vmm/command_pasta.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/cmocka.h"

static const char snapshot[] = "/opt/omertad\ndirect-launch\n"
                               "/usr/bin/pasta\n-f\n-q\n-4\n--config-net\n-I\nup0\n"
                               "-a\n192.0.0.2\n-n\n29\n-g\n192.0.0.1\n-m\n1500\n"
                               "--no-map-gw\n-t\nnone\n-u\nnone\n-T\nnone\n-U\nnone\n"
                               "--no-dhcp\n--no-ndp\n--no-ra\n--\n/usr/bin/env\n"
                               "/opt/omertad\ndirect-launch\n";

static void the_command_is_the_snapshot(void **state)
{
    (void)state;
    struct command command;
    const struct command_pasta pasta = {.pasta = "/usr/bin/pasta", .program = "/opt/omertad"};
    assert_int_equal(command_pasta_build(&pasta, &command, NULL), 0);
    char text[sizeof snapshot] = "";
    size_t used = 0;
    for (size_t at = 0; at < command.count; at++) {
        int length = snprintf(text + used, sizeof text - used, "%s\n", command.argv[at]);
        assert_in_range(length, 1, sizeof text - used - 1);
        used += (size_t)length;
    }
    assert_string_equal(text, snapshot);
    assert_null(command.argv[command.count]);
}

static void a_path_that_is_not_absolute_is_refused(void **state)
{
    (void)state;
    static const char *const relative[] = {"", "pasta", "./pasta", "-f"};
    for (size_t at = 0; at < sizeof relative / sizeof *relative; at++) {
        struct command command;
        struct error err = {0};
        struct command_pasta pasta = {.pasta = relative[at], .program = "/opt/omertad"};
        assert_int_equal(command_pasta_build(&pasta, &command, &err), -EINVAL);
        assert_string_equal(err.field, "pasta");
        assert_int_equal(command.count, 0);
        pasta = (struct command_pasta){.pasta = "/usr/bin/pasta", .program = relative[at]};
        assert_int_equal(command_pasta_build(&pasta, &command, &err), -EINVAL);
        assert_string_equal(err.field, "program");
    }
}

static void paths_that_leave_no_room_are_refused(void **state)
{
    (void)state;
    char path[COMMAND_TEXT_BYTES];
    memset(path, '/', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    struct command command;
    const struct command_pasta pasta = {.pasta = "/usr/bin/pasta", .program = path};
    assert_int_equal(command_pasta_build(&pasta, &command, NULL), -E2BIG);
    assert_int_equal(command.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_command_is_the_snapshot),
        cmocka_unit_test(a_path_that_is_not_absolute_is_refused),
        cmocka_unit_test(paths_that_leave_no_room_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

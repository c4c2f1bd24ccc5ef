/* The order on its way. What the launcher does with it is seen in test_direct.c, in real namespaces. */
#include "vmm/launcher.h"

#include "tests/cmocka.h"
#include "vmm/vmm.h"

#ifndef OMERTAD_PORTABLE

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/scope.h"

static struct direct_rules rules(void)
{
    return (struct direct_rules){
        .consumer = {.ip = UINT32_C(0xCB007105), .port = 51900}, .own_count = 1, .own = {UINT32_C(0xC6336401)}};
}

static void make(struct launcher_order *ret_order)
{
    struct command command;
    command_start(&command, "/bin/echo");
    command_add(&command, "%s", "");
    command_add(&command, "two words");
    const struct child_fd fds[] = {{0, COMMAND_FD_CONSOLE}, {1, COMMAND_FD_QMP}};
    const struct direct_rules some = rules();
    launcher_order_make(&some, &command, fds, 2, ret_order);
}

static void an_order_arrives_as_it_was_made(void **state)
{
    (void)state;
    struct launcher_order order;
    char *argv[COMMAND_ARGS_MAX + 1];
    make(&order);
    assert_int_equal(launcher_order_check(&order, sizeof order, 2, argv, NULL), 0);
    assert_string_equal(argv[0], "/bin/echo");
    assert_string_equal(argv[1], "");
    assert_string_equal(argv[2], "two words");
    assert_null(argv[3]);
    assert_int_equal(order.fd_to[0], COMMAND_FD_CONSOLE);
    assert_int_equal(order.rules.consumer.port, 51900);
}

static void a_trial_has_no_arguments(void **state)
{
    (void)state;
    struct launcher_order order;
    char *argv[COMMAND_ARGS_MAX + 1];
    const struct direct_rules some = rules();
    launcher_order_make(&some, NULL, NULL, 0, &order);
    assert_int_equal(launcher_order_check(&order, sizeof order, 0, argv, NULL), 0);
    assert_null(argv[0]);
}

enum damage {
    DAMAGE_VERSION,
    DAMAGE_FD_COUNT,
    DAMAGE_FD_LOW,
    DAMAGE_FD_HIGH,
    DAMAGE_FD_TAP,
    DAMAGE_ARGUMENTS_MORE,
    DAMAGE_ARGUMENTS_FEWER,
    DAMAGE_ARGUMENTS_MANY,
    DAMAGE_TEXT_SHORT,
    DAMAGE_TEXT_LONG,
    DAMAGE_OWN_COUNT,
    DAMAGE_COUNT,
};

static void damage(struct launcher_order *order, enum damage how)
{
    switch (how) {
    case DAMAGE_VERSION:
        order->version[0]++;
        return;
    case DAMAGE_FD_COUNT:
        order->fd_count = 3;
        return;
    case DAMAGE_FD_LOW:
        order->fd_to[1] = STDERR_FILENO;
        return;
    case DAMAGE_FD_HIGH:
        order->fd_to[1] = CHILD_FD_TO_MAX + 1;
        return;
    case DAMAGE_FD_TAP:
        order->fd_to[1] = COMMAND_FD_NET;
        return;
    case DAMAGE_ARGUMENTS_MORE:
        order->arguments++;
        return;
    case DAMAGE_ARGUMENTS_FEWER:
        order->arguments--;
        return;
    case DAMAGE_ARGUMENTS_MANY:
        order->arguments = COMMAND_ARGS_MAX + 1;
        return;
    case DAMAGE_TEXT_SHORT:
        order->text_bytes--;
        return;
    case DAMAGE_TEXT_LONG:
        order->text_bytes = sizeof order->text + 1;
        return;
    case DAMAGE_OWN_COUNT:
        order->rules.own_count = DIRECT_OWN_MAX + 1;
        return;
    case DAMAGE_COUNT:
        return;
    }
}

static void a_damaged_order_is_refused(void **state)
{
    (void)state;
    for (enum damage how = 0; how < DAMAGE_COUNT; how++) {
        struct launcher_order order;
        char *argv[COMMAND_ARGS_MAX + 1];
        make(&order);
        damage(&order, how);
        assert_int_equal(launcher_order_check(&order, sizeof order, 2, argv, NULL), -EBADMSG);
    }
    struct launcher_order order;
    char *argv[COMMAND_ARGS_MAX + 1];
    make(&order);
    assert_int_equal(launcher_order_check(&order, sizeof order - 1, 2, argv, NULL), -EBADMSG);
    assert_int_equal(launcher_order_check(&order, sizeof order, 1, argv, NULL), -EBADMSG);
}

static void order_and_descriptors_are_one_message(void **state)
{
    (void)state;
    int line[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, line), 0);
    int near_fd SCOPED_FD = line[0];
    int far_fd SCOPED_FD = line[1];
    int null_fd SCOPED_FD = open("/dev/null", O_RDWR | O_CLOEXEC);
    const struct child_fd fds[] = {{null_fd, COMMAND_FD_CONSOLE}, {null_fd, COMMAND_FD_QMP}};
    struct launcher_order order;
    make(&order);
    assert_int_equal(launcher_send(near_fd, &order, fds, NULL), 0);
    fd_close(&near_fd);

    struct launcher_order arrived;
    union {
        struct cmsghdr head;
        uint8_t bytes[256];
    } control;
    struct iovec text = {.iov_base = &arrived, .iov_len = sizeof arrived};
    struct msghdr message = {
        .msg_iov = &text, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    assert_int_equal(recvmsg(far_fd, &message, MSG_CMSG_CLOEXEC), sizeof arrived);
    assert_memory_equal(&arrived, &order, sizeof order);
    int got[2];
    assert_int_equal(control.head.cmsg_type, SCM_RIGHTS);
    assert_int_equal(control.head.cmsg_len, CMSG_LEN(sizeof got));
    memcpy(got, CMSG_DATA(&control.head), sizeof got);
    close(got[0]);
    close(got[1]);
}

/* Run the launcher with this as its descriptor 0. Return: its exit code. */
static int launch_with(int stdin_fd)
{
    pid_t pid = fork();
    if (pid == 0) {
        char name[] = "direct-launch";
        char *argv[] = {name, NULL};
        int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        _exit(dup2(null_fd, STDERR_FILENO) < 0 || dup2(stdin_fd, STDIN_FILENO) < 0 ? 99 : launcher_run(1, argv));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void without_an_order_nothing_is_launched(void **state)
{
    (void)state;
    int null_fd SCOPED_FD = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(launch_with(null_fd), 1);
    int line[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, line), 0);
    int near_fd SCOPED_FD = line[0];
    int far_fd SCOPED_FD = line[1];
    struct launcher_order order;
    make(&order);
    order.version[0]++;
    order.fd_count = 0;
    assert_int_equal(launcher_send(near_fd, &order, NULL, NULL), 0);
    assert_int_equal(launch_with(far_fd), 1);
    assert_int_equal(launcher_send(near_fd, &order, NULL, NULL), 0);
    fd_close(&far_fd);
    char byte;
    assert_int_equal(recv(near_fd, &byte, 1, MSG_DONTWAIT), -1); /* nothing was said on the line */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_arrives_as_it_was_made),      cmocka_unit_test(a_trial_has_no_arguments),
        cmocka_unit_test(a_damaged_order_is_refused),           cmocka_unit_test(order_and_descriptors_are_one_message),
        cmocka_unit_test(without_an_order_nothing_is_launched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void a_portable_build_launches_nothing(void **state)
{
    (void)state;
    char name[] = "direct-launch";
    char *argv[] = {name, NULL};
    assert_int_equal(launcher_run(1, argv), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_portable_build_launches_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif

#include "api/host/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cmocka.h"

enum {
    MESSAGE_BYTES = 128,
    DIR_BYTES = 64,
};

/* A manager's socket at @path; a leading '@' is the abstract space. */
static int manager_listen(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + (path[0] == '/'));
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, bytes), 0);
    return fd;
}

static const char *manager_hears(int fd, char text[static MESSAGE_BYTES])
{
    ssize_t got = recv(fd, text, MESSAGE_BYTES - 1, MSG_DONTWAIT);
    assert_true(got >= 0);
    text[got] = '\0';
    return text;
}

static void clear_environment(void)
{
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

static void without_a_manager_nothing_is_sent(void **state)
{
    (void)state;
    struct notify notify;
    struct error err = {0};
    clear_environment();
    assert_int_equal(notify_open(&notify, &err), 0);
    assert_int_equal(notify.fd, -1);
    assert_int_equal(notify.watchdog_ms, 0);
    assert_int_equal(notify_send(&notify, "READY=1"), 0);
    notify_close(&notify);
}

static void a_manager_hears_each_message(void **state)
{
    (void)state;
    char dir[DIR_BYTES] = "/tmp/omertad-notify-XXXXXX";
    char path[DIR_BYTES + 16];
    char text[MESSAGE_BYTES];
    struct notify notify;
    struct error err = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/notify", dir);
    int fd = manager_listen(path);
    clear_environment();
    setenv("NOTIFY_SOCKET", path, 1);
    assert_int_equal(notify_open(&notify, &err), 0);
    assert_int_equal(notify_send(&notify, "READY=1\nSTATUS=Serving."), 0);
    assert_string_equal(manager_hears(fd, text), "READY=1\nSTATUS=Serving.");
    assert_int_equal(notify_send(&notify, "WATCHDOG=1"), 0);
    assert_string_equal(manager_hears(fd, text), "WATCHDOG=1");
    notify_close(&notify);
    close(fd);
    unlink(path);
    rmdir(dir);
}

static void a_manager_in_the_abstract_space_hears_too(void **state)
{
    (void)state;
    char name[DIR_BYTES];
    char text[MESSAGE_BYTES];
    struct notify notify;
    struct error err = {0};
    snprintf(name, sizeof name, "@omertad-test-%ld", (long)getpid());
    int fd = manager_listen(name);
    clear_environment();
    setenv("NOTIFY_SOCKET", name, 1);
    assert_int_equal(notify_open(&notify, &err), 0);
    assert_int_equal(notify_send(&notify, "STOPPING=1"), 0);
    assert_string_equal(manager_hears(fd, text), "STOPPING=1");
    notify_close(&notify);
    close(fd);
}

static void children_do_not_inherit_the_manager(void **state)
{
    (void)state;
    struct notify notify;
    struct error err = {0};
    setenv("NOTIFY_SOCKET", "/nowhere/notify", 1);
    setenv("WATCHDOG_USEC", "1000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    assert_int_equal(notify_open(&notify, &err), 0);
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));
    assert_int_equal(notify_send(&notify, "READY=1"), -ENOENT);
    notify_close(&notify);
}

static void a_watchdog_is_this_process_own(void **state)
{
    (void)state;
    char own[16];
    snprintf(own, sizeof own, "%ld", (long)getpid());
    const struct {
        const char *interval_us;
        const char *pid;
        uint64_t watchdog_ms;
    } cases[] = {
        {"30000000", own, 30000},
        {"30000000", NULL, 30000},
        {"30000000", "1", 0},
        {NULL, own, 0},
        {"", own, 0},
        {"30s", own, 0},
        {"0", own, 0},
        {"99999999999999999999999", own, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct notify notify;
        struct error err = {0};
        clear_environment();
        setenv("NOTIFY_SOCKET", "/nowhere/notify", 1);
        if (cases[i].interval_us != NULL)
            setenv("WATCHDOG_USEC", cases[i].interval_us, 1);
        if (cases[i].pid != NULL)
            setenv("WATCHDOG_PID", cases[i].pid, 1);
        assert_int_equal(notify_open(&notify, &err), 0);
        assert_int_equal(notify.watchdog_ms, cases[i].watchdog_ms);
        notify_close(&notify);
    }
}

static void an_address_that_is_none_is_told(void **state)
{
    (void)state;
    char long_path[256];
    memset(long_path, 'a', sizeof long_path - 1);
    long_path[0] = '/';
    long_path[sizeof long_path - 1] = '\0';
    const char *const wrong[] = {"relative", "/", "@", "vsock:2:1234", long_path};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct notify notify;
        struct error err = {0};
        clear_environment();
        setenv("NOTIFY_SOCKET", wrong[i], 1);
        assert_int_equal(notify_open(&notify, &err), -EINVAL);
        assert_int_equal(notify.fd, -1);
        assert_non_null(strstr(err.message, "NOTIFY_SOCKET"));
        assert_int_equal(notify_send(&notify, "READY=1"), 0);
    }
    clear_environment();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_manager_nothing_is_sent),
        cmocka_unit_test(a_manager_hears_each_message),
        cmocka_unit_test(a_manager_in_the_abstract_space_hears_too),
        cmocka_unit_test(children_do_not_inherit_the_manager),
        cmocka_unit_test(a_watchdog_is_this_process_own),
        cmocka_unit_test(an_address_that_is_none_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

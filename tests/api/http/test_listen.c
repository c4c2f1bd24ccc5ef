#include "api/http/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cmocka.h"

static void only_loopback_is_taken(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
    } table[] = {
        {"127.0.0.1:8470", true},   {"127.9.9.9:0", true},   {"[::1]:65535", true},
        {"0.0.0.0:1", false},       {"[::]:1", false},       {"192.168.1.1:1", false},
        {"localhost:1", false},     {"127.0.0.1", false},    {"127.0.0.1:", false},
        {"127.0.0.1:65536", false}, {"127.0.0.1:-1", false}, {"127.0.0.1:1x", false},
        {"127.0.0.01:1", false},    {":1", false},           {"", false},
        {"::1:1", false},           {"[::1]x:1", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct listen_address address;
        struct error err = {0};
        int result = listen_parse(table[i].text, &address, &err);
        if ((result == 0) != table[i].good)
            fail_msg("%s: %d", table[i].text, result);
    }
}

static void port_zero_becomes_the_port_that_was_chosen(void **state)
{
    (void)state;
    struct listen_address address;
    assert_int_equal(listen_parse("127.0.0.1:0", &address, NULL), 0);
    int fd = listen_tcp(&address, NULL);
    assert_true(fd >= 0);
    assert_true(address.port > 0);
    struct error err = {0};
    assert_int_equal(listen_tcp(&address, &err), -EADDRINUSE);
    assert_non_null(strstr(err.message, "127.0.0.1:"));
    close(fd);
}

static void a_dead_socket_is_replaced_and_anything_else_is_not(void **state)
{
    (void)state;
    char dir[] = "/tmp/omertad-listen-XXXXXX";
    char path[64];
    struct error err = {0};
    struct stat status;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    int first = listen_unix(path, &err);
    assert_true(first >= 0);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    close(first);
    int second = listen_unix(path, &err);
    assert_true(second >= 0);
    close(second);
    unlink(path);
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(listen_unix(path, &err), -EEXIST);
    unlink(path);
    rmdir(dir);
}

static void a_path_that_is_too_long_is_said_to_be(void **state)
{
    (void)state;
    char path[LISTEN_PATH_BYTES + 1];
    struct error err = {0};
    memset(path, 'a', sizeof path - 1);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    assert_int_equal(listen_unix(path, &err), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_loopback_is_taken),
        cmocka_unit_test(port_zero_becomes_the_port_that_was_chosen),
        cmocka_unit_test(a_dead_socket_is_replaced_and_anything_else_is_not),
        cmocka_unit_test(a_path_that_is_too_long_is_said_to_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

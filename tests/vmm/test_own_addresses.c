/* What a network namespace of the test is given is what has to be found there; where there can be none, less is shown. */
#include "vmm/own_addresses.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cmocka.h"

enum { ROOM = 256, CANNOT = 77 };

#define LOOPBACK UINT32_C(0x7F000001)

static void this_machine_s_loopback_is_its_own_and_the_list_ascends(void **state)
{
    (void)state;
    uint32_t ips[ROOM];
    size_t count = 0;
    bool has_loopback = false;
    assert_int_equal(own_addresses_read(ips, ROOM, &count, NULL), 0);
    assert_in_range(count, 1, ROOM);
    for (size_t at = 0; at < count; at++) {
        has_loopback = has_loopback || ips[at] == LOOPBACK;
        assert_true(at == 0 || ips[at - 1] < ips[at]);
    }
    assert_true(has_loopback);
}

static void one_address_too_many_is_an_error_and_not_a_shorter_list(void **state)
{
    (void)state;
    uint32_t ips[ROOM];
    size_t count = 0;
    struct error err = {0};
    assert_int_equal(own_addresses_read(ips, ROOM, &count, NULL), 0);
    size_t all = count;
    assert_int_equal(own_addresses_read(ips, all, &count, NULL), 0);
    assert_int_equal(own_addresses_read(ips, all - 1, &count, &err), -E2BIG);
}

/* Run @check in a network namespace of its own. */
static void in_namespace(int (*check)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
            _exit(CANNOT);
        _exit(check());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CANNOT)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int read_none(void)
{
    uint32_t ips[ROOM];
    size_t count = 7;
    return own_addresses_read(ips, ROOM, &count, NULL) == -ENODATA && count == 7 ? 0 : 1;
}

static void a_machine_without_any_address_is_an_error(void **state)
{
    (void)state;
    in_namespace(read_none);
}

#ifndef OMERTAD_PORTABLE

static int run(const char *command)
{
    return system(command); /* NOLINT(cert-env33-c): fixed words of this test */
}

static int read_all(void)
{
    if (run("ip link set lo up && ip address add 198.51.100.7/32 dev lo && ip address add 192.168.77.1/32 dev lo && "
            "ip link add a0 type veth peer name a1 && ip address add 10.1.2.3/24 dev a0 && "
            "ip address add 10.9.0.1 peer 10.9.0.2 dev a0 && "
            "ip route add local 203.0.113.16/30 dev lo && ip route add local default dev lo table 100 && "
            "ip route add 8.8.8.0/24 dev lo") != 0)
        return CANNOT;
    static const uint32_t wanted[] = {
        UINT32_C(0x0A010203), /* of an interface that is down */
        UINT32_C(0x0A090001), /* not its peer's */
        LOOPBACK,
        UINT32_C(0xC0A84D01),
        UINT32_C(0xC6336407),
        UINT32_C(0xCB007110),
        UINT32_C(0xCB007111),
        UINT32_C(0xCB007112),
        UINT32_C(0xCB007113),
    };
    uint32_t ips[ROOM];
    size_t count = 0;
    if (own_addresses_read(ips, ROOM, &count, NULL) != 0 || count != sizeof wanted / sizeof *wanted)
        return 1;
    for (size_t at = 0; at < count; at++)
        if (ips[at] != wanted[at])
            return 2;
    return 0;
}

static void addresses_of_interfaces_and_local_routes_are_found_and_no_others(void **state)
{
    (void)state;
    in_namespace(read_all);
}

static int read_too_many(void)
{
    uint32_t ips[ROOM];
    size_t count = 0;
    if (run("ip link set lo up && ip route add local 203.0.112.0/20 dev lo") != 0)
        return CANNOT;
    return own_addresses_read(ips, ROOM, &count, NULL) == -E2BIG ? 0 : 1;
}

static void a_local_route_of_more_addresses_than_fit_is_an_error(void **state)
{
    (void)state;
    in_namespace(read_too_many);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(this_machine_s_loopback_is_its_own_and_the_list_ascends),
        cmocka_unit_test(one_address_too_many_is_an_error_and_not_a_shorter_list),
        cmocka_unit_test(a_machine_without_any_address_is_an_error),
#ifndef OMERTAD_PORTABLE /* there is no routing table to read */
        cmocka_unit_test(addresses_of_interfaces_and_local_routes_are_found_and_no_others),
        cmocka_unit_test(a_local_route_of_more_addresses_than_fit_is_an_error),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

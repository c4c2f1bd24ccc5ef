/* Machines that somebody else runs: a NAT at a socket, and a VM played by the test at the other end. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"
#include "tests/vmm/whole.h"

static struct vmm_spec external_spec(void)
{
    struct vmm_spec spec;
    fixture_external_spec(&world, &spec);
    return spec;
}

static struct id open_external(const struct vmm_spec *spec)
{
    struct error err = {0};
    if (vmm_start(world.vmm, spec, &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(fixture_await(&world, &spec->id, VMM_EVENT_OPENED).event.generation, 1);
    return spec->id;
}

/* A VM's end of the cable: bound to a name in the fixture's folder, connected to the machine's socket. */
static int attach(const struct id *id)
{
    struct error err = {0};
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    struct sockaddr_un peer = {.sun_family = AF_UNIX};
    char path[VMM_PATH_BYTES];
    assert_int_equal(vmm_socket_path(world.vmm, id, path, &err), 0);
    snprintf(peer.sun_path, sizeof peer.sun_path, "%.107s", path);
    snprintf(own.sun_path, sizeof own.sun_path, "%.60s/vm.sock", world.root);
    unlink(own.sun_path);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&own, sizeof own), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&peer, sizeof peer), 0);
    return fd;
}

/* An ARP request for the gateway from the leased addresses, which the NAT answers itself. */
static const uint8_t arp[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0,   2,   8,  6,
                                0,    1,    8,    0,    6,    4,    0, 1, 2, 0, 0,   0,   0,  2,
                                192,  168,  64,   2,    0,    0,    0, 0, 0, 0, 192, 168, 64, 1};

static void its_nat_answers_whoever_attaches_first(void **state)
{
    (void)state;
    fixture_open(&world);
    struct vmm_spec spec = external_spec();
    struct id id = open_external(&spec);
    int vm SCOPED_FD = attach(&id);
    uint8_t answer[64];
    assert_int_equal(send(vm, arp, sizeof arp, 0), sizeof arp);
    assert_int_equal(recv(vm, answer, sizeof answer, 0), 42);
    struct nat_stats stats = {0};
    for (int looks = 0; looks < 5000 && stats.frames[NAT_REASON_ARP] == 0; looks++) {
        assert_int_equal(vmm_read_stats(world.vmm, &id, &stats), 0); /* a frame is counted after its answer */
        usleep(1000);
    }
    assert_int_equal(stats.policy_generation, 1);
    assert_int_equal(stats.frames[NAT_REASON_ARP], 1);
    vmm_stop(world.vmm, &id, VMM_END_ASKED);
    struct fixture_event ended = fixture_await_end(&world, &id, VMM_END_ASKED);
    assert_int_equal(ended.event.exit_code, -1);
    assert_int_equal(send(vm, arp, sizeof arp, 0), -1);
    assert_int_equal(fixture_count(&world, &id, VMM_EVENT_SPAWNED), 0);
}

static void a_terminating_violation_removes_its_socket_and_ends_it(void **state)
{
    (void)state;
    fixture_open(&world);
    struct vmm_spec spec = external_spec();
    spec.policy.terminate = true;
    struct id id = open_external(&spec);
    int vm SCOPED_FD = attach(&id);
    uint8_t spoofed[sizeof arp];
    memcpy(spoofed, arp, sizeof arp);
    spoofed[11] = 3; /* another source address */
    assert_int_equal(send(vm, spoofed, sizeof spoofed, 0), sizeof spoofed);
    struct fixture_event ended = fixture_await_end(&world, &id, VMM_END_POLICY_VIOLATION);
    assert_int_equal(ended.violation.reason, NAT_REASON_SOURCE_MAC_SPOOFED);
    assert_true(ended.violation.terminated);
}

static void a_machine_that_was_stopped_before_it_began_leaves_nothing(void **state)
{
    (void)state;
    fixture_open(&world);
    struct vmm_spec spec = external_spec();
    struct error err = {0};
    assert_int_equal(vmm_start(world.vmm, &spec, &err), 0);
    vmm_stop(world.vmm, &spec.id, VMM_END_ASKED);
    fixture_await_end(&world, &spec.id, VMM_END_ASKED);
}

static void there_are_no_more_than_the_configuration_says(void **state)
{
    (void)state;
    world.config.machines_max = 2;
    fixture_open(&world);
    struct error err = {0};
    for (int i = 0; i < 2; i++) {
        struct vmm_spec spec = external_spec();
        open_external(&spec);
    }
    struct vmm_spec spec = external_spec();
    assert_int_equal(vmm_start(world.vmm, &spec, &err), -ENOMEM);
    assert_string_equal(err.message, "there are 2 machines already");
}

static void a_socket_that_cannot_be_bound_fails_the_start(void **state)
{
    (void)state;
    char machines[256];
    fixture_open(&world);
    /* The folder is there but nothing can be made in it. */
    fixture_path(&world, "run/machines", machines);
    assert_int_equal(rmdir(machines), 0);
    struct vmm_spec spec = external_spec();
    struct error err = {0};
    assert_int_equal(vmm_start(world.vmm, &spec, &err), 0);
    struct fixture_event ended = fixture_await_end(&world, &spec.id, VMM_END_FILTER_FAILED);
    assert_non_null(strstr(ended.detail, "cannot make the machine's folder"));
    assert_int_equal(mkdir(machines, 0700), 0);
}

int main(int argc, char **argv)
{
    (void)argc;
    program = argv[0];
    const struct CMUnitTest tests[] = {
        WHOLE(its_nat_answers_whoever_attaches_first),
        WHOLE(a_terminating_violation_removes_its_socket_and_ends_it),
        WHOLE(a_machine_that_was_stopped_before_it_began_leaves_nothing),
        WHOLE(there_are_no_more_than_the_configuration_says),
        WHOLE(a_socket_that_cannot_be_bound_fails_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

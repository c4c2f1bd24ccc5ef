/* Policies of machines that run: external ones, whose NAT is real and whose VM is not needed. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "tests/cmocka.h"
#include "tests/vmm/fake_qemu.h"
#include "tests/vmm/stall.h"
#include "tests/vmm/vmm_fixture.h"

static const char *program;
static struct vmm_fixture world;

static int set_up(void **state)
{
    (void)state;
    fixture_init(&world, program);
    fixture_open(&world);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_done(&world);
    return 0;
}

static struct id open_external(void)
{
    struct error err = {0};
    struct vmm_spec spec;
    fixture_external_spec(&world, &spec);
    if (vmm_start(world.vmm, &spec, &err) != 0)
        fail_msg("%s", err.message);
    fixture_await(&world, &spec.id, VMM_EVENT_OPENED);
    return spec.id;
}

static struct nat_policy policy_of(uint64_t generation)
{
    return (struct nat_policy){.mode = NAT_MODE_FILTERED,
                               .allow_count = 1,
                               .allow = {{.ip = 0xC6336407, .port = 51901}},
                               .generation = generation};
}

static int set(const struct id *id, uint64_t generation, struct error *err)
{
    struct nat_policy policy = policy_of(generation);
    *err = (struct error){0};
    return vmm_set_policy(world.vmm, id, &policy, err);
}

static uint64_t enforced(const struct id *id)
{
    struct nat_stats stats;
    assert_int_equal(vmm_read_stats(world.vmm, id, &stats), 0);
    return stats.policy_generation;
}

static void it_returns_when_the_filter_enforces(void **state)
{
    (void)state;
    struct error err;
    struct id id = open_external();
    for (uint64_t generation = 2; generation < 20; generation++) {
        assert_int_equal(set(&id, generation, &err), 0);
        assert_int_equal(enforced(&id), generation);
    }
}

static void a_policy_that_must_not_be_enforced_leaves_the_one_before(void **state)
{
    (void)state;
    struct error err = {0};
    struct id id = open_external();
    struct nat_policy policy = policy_of(2);
    policy.allow[0].port = 0;
    assert_int_equal(vmm_set_policy(world.vmm, &id, &policy, &err), -EINVAL);
    assert_int_equal(set(&id, 1, &err), -EINVAL); /* not above the one before */
    assert_int_equal(enforced(&id), 1);
    assert_int_equal(set(&id, 2, &err), 0);
}

static void without_a_machine_there_is_nothing_to_set(void **state)
{
    (void)state;
    struct error err;
    struct id nobody = id_new();
    assert_int_equal(set(&nobody, 2, &err), -ENOENT);
    struct id id = open_external();
    vmm_stop(world.vmm, &id, VMM_END_ASKED);
    fixture_await_end(&world, &id, VMM_END_ASKED);
    assert_int_equal(set(&id, 2, &err), -ENOENT);
}

static void before_the_first_policy_there_is_nothing_to_replace(void **state)
{
    (void)state;
    struct error err;
    struct id id = fixture_start(&world, "mute"); /* a hypervisor that never answers: the gate stays shut */
    fixture_await(&world, &id, VMM_EVENT_SPAWNED);
    int result = set(&id, 2, &err);
    assert_true(result == -EAGAIN || result == -ENOENT);
    assert_string_equal(err.message, "the machine's filter enforces nothing now");
    vmm_stop(world.vmm, &id, VMM_END_ASKED);
    fixture_await(&world, &id, VMM_EVENT_ENDED);
}

static void what_is_not_taken_in_time_is_taken_back(void **state)
{
    (void)state;
    struct error err;
    struct stall stall;
    struct id id = open_external();
    if (!stall_begin(&stall))
        skip();
    int result = set(&id, 2, &err);
    uint64_t meanwhile = enforced(&id);
    stall_end(&stall);
    assert_int_equal(result, -ETIMEDOUT);
    assert_int_equal(meanwhile, 1);
    usleep(50000); /* the thread runs, and finds nothing */
    assert_int_equal(enforced(&id), 1);
    assert_int_equal(set(&id, 2, &err), 0); /* its number is free again */
    assert_int_equal(enforced(&id), 2);
}

struct setter {
    struct id id;
    int result;
    struct error err;
};

static void *run_setter(void *context)
{
    struct setter *setter = context;
    setter->result = set(&setter->id, 2, &setter->err);
    return NULL;
}

static void a_machine_that_ends_meanwhile_is_not_waited_for(void **state)
{
    (void)state;
    struct setter setter;
    int tries = 0;
    do {
        pthread_t thread;
        struct stall stall;
        setter = (struct setter){.id = open_external()};
        if (!stall_begin(&stall))
            skip();
        assert_int_equal(pthread_create(&thread, NULL, run_setter, &setter), 0);
        usleep(50000);
        vmm_stop(world.vmm, &setter.id, VMM_END_ASKED);
        usleep(50000);
        stall_end(&stall);
        pthread_join(thread, NULL);
        fixture_await_end(&world, &setter.id, VMM_END_ASKED);
        /* On a busy machine it may have come after the end, or have waited its time meanwhile: once more then. */
    } while ((setter.result == -ENOENT || setter.result == -ETIMEDOUT) && ++tries < 20);
    /* The NAT thread finds the policy and the order to end at once: either way the machine is gone then. */
    assert_true(setter.result == 0 || setter.result == -ECANCELED);
    assert_int_equal(set(&setter.id, 3, &setter.err), -ENOENT);
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (fake_qemu_is_meant(program))
        return fake_qemu_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_returns_when_the_filter_enforces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_policy_that_must_not_be_enforced_leaves_the_one_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_machine_there_is_nothing_to_set, set_up, tear_down),
        cmocka_unit_test_setup_teardown(before_the_first_policy_there_is_nothing_to_replace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_taken_in_time_is_taken_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_machine_that_ends_meanwhile_is_not_waited_for, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "vmm/totals.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "tests/cmocka.h"
#include "tests/nat/lab.h"
#include "tests/nat/link.h"

static struct vmm vmm;
static struct vmm_spec spec;

/* A machine in the list that has the NAT of a lab. */
static struct machine *make_machine(const struct lab *lab)
{
    spec.id = id_new();
    struct machine *machine = machine_create(&spec);
    assert_non_null(machine);
    machine->nat = lab->nat;
    static struct machine *list[1];
    vmm.machines = list;
    vmm.machines[vmm.machine_count++] = machine;
    return machine;
}

static int set_up(void **state)
{
    (void)state;
    memset(&vmm, 0, sizeof vmm);
    pthread_mutex_init(&vmm.lock, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pthread_mutex_destroy(&vmm.lock);
    return 0;
}

static struct nat_stats read_totals(size_t machines)
{
    struct nat_stats totals;
    size_t count;
    vmm_read_totals(&vmm, &totals, &count);
    assert_int_equal(count, machines);
    return totals;
}

static void without_machines_all_is_zero(void **state)
{
    (void)state;
    static const struct nat_stats nothing;
    struct nat_stats totals = read_totals(0);
    assert_memory_equal(totals.frames, nothing.frames, sizeof totals.frames);
    assert_int_equal(totals.flows_open, 0);
}

static void what_a_machine_counted_stays_when_it_ends(void **state)
{
    (void)state;
    struct lab lab = lab_open();
    struct machine *machine = make_machine(&lab);
    lab_open_flow(&lab);
    lab_await(&lab, NAT_REASON_ALLOWED, 1);
    struct nat_stats before = read_totals(1);
    assert_int_equal(before.frames[NAT_REASON_ALLOWED], 1);
    assert_true(before.bytes[NAT_REASON_ALLOWED] > 42);
    assert_int_equal(before.flows_open, 1);
    assert_int_equal(before.flows_opened, 1);
    vmm.ended.frames[NAT_REASON_ALLOWED] = 5; /* of an earlier machine */

    totals_keep(&vmm, machine);
    assert_null(machine->nat);
    struct nat_stats after = read_totals(1);
    assert_int_equal(after.frames[NAT_REASON_ALLOWED], 6);
    assert_int_equal(after.bytes[NAT_REASON_ALLOWED], before.bytes[NAT_REASON_ALLOWED]);
    assert_int_equal(after.flows_opened, 1);
    assert_int_equal(after.flows_open, 0);

    totals_keep(&vmm, machine); /* nothing is left of it to keep */
    vmm.machine_count = 0;
    after = read_totals(0);
    assert_int_equal(after.frames[NAT_REASON_ALLOWED], 6);

    lab.nat = NULL;
    lab_stop(&lab);
    machine_free(machine);
}

int main(void)
{
    int rc = sodium_init() < 0 ? -EIO : link_enter();
    if (rc < 0) {
        fprintf(stderr, "test_totals: cannot begin: %s\n", strerror(-rc));
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_machines_all_is_zero, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_machine_counted_stays_when_it_ends, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

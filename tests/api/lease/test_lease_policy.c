#include "api/lease/lease_policy.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/lease/journal.h"
#include "tests/cmocka.h"
#include "tests/store/store_fixture.h"
#include "tests/vmm/fake_qemu.h"
#include "tests/vmm/stall.h"
#include "tests/vmm/vmm_fixture.h"

enum { TICK_US = 5000 };

#define MOVED "198.51.100.8:51900"

static const char *program;

/* A service over a real NAT for a VM that nobody runs. */
struct policy_world {
    struct store_fixture *fixture;
    struct vmm_fixture world;
    struct journal *journal;
    struct lease_service service;
    struct store_lease lease; /* runs; its first policy is in force */
};

static struct store_lease get(const struct policy_world *it)
{
    struct store_lease lease;
    struct error err = {0};
    assert_works(store_lease_get(it->fixture->store, it->lease.id.text, &lease, &err), err);
    return lease;
}

/* Waits until the row says so. */
static struct store_lease await(const struct policy_world *it, enum lease_state state, uint64_t observed)
{
    struct store_lease lease = get(it);
    for (int waited_us = 0; waited_us < FIXTURE_WAIT_MS * 1000; waited_us += TICK_US) {
        if (lease.state == state && lease.policy_observed == observed)
            return lease;
        usleep(TICK_US);
        lease = get(it);
    }
    fail_msg("it is %s with policy %llu", lease_state_name(lease.state), (unsigned long long)lease.policy_observed);
    return lease;
}

static void open_world(struct store_fixture *fixture, struct policy_world *it)
{
    uint8_t unused[VMM_KEY_BYTES];
    struct store_resources capacity = fixture_capacity(4);
    struct error err = {0};
    struct lease_request request = {
        .external = true,
        .resources = {.leases = 1, .vcpus = 1, .memory_mib = 1},
        .network = {.mode = MODE_FILTERED},
        .tunnel = {.consumer = {.ip = UINT32_C(0xC6336407), .port = 51900},
                   .consumer_tunnel_ip = UINT32_C(0x0A630001),
                   .vm_tunnel_ip = UINT32_C(0x0A630002)},
        .labels = "{}",
    };
    it->fixture = fixture;
    /* SQLite opens some of its files when they are first used; fixture_done() counts descriptors. */
    assert_works(store_event_append(fixture->store, "test.begun", NULL, "{}", 1, &err), err);
    assert_int_equal(store_lease_get(fixture->store, fixture_lease(1).id.text, &it->lease, &err), -ENOENT);
    assert_int_equal(fixture_sql(fixture, "SELECT 1"), SQLITE_OK); /* it keeps that descriptor for the next look */
    fixture_init(&it->world, program);
    assert_works(lease_service_init(&it->service, fixture->store, NULL, &capacity, &err), err);
    assert_works(journal_start(&it->service, &it->journal, &err), err);
    it->world.config.on_event = journal_event;
    it->world.config.context = it->journal;
    fixture_open(&it->world);
    lease_service_attach(&it->service, it->world.vmm);
    vmm_key_pair(unused, request.tunnel.consumer_public_key);
    assert_works(lease_service_create(&it->service, &request, NULL, &it->lease, &err), err);
    it->lease = await(it, LEASE_RUNNING, 1);
}

static void close_world(struct policy_world *it)
{
    if (it->service.vmm != NULL)
        it->world.vmm = lease_service_detach(&it->service);
    fixture_done(&it->world);
    journal_stop(it->journal);
    lease_service_done(&it->service);
}

/* As a request would: on the lease as it was read. */
static int set(struct policy_world *it, const struct store_lease *read, struct store_lease *ret_lease,
               struct error *err)
{
    static const struct nat_policy policy = {.mode = NAT_MODE_CONNTRACK,
                                             .terminate = true,
                                             .allow_count = 1,
                                             .allow = {{.ip = UINT32_C(0xC6336408), .port = 51900}},
                                             .limits = {.egress_packets_per_s = 1000}};
    *err = (struct error){0};
    return lease_policy_set(&it->service, read, &policy, ret_lease, err);
}

static uint64_t enforced(struct policy_world *it)
{
    struct nat_stats stats;
    assert_int_equal(lease_service_stats(&it->service, &it->lease.id, &stats), 0);
    return stats.policy_generation;
}

static void the_row_that_is_answered_says_what_the_filter_does(void **state)
{
    static struct policy_world it;
    struct error err;
    struct store_lease changed;
    open_world(*state, &it);
    assert_works(set(&it, &it.lease, &changed, &err), err);
    assert_int_equal(enforced(&it), 2);
    assert_int_equal(changed.policy_observed, 2);
    assert_int_equal(changed.policy_desired, 2);
    assert_string_equal(changed.mode, "conntrack");
    assert_string_equal(changed.on_violation, "terminate");
    assert_int_equal(changed.egress_packets_per_s, 1000);
    assert_string_equal(changed.allowlist, MOVED);
    assert_string_equal(changed.consumer_endpoint, MOVED);
    assert_string_equal(changed.vm_endpoint, "198.51.100.7:51900");
    close_world(&it);
}

static void a_lease_that_was_read_before_another_change_is_stale(void **state)
{
    static struct policy_world it;
    struct error err;
    struct store_lease changed;
    open_world(*state, &it);
    assert_works(set(&it, &it.lease, &changed, &err), err);
    assert_int_equal(set(&it, &it.lease, &changed, &err), -ESTALE);
    assert_int_equal(enforced(&it), 2);
    assert_int_equal(get(&it).policy_desired, 2);
    close_world(&it);
}

static void a_change_waits_for_its_turn_but_not_for_long(void **state)
{
    static struct policy_world it;
    struct error err;
    struct store_lease changed;
    open_world(*state, &it);
    pthread_mutex_lock(&it.service.policy_turn);
    assert_int_equal(set(&it, &it.lease, &changed, &err), -EBUSY);
    assert_string_equal(err.slug, "policy-busy");
    pthread_mutex_unlock(&it.service.policy_turn);
    assert_int_equal(get(&it).policy_desired, 1);
    assert_works(set(&it, &it.lease, &changed, &err), err);
    close_world(&it);
}

static void what_the_filter_does_not_take_is_withdrawn_and_said_so(void **state)
{
    static struct policy_world it;
    struct error err;
    struct stall stall;
    struct store_lease changed;
    open_world(*state, &it);
    bool stands = stall_begin(&stall);
    int result = 0;
    if (stands) {
        result = set(&it, &it.lease, &changed, &err);
        stall_end(&stall);
    }
    if (stands) {
        assert_int_equal(result, -ETIMEDOUT);
        assert_string_equal(err.slug, "policy-not-enforced");
        assert_non_null(strstr(err.message, "Policy generation 1 stays in force: "));
        struct store_lease lease = get(&it);
        assert_int_equal(lease.policy_desired, 1);
        assert_int_equal(lease.policy_observed, 1);
        assert_string_equal(lease.mode, "filtered");
        assert_works(set(&it, &lease, &changed, &err), err);
        assert_int_equal(changed.policy_observed, 2);
    }
    close_world(&it);
    if (!stands)
        skip();
}

static void a_lease_that_ended_or_whose_daemon_ends_is_refused(void **state)
{
    static struct policy_world it;
    struct error err;
    struct store_lease ended;
    struct store_lease changed;
    open_world(*state, &it);
    it.world.vmm = lease_service_detach(&it.service);
    assert_int_equal(set(&it, &it.lease, &changed, &err), -ESHUTDOWN);
    assert_int_equal(get(&it).policy_desired, 1);
    lease_service_attach(&it.service, it.world.vmm);
    assert_works(lease_service_release(&it.service, it.lease.id.text, &ended, &err), err);
    await(&it, LEASE_TERMINATED, 0);
    assert_int_equal(set(&it, &it.lease, &changed, &err), -EALREADY);
    close_world(&it);
}

/* The row cannot say what is in force; the answer does, and the row does as soon as it can. */
static void a_store_that_fails_while_the_filter_enforces_is_caught_up_with(void **state)
{
    static struct policy_world it;
    struct error err;
    struct store_lease changed;
    open_world(*state, &it);
    assert_int_equal(fixture_sql(it.fixture, "CREATE TRIGGER full BEFORE UPDATE OF policy_observed ON leases"
                                             " BEGIN SELECT RAISE(FAIL, 'full'); END"),
                     SQLITE_OK);
    assert_true(set(&it, &it.lease, &changed, &err) < 0);
    assert_string_equal(err.slug, "store-unavailable");
    assert_non_null(strstr(err.message, "Policy generation 2 is in force"));
    assert_int_equal(enforced(&it), 2);
    struct store_lease lease = get(&it);
    assert_int_equal(lease.policy_observed, 1);
    assert_int_equal(lease.policy_desired, 2);
    assert_string_equal(lease.mode, "filtered");
    assert_int_equal(fixture_sql(it.fixture, "DROP TRIGGER full"), SQLITE_OK);
    /* Whether the machine's own event or the next change finds it first. */
    int result = set(&it, &lease, &changed, &err);
    assert_int_equal(result, -ESTALE);
    lease = get(&it);
    assert_int_equal(lease.policy_observed, 2);
    assert_string_equal(lease.mode, "conntrack");
    assert_string_equal(lease.consumer_endpoint, MOVED);
    assert_works(set(&it, &lease, &changed, &err), err);
    assert_int_equal(changed.policy_observed, 3);
    close_world(&it);
}

/* The withdrawal of a change that failed did not reach the store: the next one is not refused for it. */
static void a_proposal_that_was_left_behind_is_settled_by_the_next_change(void **state)
{
    static struct policy_world it;
    struct error err = {0};
    struct store_lease changed;
    struct store_policy left = {.generation = 2,
                                .mode = "sampled",
                                .sampling_ppm = 5,
                                .on_violation = "drop",
                                .allowlist = "198.51.100.9:1",
                                .consumer_endpoint = "198.51.100.9:1"};
    open_world(*state, &it);
    assert_works(store_policy_propose(it.fixture->store, it.lease.id.text, &left, &err), err);
    struct store_lease lease = get(&it);
    assert_works(set(&it, &lease, &changed, &err), err);
    assert_int_equal(changed.policy_observed, 2);
    assert_string_equal(changed.mode, "conntrack");
    assert_string_equal(changed.consumer_endpoint, MOVED);
    close_world(&it);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(int argc, char **argv)
{
    program = argv[0];
    if (fake_qemu_is_meant(program))
        return fake_qemu_main(argc, argv);
    const struct CMUnitTest tests[] = {
        WITH_STORE(the_row_that_is_answered_says_what_the_filter_does),
        WITH_STORE(a_lease_that_was_read_before_another_change_is_stale),
        WITH_STORE(a_change_waits_for_its_turn_but_not_for_long),
        WITH_STORE(what_the_filter_does_not_take_is_withdrawn_and_said_so),
        WITH_STORE(a_lease_that_ended_or_whose_daemon_ends_is_refused),
        WITH_STORE(a_store_that_fails_while_the_filter_enforces_is_caught_up_with),
        WITH_STORE(a_proposal_that_was_left_behind_is_settled_by_the_next_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "tests/store/store_fixture.h"

#define MOVED "203.0.113.9:51901"
#define TOLD "203.0.113.5:51900"

static struct store_policy another_policy(uint64_t generation)
{
    return (struct store_policy){
        .generation = generation,
        .mode = "sampled",
        .sampling_ppm = 20000,
        .on_violation = "terminate",
        .require_wireguard = true,
        .egress_bits_per_s = 1000001,
        .ingress_bits_per_s = 1000002,
        .egress_packets_per_s = 103,
        .ingress_packets_per_s = 104,
        .allowlist = MOVED " 203.0.113.10:7",
        .consumer_endpoint = MOVED,
    };
}

static struct store_lease get(const struct store_fixture *fixture, struct id id)
{
    struct store_lease lease;
    struct error err = {0};
    assert_works(store_lease_get(fixture->store, id.text, &lease, &err), err);
    return lease;
}

/* A lease that runs, and whose filter enforces its first policy. */
static struct id run_lease(struct store_fixture *fixture, unsigned n)
{
    static const enum lease_state line[] = {LEASE_PREPARING, LEASE_STARTING, LEASE_RUNNING};
    struct error err = {0};
    struct id id = fixture_reserve(fixture, n);
    for (size_t i = 0; i < sizeof line / sizeof line[0]; i++) {
        struct store_change change = {.to = line[i]};
        assert_works(store_lease_transition(fixture->store, id.text, &change, &err), err);
    }
    assert_works(store_lease_policy(fixture->store, id.text, 1, 1000, &err), err);
    return id;
}

static void propose(struct store_fixture *fixture, struct id id, uint64_t generation)
{
    struct error err = {0};
    struct store_policy policy = another_policy(generation);
    assert_works(store_policy_propose(fixture->store, id.text, &policy, &err), err);
}

static int refuses(struct store_fixture *fixture, struct id id, const struct store_policy *policy, const char *slug)
{
    struct error err = {0};
    int64_t before = fixture_number(fixture, "SELECT total(generation) FROM leases");
    int result = store_policy_propose(fixture->store, id.text, policy, &err);
    if (slug != NULL)
        assert_string_equal(err.slug, slug);
    assert_int_equal(err.code, result);
    assert_int_equal(fixture_number(fixture, "SELECT total(generation) FROM leases"), before);
    return result;
}

static int64_t proposed(const struct store_fixture *fixture)
{
    return fixture_number(fixture, "SELECT count(*) FROM policies");
}

static void what_is_proposed_changes_nothing_that_is_in_force(void **state)
{
    struct store_fixture *fixture = *state;
    struct id id = run_lease(fixture, 1);
    struct store_lease before = get(fixture, id);
    propose(fixture, id, 2);
    struct store_lease after = get(fixture, id);
    assert_int_equal(after.generation, before.generation + 1);
    assert_int_equal(after.policy_desired, 2);
    after.generation = before.generation;
    after.policy_desired = before.policy_desired;
    fixture_assert_same_lease(&before, &after);
    assert_string_equal(after.allowlist, "");
    assert_string_equal(after.vm_endpoint, "");
    assert_int_equal(proposed(fixture), 1);
}

static void an_enforced_policy_takes_the_row_s_place_whole(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = run_lease(fixture, 1);
    propose(fixture, id, 2);
    assert_works(store_lease_policy(fixture->store, id.text, 2, 2000, &err), err);
    struct store_lease lease = get(fixture, id);
    assert_int_equal(lease.policy_desired, 2);
    assert_int_equal(lease.policy_observed, 2);
    assert_string_equal(lease.mode, "sampled");
    assert_int_equal(lease.sampling_ppm, 20000);
    assert_string_equal(lease.on_violation, "terminate");
    assert_true(lease.require_wireguard);
    assert_int_equal(lease.egress_bits_per_s, 1000001);
    assert_int_equal(lease.ingress_bits_per_s, 1000002);
    assert_int_equal(lease.egress_packets_per_s, 103);
    assert_int_equal(lease.ingress_packets_per_s, 104);
    assert_string_equal(lease.allowlist, MOVED " 203.0.113.10:7");
    assert_string_equal(lease.consumer_endpoint, MOVED);
    assert_string_equal(lease.vm_endpoint, TOLD);
    assert_int_equal(proposed(fixture), 0);
    assert_string_equal(
        fixture_text(fixture, "SELECT type || at_ms || data FROM events ORDER BY sequence DESC LIMIT 1"),
        "filter.policy_applied2000{\"generation\":2}");

    /* Said again, by the machine's own event: nothing changes, nothing is told twice. */
    assert_works(store_lease_policy(fixture->store, id.text, 2, 2001, &err), err);
    assert_int_equal(get(fixture, id).generation, lease.generation);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'filter.policy_applied'"), 1);
}

static void a_consumer_that_moves_twice_is_still_what_the_vm_was_told(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = run_lease(fixture, 1);
    for (uint64_t generation = 2; generation <= 3; generation++) {
        struct store_policy policy = another_policy(generation);
        snprintf(policy.consumer_endpoint, sizeof policy.consumer_endpoint, "203.0.113.%u:9", (unsigned)generation);
        assert_works(store_policy_propose(fixture->store, id.text, &policy, &err), err);
        assert_works(store_lease_policy(fixture->store, id.text, generation, 2000, &err), err);
        assert_string_equal(get(fixture, id).consumer_endpoint, policy.consumer_endpoint);
        assert_string_equal(get(fixture, id).vm_endpoint, TOLD);
    }
}

static void another_lease_s_proposal_is_not_touched(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id one = run_lease(fixture, 1);
    struct id two = run_lease(fixture, 2);
    propose(fixture, one, 2);
    propose(fixture, two, 2);
    assert_works(store_lease_policy(fixture->store, one.text, 2, 2000, &err), err);
    assert_int_equal(proposed(fixture), 1);
    assert_string_equal(get(fixture, two).mode, "filtered");
    assert_int_equal(get(fixture, two).policy_observed, 1);
}

static void a_change_that_fails_half_way_leaves_all_as_it_was(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = run_lease(fixture, 1);
    propose(fixture, id, 2);
    /* The last statement of the take-over fails, after the lease's and the peer's rows were written. */
    assert_int_equal(fixture_sql(fixture, "CREATE TRIGGER refuse BEFORE DELETE ON policies"
                                          " BEGIN SELECT RAISE(ABORT, 'no'); END"),
                     SQLITE_OK);
    assert_true(store_lease_policy(fixture->store, id.text, 2, 2000, &err) < 0);
    struct store_lease lease = get(fixture, id);
    assert_string_equal(lease.mode, "filtered");
    assert_string_equal(lease.consumer_endpoint, TOLD);
    assert_int_equal(lease.policy_observed, 1);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'filter.policy_applied'"), 0);
    assert_int_equal(fixture_sql(fixture, "DROP TRIGGER refuse"), SQLITE_OK);
    assert_works(store_lease_policy(fixture->store, id.text, 2, 2000, &err), err); /* and is taken the next time */
    assert_string_equal(get(fixture, id).consumer_endpoint, MOVED);
}

static void a_withdrawn_policy_leaves_no_trace_and_its_number_is_free(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = run_lease(fixture, 1);
    propose(fixture, id, 2);
    for (int twice = 0; twice < 2; twice++) {
        assert_works(store_policy_withdraw(fixture->store, id.text, 2, &err), err);
        assert_int_equal(get(fixture, id).policy_desired, 1);
        assert_int_equal(proposed(fixture), 0);
    }
    propose(fixture, id, 2);
    assert_works(store_lease_policy(fixture->store, id.text, 2, 2000, &err), err);
    assert_works(store_policy_withdraw(fixture->store, id.text, 2, &err), err); /* too late: it is in force */
    assert_int_equal(get(fixture, id).policy_desired, 2);
    assert_string_equal(get(fixture, id).mode, "sampled");
}

static void what_cannot_follow_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_policy policy = another_policy(2);
    struct id waiting = fixture_reserve(fixture, 9);
    assert_int_equal(refuses(fixture, waiting, &policy, "lease-not-running"), -EAGAIN);
    assert_int_equal(refuses(fixture, fixture_lease(8).id, &policy, "lease-not-found"), -ENOENT);

    struct id id = run_lease(fixture, 1);
    for (uint64_t generation = 1; generation <= 3; generation += 2) {
        policy.generation = generation;
        assert_int_equal(refuses(fixture, id, &policy, NULL), -ESTALE);
    }
    propose(fixture, id, 2);
    policy.generation = 2;
    assert_int_equal(refuses(fixture, id, &policy, NULL), -ESTALE);
    policy.generation = 3; /* follows what is proposed, which is not in force */
    assert_int_equal(refuses(fixture, id, &policy, NULL), -ESTALE);
    assert_int_equal(proposed(fixture), 1);

    struct store_end end = fixture_end();
    assert_works(store_lease_terminate(fixture->store, id.text, &end, &err), err);
    assert_int_equal(refuses(fixture, id, &policy, NULL), -EALREADY);
    assert_int_equal(store_policy_withdraw(fixture->store, id.text, 2, &err), -EALREADY);
    assert_int_equal(store_policy_withdraw(fixture->store, fixture_lease(8).id.text, 2, &err), -ENOENT);
}

static void two_leases_have_no_common_consumer_after_a_move_either(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = run_lease(fixture, 1);
    struct store_lease other = fixture_lease(2);
    struct store_resources capacity = fixture_capacity(8);
    set_text(other.consumer_public_key, get(fixture, id).consumer_public_key);
    set_text(other.consumer_endpoint, MOVED);
    assert_works(store_lease_reserve(fixture->store, &other, &capacity, &err), err);
    struct store_policy policy = another_policy(2);
    assert_int_equal(refuses(fixture, id, &policy, "peer-in-use"), -EEXIST);
    set_text(policy.consumer_endpoint, "203.0.113.9:51902");
    assert_works(store_policy_propose(fixture->store, id.text, &policy, &err), err);
}

/* A proposal is between a daemon and its filter; the next daemon starts with what was in force, under the next number. */
static void what_was_proposed_to_a_daemon_that_is_gone_is_gone(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_change recovering = {.to = LEASE_RECOVERING};
    struct store_change running = {.to = LEASE_RUNNING};
    struct id id = run_lease(fixture, 1);
    propose(fixture, id, 2);
    store_fixture_close(fixture);
    store_fixture_open(fixture);
    assert_int_equal(proposed(fixture), 0);
    struct store_lease lease = get(fixture, id);
    assert_string_equal(lease.mode, "filtered");
    assert_string_equal(lease.consumer_endpoint, TOLD);

    assert_works(store_lease_transition(fixture->store, id.text, &recovering, &err), err);
    assert_works(store_lease_policy(fixture->store, id.text, 2, 3000, &err), err);
    assert_works(store_lease_transition(fixture->store, id.text, &running, &err), err);
    assert_string_equal(get(fixture, id).mode, "filtered");
    propose(fixture, id, 3);
    assert_works(store_lease_policy(fixture->store, id.text, 3, 3001, &err), err);
    assert_string_equal(get(fixture, id).mode, "sampled");
}

/* A policy's own endpoint, by its generation. */
static const char *endpoint_of(uint64_t generation, char ret_text[static STORE_ADDRESS_BYTES])
{
    snprintf(ret_text, STORE_ADDRESS_BYTES, "203.0.113.5:%llu", 51899 + (unsigned long long)generation);
    return ret_text;
}

/** struct watch - A thread that reads a lease while another one replaces its policy. */
struct watch {
    struct store *store;
    struct id id;
    atomic_bool stop;
    size_t looks;
    size_t mixed; /* documents that belong to no policy as a whole */
    uint64_t newest;
};

static bool is_whole(const struct store_lease *lease)
{
    char endpoint[STORE_ADDRESS_BYTES];
    endpoint_of(lease->policy_observed, endpoint);
    const bool first = lease->policy_observed == 1;
    return strcmp(lease->consumer_endpoint, endpoint) == 0 &&
           (first ? lease->allowlist[0] == '\0' : strcmp(lease->allowlist, endpoint) == 0) &&
           lease->sampling_ppm == (first ? 0 : lease->policy_observed) && (lease->vm_endpoint[0] == '\0') == first &&
           lease->policy_desired - lease->policy_observed <= 1;
}

static int look_at(void *context, const struct store_lease *lease)
{
    struct watch *watch = context;
    watch->looks++;
    watch->mixed += !is_whole(lease) || lease->policy_observed < watch->newest;
    watch->newest = lease->policy_observed;
    return 0;
}

static void *watch_lease(void *context)
{
    struct watch *watch = context;
    const struct store_filter filter = {.lease_id = watch->id.text, .limit = 10};
    while (!atomic_load(&watch->stop)) {
        struct store_lease lease;
        if (store_lease_get(watch->store, watch->id.text, &lease, NULL) != 0)
            break;
        look_at(watch, &lease);
        if (store_lease_list(watch->store, &filter, look_at, watch, NULL) != 0)
            break;
    }
    return NULL;
}

static void whoever_reads_meanwhile_sees_one_policy_whole(void **state)
{
    enum { POLICIES = 300 };
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct watch watch = {.store = fixture->store, .id = run_lease(fixture, 1)};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, watch_lease, &watch), 0);
    for (uint64_t generation = 2; generation < POLICIES; generation++) {
        struct store_policy policy = another_policy(generation);
        policy.sampling_ppm = (uint32_t)generation;
        endpoint_of(generation, policy.consumer_endpoint);
        endpoint_of(generation, policy.allowlist);
        assert_works(store_policy_propose(fixture->store, watch.id.text, &policy, &err), err);
        assert_works(store_lease_policy(fixture->store, watch.id.text, generation, 2000, &err), err);
    }
    atomic_store(&watch.stop, true);
    pthread_join(thread, NULL);
    assert_true(watch.looks > POLICIES / 10);
    assert_int_equal(watch.mixed, 0);
}

static void an_enforced_policy_outlives_its_daemon(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = run_lease(fixture, 1);
    propose(fixture, id, 2);
    assert_works(store_lease_policy(fixture->store, id.text, 2, 2000, &err), err);
    struct store_lease before = get(fixture, id);
    store_fixture_close(fixture);
    store_fixture_open(fixture);
    struct store_lease after = get(fixture, id);
    fixture_assert_same_lease(&before, &after);
    assert_string_equal(after.allowlist, before.allowlist);
    assert_string_equal(after.vm_endpoint, TOLD);
}

static void words_that_are_not_the_api_s_are_refused(void **state)
{
    struct store_fixture *fixture = *state;
    struct id id = run_lease(fixture, 1);
    struct store_policy policy = another_policy(2);
    set_text(policy.mode, "direct");
    assert_true(refuses(fixture, id, &policy, NULL) < 0);
    policy = another_policy(2);
    set_text(policy.on_violation, "ask");
    assert_true(refuses(fixture, id, &policy, NULL) < 0);
    policy = another_policy(2);
    policy.sampling_ppm = 1000001;
    assert_true(refuses(fixture, id, &policy, NULL) < 0);
    policy = another_policy(2);
    policy.allowlist[0] = '\0';
    assert_true(refuses(fixture, id, &policy, NULL) < 0);
    assert_int_equal(proposed(fixture), 0);
    assert_int_equal(get(fixture, id).policy_desired, 1);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(what_is_proposed_changes_nothing_that_is_in_force),
        WITH_STORE(an_enforced_policy_takes_the_row_s_place_whole),
        WITH_STORE(a_consumer_that_moves_twice_is_still_what_the_vm_was_told),
        WITH_STORE(another_lease_s_proposal_is_not_touched),
        WITH_STORE(a_change_that_fails_half_way_leaves_all_as_it_was),
        WITH_STORE(a_withdrawn_policy_leaves_no_trace_and_its_number_is_free),
        WITH_STORE(what_cannot_follow_is_refused),
        WITH_STORE(two_leases_have_no_common_consumer_after_a_move_either),
        WITH_STORE(what_was_proposed_to_a_daemon_that_is_gone_is_gone),
        WITH_STORE(whoever_reads_meanwhile_sees_one_policy_whole),
        WITH_STORE(an_enforced_policy_outlives_its_daemon),
        WITH_STORE(words_that_are_not_the_api_s_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

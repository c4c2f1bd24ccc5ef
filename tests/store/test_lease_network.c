/* The network part of a lease's row. */
#include <errno.h>
#include <string.h>

#include "tests/store/store_fixture.h"

static struct store_lease get(struct store_fixture *fixture, struct id id)
{
    struct store_lease lease;
    struct error err = {0};
    assert_works(store_lease_get(fixture->store, id.text, &lease, &err), err);
    return lease;
}

static void what_a_lease_s_network_promises_reads_back_as_it_was_given(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_resources capacity = fixture_capacity(1);
    struct store_lease lease = fixture_lease(1);
    set_text(lease.mode, "sampled");
    lease.sampling_ppm = 1000000;
    lease.boot_isolation[0] = '\0';
    set_text(lease.boot_isolation, "offline_packages");
    lease.on_violation[0] = '\0';
    set_text(lease.on_violation, "terminate");
    lease.require_wireguard = true;
    lease.egress_bits_per_s = INT64_MAX;
    lease.ingress_bits_per_s = 2;
    lease.egress_packets_per_s = 3;
    lease.ingress_packets_per_s = 4;
    assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err);
    lease.generation = 1;
    lease.exit_code = -1;
    set_text(lease.tunnel_state, "waiting");
    struct store_lease kept = get(fixture, lease.id);
    fixture_assert_same_lease(&kept, &lease);
}

static void network_words_that_are_not_the_api_s_are_refused(void **state)
{
    struct store_fixture *fixture = *state;
    struct store_resources capacity = fixture_capacity(1);
    for (unsigned i = 0; i < 4; i++) {
        struct error err = {0};
        struct store_lease lease = fixture_lease(1);
        if (i == 0)
            set_text(lease.boot_isolation, "none");
        else if (i == 1)
            set_text(lease.on_violation, "ignore");
        else if (i == 2)
            lease.sampling_ppm = 1000001;
        else
            lease.ingress_packets_per_s = (uint64_t)INT64_MAX + 1;
        if (store_lease_reserve(fixture->store, &lease, &capacity, &err) != -EINVAL)
            fail_msg("case %u: %d %s", i, err.code, err.message);
    }
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM leases"), 0);
}

static void an_exposed_window_is_noted_and_told(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = fixture_reserve(fixture, 1);
    assert_works(store_lease_exposed(fixture->store, id.text, 34567, 99, &err), err);
    struct store_lease lease = get(fixture, id);
    assert_int_equal(lease.exposed_ms, 34567);
    assert_int_equal(lease.generation, 2);
    assert_string_equal(fixture_text(fixture, "SELECT type || at_ms || data || lease_id FROM events"
                                              " WHERE sequence = 2") +
                            strlen("lease.exposed99{\"exposed_ms\":34567}"),
                        id.text);
    assert_int_equal(store_lease_exposed(fixture->store, "gone", 1, 1, &err), -ENOENT);
}

static void an_external_lease_opens_in_one_step_through_every_state(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_lease row = fixture_lease(1);
    const struct store_resources capacity = fixture_capacity(8);
    snprintf(row.attachment, sizeof row.attachment, "external");
    row.image[0] = '\0';
    row.vm_public_key[0] = '\0';
    assert_int_equal(store_lease_reserve(fixture->store, &row, &capacity, &err), -EINVAL); /* it needs a socket */
    snprintf(row.socket_path, sizeof row.socket_path, "/run/x/frames.sock");
    assert_works(store_lease_reserve(fixture->store, &row, &capacity, &err), err);
    assert_works(store_lease_opened(fixture->store, row.id.text, 1, 77, &err), err);
    struct store_lease lease = get(fixture, row.id);
    assert_string_equal(lease.attachment, "external");
    assert_string_equal(lease.socket_path, "/run/x/frames.sock");
    assert_string_equal(lease.image, "");
    assert_int_equal(lease.state, LEASE_RUNNING);
    assert_int_equal(lease.policy_observed, 1);
    assert_int_equal(lease.started_ms, 77);
    assert_string_equal(fixture_text(fixture, "SELECT group_concat(type || coalesce(data ->> 'to', '')) FROM events"),
                        "lease.created,lease.state_changedpreparing,lease.state_changedstarting,filter.armed,"
                        "lease.state_changedrunning");
    assert_int_equal(store_lease_opened(fixture->store, row.id.text, 1, 78, &err), -EINVAL);
    assert_int_equal(get(fixture, row.id).generation, lease.generation);
    assert_int_equal(store_lease_opened(fixture->store, "gone", 1, 1, &err), -ENOENT);
}

static void an_external_lease_has_no_image_and_never_the_mode_direct(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    const struct store_resources capacity = fixture_capacity(8);
    struct store_lease row = fixture_lease(1);
    snprintf(row.socket_path, sizeof row.socket_path, "/run/x/frames.sock");
    assert_int_equal(store_lease_reserve(fixture->store, &row, &capacity, &err), -EINVAL); /* qemu has no socket */
    snprintf(row.attachment, sizeof row.attachment, "external");
    snprintf(row.mode, sizeof row.mode, "direct");
    assert_int_equal(store_lease_reserve(fixture->store, &row, &capacity, &err), -EINVAL);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM leases"), 0);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(what_a_lease_s_network_promises_reads_back_as_it_was_given),
        WITH_STORE(network_words_that_are_not_the_api_s_are_refused),
        WITH_STORE(an_exposed_window_is_noted_and_told),
        WITH_STORE(an_external_lease_opens_in_one_step_through_every_state),
        WITH_STORE(an_external_lease_has_no_image_and_never_the_mode_direct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

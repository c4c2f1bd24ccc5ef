#include "tests/store/store_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct store_process nobody = {1, 1, "", "tcg"};

static struct store_lease get(struct store_fixture *fixture, struct id id)
{
    struct store_lease lease;
    struct error err = {0};
    assert_works(store_lease_get(fixture->store, id.text, &lease, &err), err);
    return lease;
}

static int64_t rows(struct store_fixture *fixture)
{
    return fixture_number(fixture, "SELECT (SELECT count(*) FROM leases) + (SELECT count(*) FROM peers)"
                                   " + (SELECT count(*) FROM events)");
}

static int move(struct store_fixture *fixture, struct id id, enum lease_state to, struct error *err)
{
    struct store_change change = {.to = to, .at_ms = 42};
    return store_lease_transition(fixture->store, id.text, &change, err);
}

static void a_reserved_lease_reads_back_as_it_was_given(void **state)
{
    struct store_fixture *fixture = *state;
    struct id id = fixture_reserve(fixture, 1);
    struct store_lease expected = fixture_lease(1);
    struct store_lease lease = get(fixture, id);
    /* What the store itself sets. */
    expected.generation = 1;
    set_text(expected.tunnel_state, "waiting");
    expected.exit_code = -1;
    fixture_assert_same_lease(&lease, &expected);
}

static void a_reservation_tells_an_event_with_image_mode_and_endpoint(void **state)
{
    struct store_fixture *fixture = *state;
    struct id id = fixture_reserve(fixture, 3);
    assert_string_equal(fixture_text(fixture, "SELECT type || ' ' || at_ms || ' ' || data FROM events"),
                        "lease.created 1700000000003 {\"image\":\"alpine-3.20\",\"mode\":\"filtered\","
                        "\"endpoint\":\"203.0.113.5:51900\"}");
    assert_string_equal(fixture_text(fixture, "SELECT lease_id FROM events"), id.text);
}

static void fields_filled_to_their_last_byte_are_kept_whole(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_resources capacity = fixture_capacity(1);
    struct store_lease lease = fixture_lease(1);
    memset(lease.image, 'i', sizeof lease.image - 1);
    memset(lease.image_digest, 'd', sizeof lease.image_digest - 1);
    memset(lease.state_detail, 's', sizeof lease.state_detail - 1);
    memset(lease.ssh_user, 'u', sizeof lease.ssh_user - 1);
    memset(lease.accelerator, 'a', sizeof lease.accelerator - 1);
    memset(lease.labels, ' ', sizeof lease.labels - 1);
    lease.labels[0] = '{';
    lease.labels[sizeof lease.labels - 2] = '}';
    lease.policy_desired = INT64_MAX;
    assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err);
    struct store_lease kept = get(fixture, lease.id);
    assert_string_equal(kept.image, lease.image);
    assert_string_equal(kept.image_digest, lease.image_digest);
    assert_string_equal(kept.state_detail, lease.state_detail);
    assert_string_equal(kept.ssh_user, lease.ssh_user);
    assert_string_equal(kept.accelerator, lease.accelerator);
    assert_string_equal(kept.labels, lease.labels);
    assert_true(kept.policy_desired == INT64_MAX);
}

static void set_field_full(struct store_lease *lease, unsigned which)
{
    switch (which) {
    case 0:
        memset(lease->image, 'i', sizeof lease->image); /* no NUL */
        break;
    case 1:
        memset(lease->consumer_endpoint, '1', sizeof lease->consumer_endpoint);
        break;
    case 2:
        set_text(lease->mode, "open");
        break;
    case 3:
        set_text(lease->labels, "[1]");
        break;
    case 4:
        set_text(lease->labels, "{\"a\":}");
        break;
    case 5:
        set_text(lease->image_digest, "abc");
        break;
    case 6:
        lease->image[0] = '\0';
        break;
    case 7:
        lease->resources.memory_mib = 0;
        break;
    case 8:
        lease->ttl_s = (uint64_t)INT64_MAX + 1;
        break;
    case 9:
        set_text(lease->consumer_public_key, "short");
        break;
    case 10:
        set_text(lease->guest_mac, "02:00");
        break;
    case 11:
        lease->state = LEASE_RUNNING;
        break;
    case 12:
        lease->resources.leases = 2;
        break;
    case 13:
        lease->reason = LEASE_RELEASED;
        break;
    }
}

static void what_cannot_be_stored_whole_is_refused_and_leaves_nothing(void **state)
{
    struct store_fixture *fixture = *state;
    struct store_resources capacity = fixture_capacity(10);
    for (unsigned i = 0; i <= 13; i++) {
        struct error err = {0};
        struct store_lease lease = fixture_lease(i);
        set_field_full(&lease, i);
        if (store_lease_reserve(fixture->store, &lease, &capacity, &err) != -EINVAL)
            fail_msg("case %u: %d %s", i, err.code, err.message);
        assert_int_equal(err.code, -EINVAL);
        assert_true(err.message[0] != '\0');
    }
    struct error err = {0};
    struct store_lease lease = fixture_lease(1);
    set_text(lease.image, "\xc3(");
    assert_int_equal(store_lease_reserve(fixture->store, &lease, &capacity, &err), -EILSEQ);
    assert_int_equal(rows(fixture), 0);
}

static void the_last_place_is_given_and_the_next_is_refused(void **state)
{
    struct store_fixture *fixture = *state;
    struct store_resources capacity = fixture_capacity(3);
    for (unsigned n = 0; n < 3; n++) {
        struct error err = {0};
        struct store_lease lease = fixture_lease(n);
        assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err);
    }
    struct error err = {0};
    struct store_lease lease = fixture_lease(3);
    int64_t before = rows(fixture);
    assert_int_equal(store_lease_reserve(fixture->store, &lease, &capacity, &err), -ENOSPC);
    assert_string_equal(err.slug, "insufficient-capacity");
    assert_string_equal(err.field, "/resources/vcpus /resources/memory_mib /resources/disk_mib");
    assert_string_equal(err.message,
                        "leases: 1 asked, 0 free of 3; vcpus: 2 asked, 0 free of 6; memory_mib: 2048 asked, "
                        "0 free of 6144; disk_mib: 4096 asked, 0 free of 12288");
    assert_int_equal(rows(fixture), before);
    assert_int_equal(store_lease_get(fixture->store, lease.id.text, &lease, &err), -ENOENT);
}

/* Each resource in turn: one unit short is refused and named, exactly enough is admitted. */
static void each_resource_is_counted_to_its_exact_boundary(void **state)
{
    struct store_fixture *fixture = *state;
    static const char *const fields[] = {"/resources/vcpus", "/resources/memory_mib", "/resources/disk_mib"};
    static const char *const messages[] = {"vcpus: 2 asked, 1 free of 3", "memory_mib: 2048 asked, 2047 free of 4095",
                                           "disk_mib: 4096 asked, 4095 free of 8191"};
    fixture_reserve(fixture, 1);
    struct store_lease lease = fixture_lease(2);
    int64_t before = rows(fixture);
    for (unsigned i = 0; i < 3; i++) {
        struct error err = {0};
        struct store_resources capacity = fixture_capacity(2);
        capacity.vcpus -= i == 0;
        capacity.memory_mib -= i == 1;
        capacity.disk_mib -= i == 2;
        assert_int_equal(store_lease_reserve(fixture->store, &lease, &capacity, &err), -ENOSPC);
        assert_string_equal(err.slug, "insufficient-capacity");
        assert_string_equal(err.field, fields[i]);
        assert_string_equal(err.message, messages[i]);
    }
    assert_int_equal(rows(fixture), before);
    struct error err = {0};
    struct store_resources capacity = fixture_capacity(2);
    assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err);
}

static void a_lowered_total_leaves_nothing_free_and_does_not_wrap(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    fixture_reserve(fixture, 1);
    fixture_reserve(fixture, 2);
    struct store_lease lease = fixture_lease(3);
    struct store_resources capacity = fixture_capacity(1);
    capacity.leases = 10;
    assert_int_equal(store_lease_reserve(fixture->store, &lease, &capacity, &err), -ENOSPC);
    assert_string_equal(err.message, "vcpus: 2 asked, 0 free of 2; memory_mib: 2048 asked, 0 free of 2048; disk_mib: "
                                     "4096 asked, 0 free of 4096");
}

static void an_ended_lease_gives_its_capacity_back(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_resources used;
    struct id id = fixture_reserve(fixture, 1);
    assert_works(store_capacity_used(fixture->store, &used, &err), err);
    assert_int_equal(used.leases, 1);
    assert_int_equal(used.vcpus, 2);
    assert_int_equal(used.memory_mib, 2048);
    assert_int_equal(used.disk_mib, 4096);
    struct store_end end = fixture_end();
    assert_works(store_lease_terminate(fixture->store, id.text, &end, &err), err);
    assert_works(store_capacity_used(fixture->store, &used, &err), err);
    assert_int_equal(used.leases + used.vcpus, 0);
    assert_int_equal(used.memory_mib + used.disk_mib, 0);
    struct store_lease lease = fixture_lease(2);
    struct store_resources capacity = fixture_capacity(1);
    assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err);
}

static void a_living_peer_is_not_leased_twice(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_resources capacity = fixture_capacity(10);
    struct id first = fixture_reserve(fixture, 1);
    struct store_lease lease = fixture_lease(2);
    set_text(lease.consumer_public_key, fixture_lease(1).consumer_public_key);
    int64_t before = rows(fixture);
    assert_int_equal(store_lease_reserve(fixture->store, &lease, &capacity, &err), -EEXIST);
    assert_string_equal(err.slug, "peer-in-use");
    assert_non_null(strstr(err.message, first.text));
    assert_int_equal(rows(fixture), before);

    set_text(lease.consumer_endpoint, "203.0.113.6:51900"); /* the same key elsewhere is another peer */
    assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err);

    struct store_end end = fixture_end();
    assert_works(store_lease_terminate(fixture->store, first.text, &end, &err), err);
    struct store_lease again = fixture_lease(3);
    set_text(again.consumer_public_key, fixture_lease(1).consumer_public_key);
    assert_works(store_lease_reserve(fixture->store, &again, &capacity, &err), err);
}

static void an_id_is_given_once(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_resources capacity = fixture_capacity(10);
    struct store_lease lease = fixture_lease(2);
    lease.id = fixture_reserve(fixture, 1);
    int64_t before = rows(fixture);
    assert_int_equal(store_lease_reserve(fixture->store, &lease, &capacity, &err), -EEXIST);
    assert_string_equal(err.slug, "lease-exists");
    assert_int_equal(rows(fixture), before);
}

static void a_whole_life_raises_the_generation_and_tells_each_step(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    char digest[STORE_DIGEST_BYTES];
    memset(digest, 'd', 64);
    digest[64] = '\0';
    struct id id = fixture_reserve(fixture, 1);
    const struct store_change steps[] = {
        {.to = LEASE_PREPARING, .at_ms = 10, .image_digest = digest, .accelerator = "kvm", .detail = "image \"ok\""},
        {.to = LEASE_STARTING, .at_ms = 20},
        {.to = LEASE_RUNNING, .at_ms = 30, .detail = ""},
        {.to = LEASE_RECOVERING, .at_ms = 40},
        {.to = LEASE_RUNNING, .at_ms = 50},
        {.to = LEASE_STOPPING, .at_ms = 60, .detail = "released"},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        assert_works(store_lease_transition(fixture->store, id.text, &steps[i], &err), err);
        struct store_lease lease = get(fixture, id);
        assert_int_equal(lease.state, steps[i].to);
        assert_int_equal(lease.generation, 2 + i);
    }
    struct store_lease lease = get(fixture, id);
    assert_string_equal(lease.image_digest, digest);
    assert_string_equal(lease.accelerator, "kvm");
    assert_string_equal(lease.state_detail, "released");
    assert_int_equal(lease.started_ms, 30);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'lease.state_changed'"), 6);
    assert_string_equal(fixture_text(fixture, "SELECT at_ms || data FROM events WHERE sequence = 2"),
                        "10{\"from\":\"pending\",\"to\":\"preparing\",\"detail\":\"image \\\"ok\\\"\"}");
    assert_string_equal(fixture_text(fixture, "SELECT at_ms || data FROM events WHERE sequence = 3"),
                        "20{\"from\":\"preparing\",\"to\":\"starting\",\"detail\":\"image \\\"ok\\\"\"}");
}

static void a_refused_transition_leaves_row_and_events_untouched(void **state)
{
    struct store_fixture *fixture = *state;
    struct id id = fixture_reserve(fixture, 1);
    struct store_lease before = get(fixture, id);
    static const enum lease_state refused[] = {LEASE_PENDING, LEASE_STARTING, LEASE_RUNNING, LEASE_TERMINATED,
                                               LEASE_STATE_COUNT};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct error err = {0};
        assert_int_equal(move(fixture, id, refused[i], &err), -EINVAL);
        assert_string_equal(err.slug, "transition-refused");
        assert_non_null(strstr(err.message, "pending"));
        assert_non_null(strstr(err.message, lease_state_name(refused[i])));
    }
    struct store_lease after = get(fixture, id);
    fixture_assert_same_lease(&before, &after);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), 1);
}

static void a_transition_with_a_text_that_does_not_fit_is_undone(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = fixture_reserve(fixture, 1);
    char detail[STORE_DETAIL_BYTES + 1];
    memset(detail, 'x', sizeof detail - 1);
    detail[sizeof detail - 1] = '\0';
    struct store_change change = {.to = LEASE_PREPARING, .at_ms = 1, .detail = detail};
    assert_int_equal(store_lease_transition(fixture->store, id.text, &change, &err), -EINVAL);
    assert_int_equal(get(fixture, id).state, LEASE_PENDING);
    detail[sizeof detail - 2] = '\0';
    assert_works(store_lease_transition(fixture->store, id.text, &change, &err), err);
    assert_string_equal(get(fixture, id).state_detail, detail);
}

static void changes_of_a_lease_that_is_not_there_are_refused(void **state)
{
    struct store_fixture *fixture = *state;
    struct store_end end = fixture_end();
    struct store_change change = {.to = LEASE_PREPARING};
    static const char *const ids[] = {"01890000-0000-7000-8000-000000000000", "", "' OR 1=1 --", "\xff\xfe"};
    fixture_reserve(fixture, 1);
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        struct error err = {0};
        struct store_lease lease;
        assert_int_equal(store_lease_get(fixture->store, ids[i], &lease, &err), -ENOENT);
        assert_string_equal(err.slug, "lease-not-found");
        err = (struct error){0};
        assert_int_equal(store_lease_transition(fixture->store, ids[i], &change, &err), -ENOENT);
        assert_string_equal(err.slug, "lease-not-found");
        assert_int_equal(store_lease_terminate(fixture->store, ids[i], &end, &err), -ENOENT);
        assert_int_equal(store_lease_spawned(fixture->store, ids[i], &nobody, &err), -ENOENT);
        assert_int_equal(store_lease_policy(fixture->store, ids[i], 1, 1, &err), -ENOENT);
        assert_int_equal(store_lease_tunnel(fixture->store, ids[i], "established", (struct store_ports){0}, 1, &err),
                         -ENOENT);
    }
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), 1);
}

static void a_spawn_is_noted_without_an_event(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = fixture_reserve(fixture, 1);
    const struct store_process first = {4711, 99, "11111111-2222-4333-8444-555555555555", "kvm"};
    assert_works(store_lease_spawned(fixture->store, id.text, &first, &err), err);
    struct store_lease lease = get(fixture, id);
    assert_int_equal(lease.pid, 4711);
    assert_int_equal(lease.pid_start_ticks, 99);
    assert_string_equal(lease.boot_id, "11111111-2222-4333-8444-555555555555");
    assert_string_equal(lease.accelerator, "kvm");
    assert_int_equal(lease.generation, 2);
    const struct store_process impossible[] = {{-1, 0, "", "tcg"}, {1, 0, NULL, "tcg"}, {1, 0, "", NULL}};
    for (size_t i = 0; i < sizeof impossible / sizeof impossible[0]; i++)
        assert_int_equal(store_lease_spawned(fixture->store, id.text, &impossible[i], &err), -EINVAL);
    const struct store_process again = {4712, 101, "11111111-2222-4333-8444-555555555555", "tcg"};
    assert_works(store_lease_spawned(fixture->store, id.text, &again, &err), err);
    assert_int_equal(get(fixture, id).pid, 4712);
    assert_string_equal(get(fixture, id).accelerator, "tcg");
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), 1);
}

static void the_first_policy_arms_and_later_ones_apply(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = fixture_reserve(fixture, 1);
    assert_works(store_lease_policy(fixture->store, id.text, 1, 100, &err), err);
    assert_works(store_lease_policy(fixture->store, id.text, 1, 101, &err), err); /* said twice: no news */
    assert_works(store_lease_policy(fixture->store, id.text, 3, 102, &err), err);
    assert_int_equal(store_lease_policy(fixture->store, id.text, 2, 103, &err), -EINVAL);
    assert_int_equal(get(fixture, id).policy_observed, 3);
    assert_int_equal(get(fixture, id).generation, 3);
    assert_string_equal(
        fixture_text(fixture, "SELECT group_concat(type || at_ms || data, ' ') FROM events WHERE sequence > 1"),
        "filter.armed100{\"generation\":1} filter.policy_applied102{\"generation\":3}");
}

static void a_lease_that_recovers_enforces_nothing_until_its_filter_says_so(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct id id = fixture_reserve(fixture, 1);
    assert_works(store_lease_policy(fixture->store, id.text, 5, 1, &err), err);
    assert_works(move(fixture, id, LEASE_RECOVERING, &err), err);
    assert_int_equal(get(fixture, id).policy_observed, 0);
    assert_works(store_lease_policy(fixture->store, id.text, 5, 2, &err), err);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'filter.armed'"), 2);
}

static void an_ended_lease_never_changes(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct store_end end = fixture_end();
    struct id id = fixture_reserve(fixture, 1);
    assert_works(store_lease_terminate(fixture->store, id.text, &end, &err), err);
    struct store_lease before = get(fixture, id);
    int64_t events = fixture_number(fixture, "SELECT count(*) FROM events");

    assert_int_equal(store_lease_terminate(fixture->store, id.text, &end, &err), -EALREADY);
    assert_string_equal(err.slug, "lease-ended");
    for (unsigned to = 0; to < LEASE_STATE_COUNT; to++)
        assert_int_equal(move(fixture, id, (enum lease_state)to, &err), -EINVAL);
    assert_int_equal(store_lease_spawned(fixture->store, id.text, &nobody, &err), -EALREADY);
    assert_int_equal(store_lease_policy(fixture->store, id.text, 9, 1, &err), -EALREADY);
    assert_int_equal(store_lease_tunnel(fixture->store, id.text, "established", (struct store_ports){0}, 1, &err),
                     -EALREADY);
    assert_int_equal(store_lease_exposed(fixture->store, id.text, 1, 1, &err), -EALREADY);

    struct store_lease after = get(fixture, id);
    fixture_assert_same_lease(&before, &after);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), events);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

static void what_a_machine_needs_beyond_its_guest_counts_as_well(void **state)
{
    struct store_fixture *fixture = *state;
    struct store_lease lease = fixture_lease(1);
    struct store_resources capacity = fixture_capacity(1);
    struct store_resources used;
    struct error err = {0};
    lease.overhead_memory_mib = 128;
    lease.overhead_disk_mib = 500;
    assert_int_equal(store_lease_reserve(fixture->store, &lease, &capacity, &err), -ENOSPC);
    assert_string_equal(err.message, "memory_mib: 2048 asked and 128 for the hypervisor, 2048 free of 2048; disk_mib: "
                                     "4096 asked and 500 for changes of the image's own disk, 4096 free of 4096");
    assert_string_equal(err.field, "/resources/memory_mib /resources/disk_mib");
    capacity.memory_mib += 128;
    assert_int_equal(store_lease_reserve(fixture->store, &lease, &capacity, &err), -ENOSPC);
    assert_string_equal(err.message,
                        "disk_mib: 4096 asked and 500 for changes of the image's own disk, 4096 free of 4096");
    capacity.disk_mib += 500;
    assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err);
    assert_works(store_capacity_used(fixture->store, &used, &err), err);
    assert_int_equal(used.memory_mib, 2048 + 128);
    assert_int_equal(used.disk_mib, 4096 + 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(what_a_machine_needs_beyond_its_guest_counts_as_well),
        WITH_STORE(a_reserved_lease_reads_back_as_it_was_given),
        WITH_STORE(a_reservation_tells_an_event_with_image_mode_and_endpoint),
        WITH_STORE(fields_filled_to_their_last_byte_are_kept_whole),
        WITH_STORE(what_cannot_be_stored_whole_is_refused_and_leaves_nothing),
        WITH_STORE(the_last_place_is_given_and_the_next_is_refused),
        WITH_STORE(each_resource_is_counted_to_its_exact_boundary),
        WITH_STORE(a_lowered_total_leaves_nothing_free_and_does_not_wrap),
        WITH_STORE(an_ended_lease_gives_its_capacity_back),
        WITH_STORE(a_living_peer_is_not_leased_twice),
        WITH_STORE(an_id_is_given_once),
        WITH_STORE(a_whole_life_raises_the_generation_and_tells_each_step),
        WITH_STORE(a_refused_transition_leaves_row_and_events_untouched),
        WITH_STORE(a_transition_with_a_text_that_does_not_fit_is_undone),
        WITH_STORE(changes_of_a_lease_that_is_not_there_are_refused),
        WITH_STORE(a_spawn_is_noted_without_an_event),
        WITH_STORE(the_first_policy_arms_and_later_ones_apply),
        WITH_STORE(a_lease_that_recovers_enforces_nothing_until_its_filter_says_so),
        WITH_STORE(an_ended_lease_never_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "api/lease/lease_service.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/lease/journal.h"
#include "base/clock.h"
#include "tests/cmocka.h"
#include "tests/store/store_fixture.h"
#include "tests/vmm/fake_qemu.h"
#include "tests/vmm/vmm_fixture.h"

enum {
    TICK_US = 5000,
};

static const char *program;

static struct lease_request request_for(const char *image)
{
    uint8_t unused[VMM_KEY_BYTES];
    struct lease_request request = {
        .resources = {.leases = 1, .vcpus = 1, .memory_mib = 128},
        .network = {.mode = MODE_CONNTRACK, .terminate = true, .limits = {.egress_packets_per_s = 7}},
        .tunnel = {.consumer = {.ip = UINT32_C(0xC6336407), .port = 51900},
                   .consumer_tunnel_ip = UINT32_C(0x0A630001),
                   .vm_tunnel_ip = UINT32_C(0x0A630002),
                   .has_preshared_key = true},
        .ssh_user = "work",
        .ssh_key_count = 1,
        .ttl_s = 3600,
        .labels = "{\"a\":\"b\"}",
    };
    snprintf(request.image, sizeof request.image, "%s", image);
    snprintf(request.ssh_keys[0], sizeof request.ssh_keys[0],
             "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g");
    vmm_key_pair(unused, request.tunnel.consumer_public_key);
    return request;
}

/* SQLite opens some of its files when they are first used; fixture_done() counts descriptors. */
static void use_store(const struct store_fixture *fixture)
{
    struct error err = {0};
    struct store_resources used;
    assert_works(store_event_append(fixture->store, "test.begun", NULL, "{}", 1, &err), err);
    assert_works(store_capacity_used(fixture->store, &used, &err), err);
    struct store_lease lease;
    assert_int_equal(store_lease_get(fixture->store, fixture_lease(1).id.text, &lease, &err), -ENOENT);
}

static struct store_lease await(const struct store_fixture *fixture, const char *id, enum lease_state state)
{
    struct store_lease lease;
    struct error err = {0};
    for (int waited_us = 0; waited_us < FIXTURE_WAIT_MS * 1000; waited_us += TICK_US) {
        assert_works(store_lease_get(fixture->store, id, &lease, &err), err);
        if (lease.state == state)
            return lease;
        usleep(TICK_US);
    }
    fail_msg("%s is %s, not %s", id, lease_state_name(lease.state), lease_state_name(state));
    return lease;
}

/* A service over a fake hypervisor, from open_world() to close_world(). */
struct service_world {
    struct vmm_fixture world;
    struct journal *journal;
    struct lease_service service;
};

static void open_world(const struct store_fixture *fixture, struct service_world *it)
{
    struct vmm_spec unused;
    struct store_resources capacity = fixture_capacity(4);
    struct error err = {0};
    use_store(fixture);
    fixture_init(&it->world, program);
    fixture_spec(&it->world, "obedient", &unused); /* makes the image */
    assert_works(lease_service_init(&it->service, fixture->store, NULL, &capacity, &err), err);
    assert_works(journal_start(&it->service, &it->journal, &err), err);
    it->world.config.on_event = journal_event;
    it->world.config.context = it->journal;
    fixture_open(&it->world);
    lease_service_attach(&it->service, it->world.vmm);
}

static void close_world(struct service_world *it)
{
    it->world.vmm = lease_service_detach(&it->service);
    fixture_done(&it->world);
    journal_stop(it->journal);
    lease_service_done(&it->service);
}

static void a_lease_lives_from_request_to_release(void **state)
{
    const struct store_fixture *fixture = *state;
    struct service_world it;
    struct error err = {0};
    open_world(fixture, &it);

    struct lease_request request = request_for("obedient");
    struct store_lease lease;
    assert_works(lease_service_create(&it.service, &request, NULL, &lease, &err), err);
    assert_false(lease_is_final(lease.state));
    assert_int_equal(strlen(lease.vm_public_key), 44);
    assert_int_equal(lease.expires_ms - lease.created_ms, 3600000);
    assert_string_equal(lease.mode, "conntrack");
    assert_string_equal(lease.on_violation, "terminate");
    assert_string_equal(lease.boot_isolation, "prebuilt");
    assert_int_equal(lease.egress_packets_per_s, 7);
    lease = await(fixture, lease.id.text, LEASE_RUNNING);
    assert_int_equal(lease.policy_observed, lease.policy_desired);
    assert_string_equal(lease.accelerator, "tcg");
    assert_true(lease.pid > 0);
    struct nat_stats stats;
    assert_int_equal(lease_service_stats(&it.service, &lease.id, &stats), 0);

    struct store_lease second;
    assert_int_equal(lease_service_create(&it.service, &request, NULL, &second, &err), -EEXIST);
    assert_string_equal(err.slug, "peer-in-use");

    assert_works(lease_service_release(&it.service, lease.id.text, &lease, &err), err);
    lease = await(fixture, lease.id.text, LEASE_TERMINATED);
    assert_int_equal(lease.reason, LEASE_RELEASED);
    assert_string_equal(lease.initiated_by, "orchestrator");
    assert_works(lease_service_release(&it.service, lease.id.text, &lease, &err), err);
    assert_int_equal(lease.state, LEASE_TERMINATED);
    assert_int_equal(lease_service_stats(&it.service, &lease.id, &stats), -ENOENT);

    close_world(&it);
}

static void a_lease_whose_tunnel_never_comes_up_is_ended(void **state)
{
    const struct store_fixture *fixture = *state;
    struct service_world it;
    struct error err = {0};
    open_world(fixture, &it);
    it.service.tunnel_timeout_ms = 300;

    struct lease_request request = request_for("obedient");
    struct store_lease lease;
    assert_works(lease_service_create(&it.service, &request, NULL, &lease, &err), err);
    lease = await(fixture, lease.id.text, LEASE_TERMINATED);
    assert_int_equal(lease.reason, LEASE_TUNNEL_TIMEOUT);
    assert_string_equal(lease.initiated_by, "provider");

    close_world(&it);
}

static void a_lease_is_warned_of_its_end_and_ends(void **state)
{
    const struct store_fixture *fixture = *state;
    static struct service_world it;
    struct lease_request request = request_for("obedient");
    struct store_lease lease;
    struct error err = {0};
    open_world(fixture, &it);
    request.ttl_s = 5; /* half a second from the warning to the end: what is past both is not warned */
    assert_works(lease_service_create(&it.service, &request, NULL, &lease, &err), err);
    assert_int_equal(lease.expires_ms - lease.created_ms, 5000);
    assert_true(lease.deadline_ms > clock_boot_ms());
    assert_string_equal(lease.deadline_boot_id, it.service.boot_id);
    lease = await(fixture, lease.id.text, LEASE_TERMINATED);
    assert_int_equal(lease.reason, LEASE_EXPIRED);
    assert_string_equal(lease.initiated_by, "provider");
    close_world(&it);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'lease.expiring'"), 1);
    assert_int_equal(fixture_number(fixture, "SELECT min(sequence) FROM events WHERE type = 'lease.expiring'") <
                         fixture_number(fixture, "SELECT min(sequence) FROM events WHERE type = 'lease.terminated'"),
                     1);
}

static void a_renewed_lease_ends_when_the_renewal_says(void **state)
{
    const struct store_fixture *fixture = *state;
    static struct service_world it;
    struct lease_request request = request_for("obedient");
    struct store_lease lease;
    struct error err = {0};
    open_world(fixture, &it);
    request.ttl_s = 4;
    assert_works(lease_service_create(&it.service, &request, NULL, &lease, &err), err);
    assert_works(lease_service_renew(&it.service, &lease.id, 3600, &lease, &err), err);
    assert_int_equal(lease.ttl_s, 3600);
    usleep(4500000);
    assert_works(store_lease_get(fixture->store, lease.id.text, &lease, &err), err);
    assert_int_equal(lease.reason, LEASE_REASON_NONE);
    /* Sooner, too. */
    assert_works(lease_service_renew(&it.service, &lease.id, 1, &lease, &err), err);
    lease = await(fixture, lease.id.text, LEASE_TERMINATED);
    assert_int_equal(lease.reason, LEASE_EXPIRED);
    struct id id = lease.id;
    assert_int_equal(lease_service_renew(&it.service, &id, 60, &lease, &err), -EALREADY);
    assert_string_equal(err.slug, "lease-ended");
    id = fixture_lease(1).id;
    assert_int_equal(lease_service_renew(&it.service, &id, 60, &lease, &err), -ENOENT);
    close_world(&it);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'lease.renewed'"), 2);
}

static void a_lease_lives_as_long_as_its_heart_beats(void **state)
{
    const struct store_fixture *fixture = *state;
    static struct service_world it;
    struct lease_request request = request_for("obedient");
    struct store_lease lease;
    struct store_lease calm;
    struct error err = {0};
    open_world(fixture, &it);
    request.heartbeat_timeout_s = 3;
    request.ttl_s = 0;
    assert_works(lease_service_create(&it.service, &request, NULL, &lease, &err), err);
    for (int beat = 0; beat < 14; beat++) {
        assert_works(lease_service_heartbeat(&it.service, &lease.id, &err), err);
        usleep(250000);
    }
    assert_works(store_lease_get(fixture->store, lease.id.text, &lease, &err), err);
    assert_int_equal(lease.reason, LEASE_REASON_NONE);
    lease = await(fixture, lease.id.text, LEASE_TERMINATED);
    assert_int_equal(lease.reason, LEASE_HEARTBEAT_LOST);
    assert_string_equal(lease.initiated_by, "provider");
    assert_int_equal(lease_service_heartbeat(&it.service, &lease.id, &err), -EALREADY);
    assert_string_equal(err.slug, "lease-ended");

    request.heartbeat_timeout_s = 0;
    assert_works(lease_service_create(&it.service, &request, NULL, &calm, &err), err);
    assert_int_equal(lease_service_heartbeat(&it.service, &calm.id, &err), -ENODATA);
    assert_string_equal(err.slug, "heartbeat-not-watched");
    struct id unknown = fixture_lease(1).id;
    assert_int_equal(lease_service_heartbeat(&it.service, &unknown, &err), -ENOENT);
    close_world(&it);
}

static void an_image_that_was_changed_ends_its_lease_with_an_event(void **state)
{
    const struct store_fixture *fixture = *state;
    struct service_world it;
    struct error err = {0};
    char path[256];
    open_world(fixture, &it);
    FILE *kernel = fopen(fixture_path(&it.world, "images/obedient/kernel", path), "a");
    assert_non_null(kernel);
    fputs("changed", kernel);
    fclose(kernel);

    struct lease_request request = request_for("obedient");
    struct store_lease lease;
    assert_works(lease_service_create(&it.service, &request, NULL, &lease, &err), err);
    lease = await(fixture, lease.id.text, LEASE_TERMINATED);
    assert_int_equal(lease.reason, LEASE_IMAGE_REJECTED);

    close_world(&it);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'image.rejected'"), 1);
}

/* The machine has ended and the disk does not take that yet: whoever releases the lease meanwhile is answered only when
 * another daemon would know of it too. */
static void a_release_is_kept_while_the_end_waits_for_the_disk(void **state)
{
    static const uint8_t console[VMM_CONSOLE_BYTES];
    const struct store_fixture *fixture = *state;
    struct service_world it;
    struct error err = {0};
    struct store_lease lease = fixture_lease(1);
    const struct store_resources capacity = fixture_capacity(4);
    open_world(fixture, &it);
    assert_works(store_lease_reserve(fixture->store, &lease, &capacity, &err), err);
    const struct vmm_event ended = {.kind = VMM_EVENT_ENDED,
                                    .id = lease.id,
                                    .end = VMM_END_GUEST_SHUTDOWN,
                                    .at_ms = 5,
                                    .exit_code = -1,
                                    .console = console,
                                    .console_bytes = sizeof console};
    fixture_set_full(fixture, true);
    journal_event(it.journal, &ended);
    int result;
    /* In one commit with the end that finds no room it is undone as well, and its client is told to come again. */
    while ((result = lease_service_release(&it.service, lease.id.text, &lease, &err)) == -ENOSPC)
        usleep(TICK_US);
    assert_works(result, err);
    assert_false(lease_is_final(lease.state));
    assert_true(journal_holds(it.journal, &lease.id));
    fixture_set_full(fixture, false);
    assert_int_equal(await(fixture, lease.id.text, LEASE_TERMINATED).reason, LEASE_GUEST_SHUTDOWN);
    close_world(&it);
    assert_int_equal(fixture_number(fixture, "SELECT release_asked FROM leases"), 1);
}

static void without_machines_nothing_is_reserved(void **state)
{
    const struct store_fixture *fixture = *state;
    struct lease_service service;
    struct store_resources capacity = fixture_capacity(4);
    struct error err = {0};
    assert_int_equal(lease_service_init(&service, fixture->store, NULL, &capacity, &err), 0);
    struct lease_request request = request_for("any");
    struct store_lease lease;
    struct vmm_accel accel;
    assert_int_equal(lease_service_create(&service, &request, NULL, &lease, &err), -ESHUTDOWN);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM leases"), 0);
    assert_false(lease_service_accel(&service, &accel));
    assert_null(lease_service_detach(&service));
    lease_service_done(&service);
}

int main(int argc, char **argv)
{
    if (fake_qemu_is_meant(argv[0]))
        return fake_qemu_main(argc, argv);
    program = argv[0];
    if (sodium_init() < 0)
        return 1;
#define STORED(test) cmocka_unit_test_setup_teardown(test, store_fixture_setup, store_fixture_teardown)
    const struct CMUnitTest tests[] = {
        STORED(a_lease_lives_from_request_to_release),
        STORED(a_lease_whose_tunnel_never_comes_up_is_ended),
        STORED(a_lease_is_warned_of_its_end_and_ends),
        STORED(a_renewed_lease_ends_when_the_renewal_says),
        STORED(a_lease_lives_as_long_as_its_heart_beats),
        STORED(an_image_that_was_changed_ends_its_lease_with_an_event),
        STORED(a_release_is_kept_while_the_end_waits_for_the_disk),
        STORED(without_machines_nothing_is_reserved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

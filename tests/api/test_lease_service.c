#include "api/lease_service.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/journal.h"
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

static void a_lease_lives_from_request_to_release(void **state)
{
    const struct store_fixture *fixture = *state;
    struct vmm_fixture world;
    struct vmm_spec unused;
    struct lease_service service;
    struct journal *journal;
    struct store_resources capacity = fixture_capacity(4);
    struct error err = {0};
    use_store(fixture);
    fixture_init(&world, program);
    fixture_spec(&world, "obedient", &unused); /* makes the image */
    lease_service_init(&service, fixture->store, NULL, &capacity);
    assert_works(journal_start(&service, &journal, &err), err);
    world.config.on_event = journal_event;
    world.config.context = journal;
    fixture_open(&world);
    lease_service_attach(&service, world.vmm);

    struct lease_request request = request_for("obedient");
    struct store_lease lease;
    assert_works(lease_service_create(&service, &request, &lease, &err), err);
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
    assert_int_equal(lease_service_stats(&service, &lease.id, &stats), 0);

    struct store_lease second;
    assert_int_equal(lease_service_create(&service, &request, &second, &err), -EEXIST);
    assert_string_equal(err.slug, "peer-in-use");

    assert_works(lease_service_release(&service, lease.id.text, &lease, &err), err);
    lease = await(fixture, lease.id.text, LEASE_TERMINATED);
    assert_int_equal(lease.reason, LEASE_RELEASED);
    assert_string_equal(lease.initiated_by, "orchestrator");
    assert_works(lease_service_release(&service, lease.id.text, &lease, &err), err);
    assert_int_equal(lease.state, LEASE_TERMINATED);
    assert_int_equal(lease_service_stats(&service, &lease.id, &stats), -ENOENT);

    world.vmm = lease_service_detach(&service);
    fixture_done(&world);
    journal_stop(journal);
    lease_service_done(&service);
}

static void a_lease_whose_tunnel_never_comes_up_is_ended(void **state)
{
    const struct store_fixture *fixture = *state;
    struct vmm_fixture world;
    struct vmm_spec unused;
    struct lease_service service;
    struct journal *journal;
    struct store_resources capacity = fixture_capacity(4);
    struct error err = {0};
    use_store(fixture);
    fixture_init(&world, program);
    fixture_spec(&world, "obedient", &unused);
    lease_service_init(&service, fixture->store, NULL, &capacity);
    service.tunnel_timeout_ms = 300;
    assert_works(journal_start(&service, &journal, &err), err);
    world.config.on_event = journal_event;
    world.config.context = journal;
    fixture_open(&world);
    lease_service_attach(&service, world.vmm);

    struct lease_request request = request_for("obedient");
    struct store_lease lease;
    assert_works(lease_service_create(&service, &request, &lease, &err), err);
    lease = await(fixture, lease.id.text, LEASE_TERMINATED);
    assert_int_equal(lease.reason, LEASE_TUNNEL_TIMEOUT);
    assert_string_equal(lease.initiated_by, "provider");

    world.vmm = lease_service_detach(&service);
    fixture_done(&world);
    journal_stop(journal);
    lease_service_done(&service);
}

static void an_image_that_was_changed_ends_its_lease_with_an_event(void **state)
{
    const struct store_fixture *fixture = *state;
    struct vmm_fixture world;
    struct vmm_spec unused;
    struct lease_service service;
    struct journal *journal;
    struct store_resources capacity = fixture_capacity(4);
    struct error err = {0};
    char path[256];
    use_store(fixture);
    fixture_init(&world, program);
    fixture_spec(&world, "obedient", &unused);
    FILE *kernel = fopen(fixture_path(&world, "images/obedient/kernel", path), "a");
    assert_non_null(kernel);
    fputs("changed", kernel);
    fclose(kernel);
    lease_service_init(&service, fixture->store, NULL, &capacity);
    assert_works(journal_start(&service, &journal, &err), err);
    world.config.on_event = journal_event;
    world.config.context = journal;
    fixture_open(&world);
    lease_service_attach(&service, world.vmm);

    struct lease_request request = request_for("obedient");
    struct store_lease lease;
    assert_works(lease_service_create(&service, &request, &lease, &err), err);
    lease = await(fixture, lease.id.text, LEASE_TERMINATED);
    assert_int_equal(lease.reason, LEASE_IMAGE_REJECTED);

    world.vmm = lease_service_detach(&service);
    fixture_done(&world);
    journal_stop(journal);
    lease_service_done(&service);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'image.rejected'"), 1);
}

static void without_machines_nothing_is_reserved(void **state)
{
    const struct store_fixture *fixture = *state;
    struct lease_service service;
    struct store_resources capacity = fixture_capacity(4);
    struct error err = {0};
    lease_service_init(&service, fixture->store, NULL, &capacity);
    struct lease_request request = request_for("any");
    struct store_lease lease;
    struct vmm_accel accel;
    assert_int_equal(lease_service_create(&service, &request, &lease, &err), -ESHUTDOWN);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM leases"), 0);
    assert_false(lease_service_accel(&service, &accel));
    assert_null(lease_service_detach(&service));
    lease_service_done(&service);
}

static void what_an_earlier_daemon_left_is_ended_at_start(void **state)
{
    struct store_fixture *fixture = *state;
    struct lease_service service;
    struct store_resources capacity = fixture_capacity(4);
    struct error err = {0};
    /* More than one page of them. */
    for (unsigned n = 1; n <= 70; n++)
        fixture_reserve(fixture, n);
    lease_service_init(&service, fixture->store, NULL, &capacity);
    assert_works(lease_service_recover(&service, &err), err);
    struct store_resources used;
    assert_works(store_capacity_used(fixture->store, &used, &err), err);
    assert_int_equal(used.leases, 0);
    struct store_lease lease;
    assert_works(store_lease_get(fixture->store, fixture_lease(70).id.text, &lease, &err), err);
    assert_int_equal(lease.reason, LEASE_RECOVERY_FAILED);
    assert_string_equal(lease.initiated_by, "provider");
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events WHERE type = 'recovery.failed'"), 70);
    assert_works(lease_service_recover(&service, &err), err); /* nothing is left to do */
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
        STORED(an_image_that_was_changed_ends_its_lease_with_an_event),
        STORED(without_machines_nothing_is_reserved),
        STORED(what_an_earlier_daemon_left_is_ended_at_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "api/lease/lease_recover.h"

#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/lease/journal.h"
#include "base/clock.h"
#include "tests/cmocka.h"
#include "tests/store/store_fixture.h"
#include "tests/vmm/fake_qemu.h"
#include "tests/vmm/vmm_fixture.h"

enum { TICK_US = 5000 };

static const char *program;

/* One daemon after the other on the same store and the same folders, all in this process. */
struct house {
    struct store_fixture *fixture;
    struct vmm_fixture world;
    struct lease_service service;
    struct journal *journal;
};

static struct house house;

static void begin(void)
{
    struct store_resources capacity = fixture_capacity(8);
    struct error err = {0};
    assert_works(lease_service_init(&house.service, house.fixture->store, NULL, &capacity, &err), err);
    house.service.keep_machines = true;
    assert_works(journal_start(&house.service, &house.journal, &err), err);
    house.world.config.on_event = journal_event;
    house.world.config.context = house.journal;
    house.world.config.keep_machines = true;
    fixture_open(&house.world);
    lease_service_attach(&house.service, house.world.vmm);
    assert_works(lease_recover(&house.service, &err), err);
}

static void end(bool leave)
{
    struct vmm *vmm = lease_service_detach(&house.service);
    if (leave)
        vmm_leave(vmm);
    else
        vmm_close(vmm);
    house.world.vmm = NULL;
    journal_stop(house.journal);
    lease_service_done(&house.service);
}

static int set_up(void **state)
{
    struct error err = {0};
    struct store_resources used;
    struct store_lease lease;
    int result = store_fixture_setup(state);
    house.fixture = *state;
    /* SQLite opens some of its files when they are first used; fixture_done() counts descriptors. */
    assert_works(store_event_append(house.fixture->store, "test.begun", NULL, "{}", 1, &err), err);
    assert_works(store_capacity_used(house.fixture->store, &used, &err), err);
    assert_int_equal(store_lease_get(house.fixture->store, fixture_lease(1).id.text, &lease, &err), -ENOENT);
    fixture_init(&house.world, program);
    return result;
}

static int tear_down(void **state)
{
    fixture_done(&house.world);
    return store_fixture_teardown(state);
}

static struct store_lease read_lease(const char *id)
{
    struct store_lease lease;
    struct error err = {0};
    assert_works(store_lease_get(house.fixture->store, id, &lease, &err), err);
    return lease;
}

static struct store_lease await(const char *id, enum lease_state state)
{
    for (int waited_us = 0; waited_us < FIXTURE_WAIT_MS * 1000; waited_us += TICK_US) {
        struct store_lease lease = read_lease(id);
        if (lease.state == state)
            return lease;
        usleep(TICK_US);
    }
    fail_msg("%s is %s, not %s", id, lease_state_name(read_lease(id).state), lease_state_name(state));
    return read_lease(id);
}

static struct store_lease create(const char *word, bool external)
{
    struct vmm_spec unused;
    struct error err = {0};
    struct store_lease lease;
    fixture_spec(&house.world, word, &unused); /* makes the image */
    struct lease_request request = {
        .resources = {.leases = 1, .vcpus = 1, .memory_mib = 128},
        .external = external,
        .network = {.mode = MODE_CONNTRACK, .terminate = true, .limits = {.egress_packets_per_s = 7}},
        .tunnel = {.consumer = {.ip = UINT32_C(0xC6336407), .port = 51900},
                   .consumer_tunnel_ip = UINT32_C(0x0A630001),
                   .vm_tunnel_ip = UINT32_C(0x0A630002)},
        .ssh_user = "work",
        .ssh_key_count = 1,
        .ttl_s = 3600,
        .labels = "{}",
    };
    uint8_t private_key[VMM_KEY_BYTES];
    vmm_key_pair(private_key, request.tunnel.consumer_public_key);
    snprintf(request.image, sizeof request.image, "%s", external ? "" : word);
    snprintf(request.ssh_keys[0], sizeof request.ssh_keys[0],
             "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g");
    assert_works(lease_service_create(&house.service, &request, NULL, &lease, &err), err);
    return await(lease.id.text, LEASE_RUNNING);
}

struct count {
    const char *type;
    unsigned count;
    char last[64];
};

static int count_event(void *context, const struct store_event *event)
{
    struct count *count = context;
    count->count += strcmp(event->type, count->type) == 0;
    snprintf(count->last, sizeof count->last, "%s-%llu", store_epoch(house.fixture->store),
             (unsigned long long)event->sequence);
    return 0;
}

/* Through the store's own reader: another connection to the file would leave a descriptor behind. */
static unsigned events(const char *type)
{
    struct count count = {.type = type};
    struct store_filter filter = {.limit = STORE_PAGE_MAX};
    struct error err = {0};
    char after[64] = "";
    while (true) {
        assert_works(store_event_list(house.fixture->store, &filter, count_event, &count, &err), err);
        if (strcmp(after, count.last) == 0)
            return count.count;
        snprintf(after, sizeof after, "%s", count.last);
        filter.after = after;
    }
}

static void bury(const struct store_lease *lease)
{
    assert_int_equal(waitpid((pid_t)lease->pid, NULL, 0), lease->pid);
}

static void a_lease_runs_on_under_the_next_daemon_with_its_policy(void **state)
{
    (void)state;
    begin();
    struct store_lease lease = create("obedient", false);
    end(true);
    assert_int_equal(read_lease(lease.id.text).state, LEASE_RUNNING);

    begin();
    struct store_lease again = await(lease.id.text, LEASE_RUNNING);
    assert_int_equal(again.pid, lease.pid);
    assert_int_equal(again.started_ms, lease.started_ms);
    assert_int_equal(again.expires_ms, lease.expires_ms);
    assert_int_equal(again.policy_observed, again.policy_desired);
    assert_int_equal(events("recovery.adopted"), 1);
    assert_int_equal(events("recovery.failed"), 0);
    struct nat_stats stats;
    assert_int_equal(lease_service_stats(&house.service, &lease.id, &stats), 0);
    assert_int_equal(stats.policy_generation, again.policy_desired);

    struct error err = {0};
    assert_works(lease_service_release(&house.service, lease.id.text, &again, &err), err);
    assert_int_equal(await(lease.id.text, LEASE_TERMINATED).reason, LEASE_RELEASED);
    end(false);
    bury(&lease);
}

static void a_lease_that_was_given_back_is_not_taken_over(void **state)
{
    (void)state;
    begin();
    struct store_lease lease = create("ignore-all", false);
    struct error err = {0};
    assert_works(store_lease_release(house.fixture->store, lease.id.text, &err), err);
    assert_works(store_lease_release(house.fixture->store, lease.id.text, &err), err);
    assert_int_equal(read_lease(lease.id.text).state, LEASE_RUNNING);
    end(true); /* the daemon goes before its machine has heard of it */
    begin();
    struct store_lease ended = read_lease(lease.id.text);
    assert_int_equal(ended.reason, LEASE_RELEASED);
    assert_string_equal(ended.initiated_by, "orchestrator");
    assert_int_equal(store_lease_release(house.fixture->store, lease.id.text, &err), -EALREADY);
    assert_int_equal(events("recovery.failed"), 0);
    end(false);
    bury(&lease);
}

static void an_external_lease_has_its_socket_again(void **state)
{
    (void)state;
    begin();
    struct store_lease lease = create("obedient", true);
    end(true);
    assert_int_equal(access(lease.socket_path, F_OK), 0); /* nobody listens there, and frames are refused */
    begin();
    struct store_lease again = await(lease.id.text, LEASE_RUNNING);
    assert_string_equal(again.socket_path, lease.socket_path);
    assert_int_equal(access(lease.socket_path, F_OK), 0);
    assert_int_equal(events("recovery.adopted"), 1);
    end(false);
    assert_int_equal(read_lease(lease.id.text).reason, LEASE_PROVIDER_SHUTDOWN);
    assert_int_equal(access(lease.socket_path, F_OK), -1);
}

static void a_lease_whose_machine_ended_meanwhile_ends(void **state)
{
    (void)state;
    begin();
    struct store_lease lease = create("obedient", false);
    end(true);
    assert_int_equal(kill((pid_t)lease.pid, SIGKILL), 0);
    bury(&lease);
    begin();
    struct store_lease ended = read_lease(lease.id.text);
    assert_int_equal(ended.reason, LEASE_RECOVERY_FAILED);
    assert_non_null(strstr(ended.termination_detail, "not there any more"));
    assert_int_equal(events("recovery.failed"), 1);
    end(false);
}

static void a_lease_that_cannot_be_proved_ends_with_its_machine(void **state)
{
    (void)state;
    begin();
    struct store_lease lease = create("other-name", false);
    end(true);
    begin();
    struct store_lease ended = await(lease.id.text, LEASE_TERMINATED);
    assert_int_equal(ended.reason, LEASE_RECOVERY_FAILED);
    assert_non_null(strstr(ended.termination_detail, "another machine's"));
    for (int waited_us = 0; events("recovery.failed") == 0; waited_us += TICK_US) { /* it follows the end */
        assert_true(waited_us < FIXTURE_WAIT_MS * 1000);
        usleep(TICK_US);
    }
    assert_int_equal(events("recovery.adopted"), 0);
    end(false);
    bury(&lease);
}

static void machines_that_are_not_to_be_kept_are_ended(void **state)
{
    (void)state;
    begin();
    struct store_lease lease = create("obedient", false);
    end(true);
    struct store_resources capacity = fixture_capacity(8);
    struct error err = {0};
    assert_works(lease_service_init(&house.service, house.fixture->store, NULL, &capacity, &err), err);
    fixture_open(&house.world);
    lease_service_attach(&house.service, house.world.vmm);
    assert_works(lease_recover(&house.service, &err), err);
    assert_int_equal(read_lease(lease.id.text).reason, LEASE_RECOVERY_FAILED);
    assert_non_null(strstr(read_lease(lease.id.text).termination_detail, "ended the machine"));
    house.world.vmm = lease_service_detach(&house.service);
    lease_service_done(&house.service);
    bury(&lease);
}

static void a_lease_that_was_ending_ends_for_what_it_was_ending_for(void **state)
{
    (void)state;
    struct error err = {0};
    static const struct {
        const char *detail;
        enum lease_reason reason;
        const char *by;
    } rows[] = {
        {"asked", LEASE_RELEASED, "orchestrator"},
        {"heartbeat_lost", LEASE_HEARTBEAT_LOST, "provider"},
        {"guest_shutdown", LEASE_GUEST_SHUTDOWN, "guest"},
        {"no such word", LEASE_RECOVERY_FAILED, "provider"},
    };
    enum { ROWS = sizeof rows / sizeof rows[0] };
    const struct store_resources room = fixture_capacity(ROWS);
    for (unsigned n = 0; n < ROWS; n++) {
        struct store_lease lease = fixture_lease(n + 1);
        lease.ttl_s = 0;
        lease.expires_ms = 0;
        assert_works(store_lease_reserve(house.fixture->store, &lease, &room, &err), err);
        const struct store_change stopping = {.to = LEASE_STOPPING, .at_ms = 5, .detail = rows[n].detail};
        assert_works(store_lease_transition(house.fixture->store, lease.id.text, &stopping, &err), err);
    }
    begin();
    for (unsigned n = 0; n < ROWS; n++) {
        struct store_lease lease = read_lease(fixture_lease(n + 1).id.text);
        assert_int_equal(lease.reason, rows[n].reason);
        assert_string_equal(lease.initiated_by, rows[n].by);
    }
    end(false);
}

static void more_than_a_page_of_leases_without_a_machine_is_ended(void **state)
{
    (void)state;
    struct error err = {0};
    const unsigned count = STORE_PAGE_MAX + 7;
    const struct store_resources room = fixture_capacity(count);
    for (unsigned n = 1; n <= count; n++) {
        struct store_lease endless = fixture_lease(n);
        endless.ttl_s = 0;
        endless.expires_ms = 0;
        assert_works(store_lease_reserve(house.fixture->store, &endless, &room, &err), err);
    }
    begin();
    struct store_resources used;
    assert_works(store_capacity_used(house.fixture->store, &used, &err), err);
    assert_int_equal(used.leases, 0);
    struct store_lease lease = read_lease(fixture_lease(count).id.text);
    assert_int_equal(lease.reason, LEASE_RECOVERY_FAILED);
    assert_string_equal(lease.initiated_by, "provider");
    assert_int_equal(events("recovery.failed"), count);
    assert_works(lease_recover(&house.service, &err), err); /* nothing is left to do */
    end(false);
}

static void what_expired_while_no_daemon_was_there_has_expired(void **state)
{
    (void)state;
    struct error err = {0};
    struct store_lease lease;
    char boot_id[ID_TEXT_BYTES];
    vmm_boot_id(boot_id);
    /* By the clock of this boot, whatever the wall clock says; by the wall clock after another boot. */
    const struct {
        const char *boot_id;
        uint64_t deadline_ms;
        uint64_t expires_ms;
        enum lease_reason reason;
    } rows[] = {
        {boot_id, 1, clock_wall_ms() + 3600000, LEASE_EXPIRED},
        {boot_id, clock_boot_ms() + 3600000, 1, LEASE_RECOVERY_FAILED},
        {"11111111-1111-4111-8111-111111111111", clock_boot_ms() + 3600000, 1, LEASE_EXPIRED},
        {"11111111-1111-4111-8111-111111111111", 1, clock_wall_ms() + 3600000, LEASE_RECOVERY_FAILED},
    };
    enum { ROWS = sizeof rows / sizeof rows[0] };
    const struct store_resources room = fixture_capacity(ROWS);
    for (unsigned n = 0; n < ROWS; n++) {
        lease = fixture_lease(n);
        snprintf(lease.deadline_boot_id, sizeof lease.deadline_boot_id, "%s", rows[n].boot_id);
        lease.deadline_ms = rows[n].deadline_ms;
        lease.expires_ms = rows[n].expires_ms;
        assert_works(store_lease_reserve(house.fixture->store, &lease, &room, &err), err);
    }
    begin();
    for (unsigned n = 0; n < ROWS; n++)
        assert_int_equal(read_lease(fixture_lease(n).id.text).reason, rows[n].reason);
    end(false);
}

int main(int argc, char **argv)
{
    if (fake_qemu_is_meant(argv[0]))
        return fake_qemu_main(argc, argv);
    program = argv[0];
    if (sodium_init() < 0)
        return 1;
#define WHOLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WHOLE(a_lease_runs_on_under_the_next_daemon_with_its_policy),
        WHOLE(a_lease_that_was_given_back_is_not_taken_over),
        WHOLE(an_external_lease_has_its_socket_again),
        WHOLE(a_lease_whose_machine_ended_meanwhile_ends),
        WHOLE(a_lease_that_cannot_be_proved_ends_with_its_machine),
        WHOLE(machines_that_are_not_to_be_kept_are_ended),
        WHOLE(a_lease_that_was_ending_ends_for_what_it_was_ending_for),
        WHOLE(more_than_a_page_of_leases_without_a_machine_is_ended),
        WHOLE(what_expired_while_no_daemon_was_there_has_expired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What the handlers answer about modes, evidence and direct leases; the store is real, the machines are not there. */
#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/resource/api.h"
#include "api/resource/handle.h"
#include "api/resource/pcapng.h"
#include "tests/cmocka.h"
#include "tests/store/store_fixture.h"

static const char lease_body[] =
    "{\"image\":\"micro\",\"resources\":{\"vcpus\":1,\"memory_mib\":128},\"network\":{\"mode\":\"%s\"},"
    "\"consumer\":{\"public_key\":\"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\","
    "\"endpoint\":\"203.0.113.7:51900\",\"tunnel_ip\":\"10.99.0.1\"},\"vm\":{\"tunnel_ip\":\"10.99.0.2\"},"
    "\"ssh\":{\"user\":\"work\",\"authorized_keys\":[\"ssh-ed25519 "
    "AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g\"]}}";

static const char manifest[] =
    "{\"name\":\"micro\",\"description\":\"a test\",\"architecture\":\"x86_64\",\"boot\":\"kernel\",\"kernel\":{"
    "\"file\":\"k\",\"sha256\":\"%064d\",\"bytes\":1},\"initrd\":{\"file\":\"i\",\"sha256\":\"%064d\",\"bytes\":1},"
    "\"command_line\":\"quiet\",\"min_memory_mib\":96,\"ready_line\":\"ready\"}";

/* How often direct mode was looked at; it never works here. */
static int probed;

static int probe(struct error *err)
{
    probed++;
    return error_set(err, -ENOENT, "pasta is missing; apt install passt");
}

/* Handlers and what they work with. Owner: the test. */
struct world {
    struct store_fixture *fixture;
    struct config config;
    struct lease_service service;
    struct direct_check direct;
    struct api api;
};

static void begin(struct world *world, struct store_fixture *fixture)
{
    const struct store_resources capacity = fixture_capacity(4);
    *world = (struct world){.fixture = fixture, .config = {.capacity = capacity}};
    world->config.network.mode = MODE_FILTERED;
    world->config.network.sampling_rate = 0.01;
    world->config.network.allow_mode_override = true;
    snprintf(world->config.paths.images, sizeof world->config.paths.images, "%.200s/images", fixture->folder);
    char path[512];
    assert_int_equal(mkdir(world->config.paths.images, 0700), 0);
    snprintf(path, sizeof path, "%s/micro", world->config.paths.images);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/micro/manifest.json", world->config.paths.images);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, manifest, 0, 0);
    assert_int_equal(fclose(file), 0);
    probed = 0;
    assert_int_equal(lease_service_init(&world->service, fixture->store, NULL, &capacity, NULL), 0);
    direct_check_init(&world->direct, probe, DIRECT_CHECK_AGAIN_MS);
    world->api = (struct api){
        .config = &world->config, .store = fixture->store, .service = &world->service, .direct = &world->direct};
}

static void end(struct world *world)
{
    direct_check_done(&world->direct);
    lease_service_done(&world->service);
}

/* The problem's slug, or "" for an answer that is none. */
static const char *slug_of(const struct response *response)
{
    static char slug[64];
    slug[0] = '\0';
    json_t *json = json_loadb(response->body, response->body_bytes, 0, NULL);
    const char *type = json_string_value(json_object_get(json, "type"));
    if (type != NULL)
        snprintf(slug, sizeof slug, "%s", strrchr(type, '/') + 1);
    json_decref(json);
    return slug;
}

static const char *header_of(const struct response *response, const char *name)
{
    for (size_t i = 0; i < response->header_count; i++) {
        if (strcmp(response->headers[i].name, name) == 0)
            return response->headers[i].value;
    }
    return "";
}

static void get_evidence(struct world *world, const char *id, struct response *response)
{
    const struct request request = {.method = REQUEST_GET, .parameter_count = 1, .parameters = {id}};
    *response = (struct response){0};
    handle_violation_evidence(&world->api, &request, response);
}

static void evidence_is_a_capture_named_after_its_violation(void **state)
{
    struct world world;
    struct response response;
    struct error err = {0};
    begin(&world, *state);
    const struct store_violation violation = fixture_violation(1, fixture_reserve(world.fixture, 1));
    assert_works(store_violation_record(world.fixture->store, &violation, NULL, &err), err);
    get_evidence(&world, violation.id.text, &response);
    assert_int_equal(response.status, 200);
    assert_string_equal(response.content_type, PCAPNG_MEDIA_TYPE);
    char expected[96];
    snprintf(expected, sizeof expected, "attachment; filename=\"%s.pcapng\"", violation.id.text);
    assert_string_equal(header_of(&response, "Content-Disposition"), expected);
    assert_memory_equal(response.body, "\n\r\r\n", 4);
    assert_non_null(memmem(response.body, response.body_bytes, violation.code, strlen(violation.code)));
    assert_non_null(memmem(response.body, response.body_bytes, violation.lease_id.text, ID_TEXT_BYTES - 1));
    assert_non_null(memmem(response.body, response.body_bytes, violation.evidence, violation.evidence_bytes));
    response_done(&response);
    end(&world);
}

static void evidence_that_is_not_there_is_told_from_what_is_gone(void **state)
{
    struct world world;
    struct response response;
    struct error err = {0};
    begin(&world, *state);
    struct store_violation purged = fixture_violation(1, fixture_reserve(world.fixture, 1));
    struct store_violation reported = fixture_violation(2, purged.lease_id);
    reported.evidence_bytes = 0;
    set_text(reported.source, "guest_firewall");
    assert_works(store_violation_record(world.fixture->store, &purged, NULL, &err), err);
    assert_works(store_violation_record(world.fixture->store, &reported, NULL, &err), err);
    assert_works(store_evidence_purge(world.fixture->store, UINT64_C(1900000000000), &err), err);
    const struct {
        const char *id;
        unsigned status;
        const char *slug;
    } table[] = {
        {purged.id.text, 410, "evidence-purged"},
        {reported.id.text, 404, "evidence-absent"},
        {purged.lease_id.text, 404, "violation-not-found"},
        {"../../etc/passwd", 404, "violation-not-found"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        get_evidence(&world, table[i].id, &response);
        assert_int_equal(response.status, table[i].status);
        assert_string_equal(slug_of(&response), table[i].slug);
        response_done(&response);
    }
    end(&world);
}

static void create(struct world *world, const char *mode, struct response *response)
{
    char body[1024];
    int length = snprintf(body, sizeof body, lease_body, mode);
    const struct request request = {
        .method = REQUEST_POST, .body = (const uint8_t *)body, .body_bytes = (size_t)length};
    *response = (struct response){0};
    handle_lease_create(&world->api, &request, response);
}

static void a_direct_lease_is_refused_with_what_is_missing_and_nothing_stands_in(void **state)
{
    struct world world;
    struct response response;
    begin(&world, *state);
    assert_int_equal(direct_check_begin(&world.direct, NULL), 0);
    for (int i = 0; i < 3; i++) {
        create(&world, "direct", &response);
        assert_int_equal(response.status, 409);
        assert_string_equal(slug_of(&response), "direct-unavailable");
        assert_non_null(memmem(response.body, response.body_bytes, "apt install passt", 17));
        response_done(&response);
    }
    assert_int_equal(probed, 1);
    assert_int_equal(fixture_number(world.fixture, "SELECT count(*) FROM leases"), 0);
    end(&world);
}

static void no_request_has_the_machine_looked_at(void **state)
{
    struct world world;
    struct response response;
    begin(&world, *state);
    create(&world, "conntrack", &response); /* as far as the machines, which are not there */
    assert_string_equal(slug_of(&response), "shutting-down");
    response_done(&response);
    world.config.network.allow_mode_override = false;
    create(&world, "direct", &response);
    assert_int_equal(response.status, 422);
    assert_string_equal(slug_of(&response), "mode-not-allowed");
    response_done(&response);
    world.config.network.allow_mode_override = true;
    create(&world, "direct", &response); /* the check was not begun: there is no finding to wait for */
    assert_int_equal(response.status, 409);
    assert_string_equal(slug_of(&response), "direct-unavailable");
    response_done(&response);
    assert_int_equal(probed, 0);
    end(&world);
}

static void a_direct_lease_has_no_counters(void **state)
{
    struct world world;
    struct response response = {0};
    struct error err = {0};
    const struct store_resources capacity = fixture_capacity(4);
    begin(&world, *state);
    struct store_lease lease = fixture_lease(1);
    lease.mode[0] = '\0';
    set_text(lease.mode, "direct");
    assert_works(store_lease_reserve(world.fixture->store, &lease, &capacity, &err), err);
    const struct request request = {.method = REQUEST_GET, .parameter_count = 1, .parameters = {lease.id.text}};
    handle_lease_stats(&world.api, &request, &response);
    assert_int_equal(response.status, 409);
    assert_string_equal(slug_of(&response), "counters-absent");
    response_done(&response);
    end(&world);
}

/* One request about a lease's policy. The answer's problem must be @slug. */
static void refuses(struct world *world, void (*handle)(void *, const struct request *, struct response *),
                    const struct id *id, const char *if_match, const char *slug)
{
    static const char body[] = "{\"mode\":\"filtered\",\"allowlist\":[\"203.0.113.9:51900\"]}";
    const struct request request = {.method = REQUEST_PUT,
                                    .parameter_count = 1,
                                    .parameters = {id->text},
                                    .if_match = if_match,
                                    .body = (const uint8_t *)body,
                                    .body_bytes = sizeof body - 1};
    struct response response = {0};
    handle(&world->api, &request, &response);
    assert_string_equal(slug_of(&response), slug);
    response_done(&response);
}

static void a_direct_lease_has_no_policy_and_no_flows(void **state)
{
    struct world world;
    struct error err = {0};
    const struct store_resources capacity = fixture_capacity(4);
    begin(&world, *state);
    struct store_lease lease = fixture_lease(1);
    memset(lease.mode, 0, sizeof lease.mode);
    set_text(lease.mode, "direct");
    lease.policy_desired = 0;
    assert_works(store_lease_reserve(world.fixture->store, &lease, &capacity, &err), err);
    refuses(&world, handle_policy_get, &lease.id, NULL, "policy-absent");
    refuses(&world, handle_policy_put, &lease.id, "\"1\"", "policy-absent");
    refuses(&world, handle_policy_evaluate, &lease.id, NULL, "policy-absent");
    refuses(&world, handle_lease_flows, &lease.id, NULL, "policy-absent");
    end(&world);
}

/* From the sampled lease's first state to its last; what is in force until then is never touched. */
static void a_policy_is_replaced_while_its_lease_runs_and_never_before_or_after(void **state)
{
    static const enum lease_state line[] = {LEASE_PREPARING, LEASE_STARTING, LEASE_RUNNING};
    struct world world;
    struct error err = {0};
    struct store_end over = fixture_end();
    const struct store_resources capacity = fixture_capacity(4);
    begin(&world, *state);
    struct store_lease lease = fixture_lease(1);
    set_text(lease.mode, "sampled");
    lease.sampling_ppm = 10000;
    assert_works(store_lease_reserve(world.fixture->store, &lease, &capacity, &err), err);
    for (size_t i = 0; i < sizeof line / sizeof line[0]; i++) {
        refuses(&world, handle_policy_put, &lease.id, NULL, "precondition-required");
        refuses(&world, handle_policy_put, &lease.id, "\"2\"", "precondition-failed");
        refuses(&world, handle_policy_put, &lease.id, "\"1\"", "lease-not-running");
        const struct store_change change = {.to = line[i]};
        assert_works(store_lease_transition(world.fixture->store, lease.id.text, &change, &err), err);
    }
    assert_works(store_lease_policy(world.fixture->store, lease.id.text, 1, 1, &err), err);
    refuses(&world, handle_policy_put, &lease.id, "\"1\"", "shutting-down"); /* no machines: the change is withdrawn */
    const struct store_change stopping = {.to = LEASE_STOPPING};
    assert_works(store_lease_transition(world.fixture->store, lease.id.text, &stopping, &err), err);
    refuses(&world, handle_policy_put, &lease.id, "\"1\"", "lease-ended");
    assert_works(store_lease_terminate(world.fixture->store, lease.id.text, &over, &err), err);
    refuses(&world, handle_policy_put, &lease.id, "\"1\"", "lease-ended");
    const struct id nobody = fixture_lease(2).id;
    refuses(&world, handle_policy_put, &nobody, "\"1\"", "lease-not-found");
    assert_works(store_lease_get(world.fixture->store, lease.id.text, &lease, &err), err);
    assert_string_equal(lease.mode, "sampled");
    assert_int_equal(lease.policy_desired, 1);
    assert_int_equal(fixture_number(world.fixture, "SELECT count(*) FROM policies"), 0);
    end(&world);
}

static void the_node_lists_the_modes_that_a_lease_may_ask(void **state)
{
    struct world world;
    struct response response;
    const struct request request = {.method = REQUEST_GET};
    begin(&world, *state);
    world.config.network.mode = MODE_CONNTRACK;
    for (int override = 0; override <= 1; override++) {
        world.config.network.allow_mode_override = override == 1;
        response = (struct response){0};
        handle_node(&world.api, &request, &response);
        assert_int_equal(response.status, 200);
        json_t *json = json_loadb(response.body, response.body_bytes, 0, NULL);
        const json_t *modes = json_object_get(json_object_get(json, "network"), "modes");
        assert_int_equal(json_array_size(modes), override == 1 ? MODE_COUNT : 1);
        assert_string_equal(json_string_value(json_array_get(modes, override == 1 ? 3 : 0)),
                            override == 1 ? "direct" : "conntrack");
        json_decref(json);
        response_done(&response);
    }
    end(&world);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
#define STORED(test) cmocka_unit_test_setup_teardown(test, store_fixture_setup, store_fixture_teardown)
    const struct CMUnitTest tests[] = {
        STORED(evidence_is_a_capture_named_after_its_violation),
        STORED(evidence_that_is_not_there_is_told_from_what_is_gone),
        STORED(a_direct_lease_is_refused_with_what_is_missing_and_nothing_stands_in),
        STORED(no_request_has_the_machine_looked_at),
        STORED(a_direct_lease_has_no_counters),
        STORED(a_direct_lease_has_no_policy_and_no_flows),
        STORED(a_policy_is_replaced_while_its_lease_runs_and_never_before_or_after),
        STORED(the_node_lists_the_modes_that_a_lease_may_ask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

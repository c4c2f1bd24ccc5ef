#include "api/lease/encode.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cmocka.h"
#include "tests/store/store_fixture.h"

static const json_t *at(const json_t *json, const char *key, const char *inner)
{
    json_t *outer = json_object_get(json, key);
    return inner == NULL ? outer : json_object_get(outer, inner);
}

static void assert_text(const json_t *json, const char *expected)
{
    assert_true(json_is_string(json));
    assert_string_equal(json_string_value(json), expected);
}

static void a_living_lease_shows_what_it_is(void **state)
{
    (void)state;
    struct store_lease lease = fixture_lease(1);
    lease.generation = 3;
    lease.exit_code = -1;
    json_t *json = encode_lease(&lease);
    assert_non_null(json);
    assert_text(at(json, "id", NULL), lease.id.text);
    assert_text(at(json, "state", NULL), "pending");
    assert_true(json_is_null(at(json, "state_reason", NULL)));
    assert_int_equal(json_integer_value(at(json, "generation", NULL)), 3);
    assert_text(at(json, "created_at", NULL), "2023-11-14T22:13:20.001Z");
    assert_true(json_is_null(at(json, "started_at", NULL)));
    assert_text(at(json, "image", "name"), "alpine-3.20");
    assert_true(json_is_null(at(json, "image", "digest")));
    assert_int_equal(json_integer_value(at(json, "resources", "memory_mib")), 2048);
    assert_text(at(json, "labels", "team"), "a");
    assert_text(at(json, "consumer", "endpoint"), lease.consumer_endpoint);
    assert_text(at(json, "vm", "public_key"), lease.vm_public_key);
    assert_text(at(json, "network", "guest_ip"), "192.168.64.2");
    assert_text(at(json, "filter", "enforcement"), "deny_all");
    assert_text(at(json, "filter", "kernel_filter"), "unsupported");
    encode_kernel_filter(json, NAT_KERNEL_FILTER_ACTIVE);
    assert_text(at(json, "filter", "kernel_filter"), "active");
    assert_true(json_is_null(at(json, "termination", NULL)));
    /* What only the daemon needs is nobody's to read. */
    assert_null(json_object_get(json, "pid"));
    assert_null(json_object_get(json, "boot_id"));
    json_decref(json);
}

static void enforcement_follows_the_generations(void **state)
{
    (void)state;
    static const struct {
        enum lease_state state;
        uint64_t desired;
        uint64_t observed;
        const char *word;
    } table[] = {
        {LEASE_STARTING, 1, 0, "deny_all"},
        {LEASE_RUNNING, 1, 1, "enforcing"},
        {LEASE_RUNNING, 2, 1, "updating"},
        {LEASE_TERMINATED, 1, 1, "ended"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct store_lease lease = fixture_lease(1);
        lease.state = table[i].state;
        lease.policy_desired = table[i].desired;
        lease.policy_observed = table[i].observed;
        json_t *json = encode_lease(&lease);
        assert_text(at(json, "filter", "enforcement"), table[i].word);
        json_decref(json);
    }
}

static void an_ended_lease_shows_how(void **state)
{
    (void)state;
    struct store_lease lease = fixture_lease(1);
    lease.state = LEASE_TERMINATED;
    lease.reason = LEASE_VMM_CRASH;
    lease.exit_code = -1;
    lease.signal = 11;
    lease.stopped_ms = UINT64_C(1700000001000);
    strcpy(lease.initiated_by, "provider");
    strcpy(lease.termination_detail, "it crashed");
    json_t *json = encode_lease(&lease);
    assert_text(at(json, "termination", "reason"), "vmm_crash");
    assert_true(json_is_null(at(json, "termination", "exit_code")));
    assert_int_equal(json_integer_value(at(json, "termination", "signal")), 11);
    json_decref(json);
    json = encode_termination(&lease);
    assert_text(at(json, "lease_id", NULL), lease.id.text);
    assert_text(at(json, "detail", NULL), "it crashed");
    assert_text(at(json, "stopped_at", NULL), "2023-11-14T22:13:21.000Z");
    json_decref(json);
}

static void text_that_is_not_utf8_is_shown_escaped(void **state)
{
    (void)state;
    struct store_lease lease = fixture_lease(1);
    lease.reason = LEASE_GUEST_CRASH;
    strcpy(lease.termination_detail, "oops \xff\xfe");
    json_t *json = encode_lease(&lease);
    assert_non_null(json);
    assert_text(at(json, "termination", "detail"), "oops \\xff\\xfe");
    json_decref(json);
}

static void a_violation_shows_null_where_the_frame_had_nothing(void **state)
{
    (void)state;
    struct store_violation violation = fixture_violation(1, fixture_lease(1).id);
    violation.destination_ip[0] = '\0';
    violation.destination_port = 0;
    violation.evidence_bytes = 0;
    violation.evidence_purged = true;
    json_t *json = encode_violation(&violation);
    assert_non_null(json);
    assert_true(json_is_null(at(json, "destination_ip", NULL)));
    assert_true(json_is_null(at(json, "destination_port", NULL)));
    assert_true(json_is_null(at(json, "evidence", NULL)));
    assert_true(json_is_null(at(json, "sampling_rate", NULL)));
    assert_true(json_is_null(at(json, "stop_latency_ms", NULL)));
    json_decref(json);
}

static void a_terminating_violation_shows_rate_latency_and_evidence(void **state)
{
    (void)state;
    struct store_violation violation = fixture_violation(1, fixture_lease(1).id);
    violation.sampling_ppm = 10000;
    violation.stop_latency_ms = 17;
    strcpy(violation.verdict, "terminated");
    memcpy(violation.evidence, "abc", 3);
    json_t *json = encode_violation(&violation);
    assert_text(at(json, "verdict", NULL), "terminated");
    assert_true(json_real_value(at(json, "sampling_rate", NULL)) == 0.01);
    assert_int_equal(json_integer_value(at(json, "stop_latency_ms", NULL)), 17);
    assert_int_equal(json_integer_value(at(json, "evidence", "bytes")), 3);
    /* FIPS 180-2, appendix B.1. */
    assert_text(at(json, "evidence", "sha256"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    json_decref(json);
}

static void a_plain_lease_has_no_limits_no_sampling_and_no_exposure(void **state)
{
    (void)state;
    struct store_lease lease = fixture_lease(1);
    json_t *json = encode_lease(&lease);
    const json_t *network = at(json, "network", NULL);
    assert_text(json_object_get(network, "mode"), "filtered");
    assert_true(json_is_null(json_object_get(network, "sampling")));
    assert_text(json_object_get(network, "boot_isolation"), "prebuilt");
    assert_true(json_is_false(json_object_get(network, "require_wireguard")));
    assert_int_equal(json_object_size(json_object_get(network, "limits")), 4);
    assert_true(json_is_null(at(network, "limits", "egress_bits_per_s")));
    assert_true(json_is_null(json_object_get(network, "exposed_ms")));
    assert_text(at(json, "on_violation", NULL), "drop");
    json_decref(json);
}

static void a_sampled_lease_states_what_it_may_miss(void **state)
{
    (void)state;
    struct store_lease lease = fixture_lease(1);
    strcpy(lease.mode, "sampled");
    strcpy(lease.on_violation, "terminate");
    lease.sampling_ppm = 10000;
    lease.require_wireguard = true;
    lease.egress_bits_per_s = 8000;
    lease.ingress_packets_per_s = UINT64_C(1000000000);
    json_t *json = encode_lease(&lease);
    const json_t *network = at(json, "network", NULL);
    assert_true(json_real_value(at(network, "sampling", "rate")) == 0.01);
    assert_int_equal(json_integer_value(at(network, "sampling", "packets_for_50_percent")), 69);
    assert_int_equal(json_integer_value(at(network, "sampling", "packets_for_99_percent")), 459);
    assert_true(json_is_true(json_object_get(network, "require_wireguard")));
    assert_int_equal(json_integer_value(at(network, "limits", "egress_bits_per_s")), 8000);
    assert_true(json_is_null(at(network, "limits", "egress_packets_per_s")));
    assert_int_equal(json_integer_value(at(network, "limits", "ingress_packets_per_s")), 1000000000);
    assert_text(at(json, "on_violation", NULL), "terminate");
    json_decref(json);
}

static void direct_mode_says_that_nothing_is_enforced_or_watched(void **state)
{
    (void)state;
    static const enum lease_state states[] = {LEASE_PENDING, LEASE_RUNNING, LEASE_TERMINATED};
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        struct store_lease lease = fixture_lease(1);
        lease.state = states[i];
        lease.policy_desired = 0;
        strcpy(lease.mode, "direct");
        strcpy(lease.boot_isolation, "online_install");
        strcpy(lease.tunnel_state, "waiting");
        lease.exposed_ms = 31000;
        json_t *json = encode_lease(&lease);
        assert_text(at(json, "filter", "enforcement"), "none");
        assert_text(at(json, "tunnel", "state"), "unobserved");
        assert_true(json_is_null(at(json, "on_violation", NULL)));
        assert_int_equal(json_integer_value(at(json, "network", "exposed_ms")), 31000);
        json_decref(json);
    }
}

static void counters_have_an_entry_for_every_reason(void **state)
{
    (void)state;
    struct nat_stats stats = {.tunnel = NAT_TUNNEL_ESTABLISHED, .tunnel_established_ms = 500};
    stats.frames[NAT_REASON_FRAGMENT] = UINT64_MAX;
    json_t *json = encode_stats(&stats, 1500, UINT64_C(1700000000000));
    const json_t *list = at(json, "from_guest", NULL);
    assert_int_equal(json_array_size(list), NAT_REASON_COUNT);
    const json_t *fragment = json_array_get(list, NAT_REASON_FRAGMENT);
    assert_text(json_object_get(fragment, "reason"), "fragment");
    assert_text(json_object_get(fragment, "verdict"), "drop");
    assert_true(json_is_true(json_object_get(fragment, "violation")));
    assert_true(json_integer_value(json_object_get(fragment, "frames")) > 0);
    assert_text(at(json, "tunnel", "established_at"), "2023-11-14T22:13:19.000Z");
    assert_true(json_is_null(at(json, "tunnel", "last_handshake_at")));
    json_decref(json);
}

static void events_carry_their_data_as_an_object(void **state)
{
    (void)state;
    const struct store_event event = {.sequence = 5, .at_ms = 1, .type = "a.b", .data = "{\"x\":1}"};
    json_t *json = encode_event(&event, "0123456789abcdef");
    assert_text(at(json, "id", NULL), "0123456789abcdef-5");
    assert_int_equal(json_integer_value(at(json, "sequence", NULL)), 5);
    assert_true(json_is_null(at(json, "lease_id", NULL)));
    assert_true(json_is_null(at(json, "trace_id", NULL)));
    assert_int_equal(json_integer_value(at(json, "data", "x")), 1);
    json_decref(json);
}

/* An allocator that fails at the n-th call, counted down by the test. */
static size_t allocations_left;

static void *failing_malloc(size_t bytes)
{
    return allocations_left-- == 0 ? NULL : malloc(bytes);
}

static char *text_of(json_t *json)
{
    char *text = json_dumps(json, JSON_SORT_KEYS);
    assert_non_null(text);
    json_decref(json);
    return text;
}

static void assert_whole(json_t *json, const char *expected)
{
    if (json == NULL)
        return;
    char *text = text_of(json);
    assert_string_equal(text, expected);
    free(text);
}

static void a_lack_of_memory_yields_a_whole_document_or_none(void **state)
{
    (void)state;
    struct store_lease lease = fixture_lease(1);
    const struct nat_stats stats = {0};
    lease.reason = LEASE_VMM_CRASH;
    lease.sampling_ppm = 10000;
    char *whole_lease = text_of(encode_lease(&lease));
    char *whole_stats = text_of(encode_stats(&stats, 1, 1));
    size_t failures = 0;
    for (size_t n = 0; n < 1000; n++) {
        json_set_alloc_funcs(failing_malloc, free);
        allocations_left = n;
        json_t *shown_lease = encode_lease(&lease);
        allocations_left = n;
        json_t *shown_stats = encode_stats(&stats, 1, 1);
        allocations_left = SIZE_MAX;
        failures += shown_lease == NULL;
        assert_whole(shown_lease, whole_lease);
        assert_whole(shown_stats, whole_stats);
    }
    json_set_alloc_funcs(malloc, free);
    assert_true(failures > 10);
    assert_true(failures < 1000);
    free(whole_lease);
    free(whole_stats);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_living_lease_shows_what_it_is),
        cmocka_unit_test(enforcement_follows_the_generations),
        cmocka_unit_test(an_ended_lease_shows_how),
        cmocka_unit_test(text_that_is_not_utf8_is_shown_escaped),
        cmocka_unit_test(a_violation_shows_null_where_the_frame_had_nothing),
        cmocka_unit_test(a_terminating_violation_shows_rate_latency_and_evidence),
        cmocka_unit_test(a_plain_lease_has_no_limits_no_sampling_and_no_exposure),
        cmocka_unit_test(a_sampled_lease_states_what_it_may_miss),
        cmocka_unit_test(direct_mode_says_that_nothing_is_enforced_or_watched),
        cmocka_unit_test(counters_have_an_entry_for_every_reason),
        cmocka_unit_test(events_carry_their_data_as_an_object),
        cmocka_unit_test(a_lack_of_memory_yields_a_whole_document_or_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

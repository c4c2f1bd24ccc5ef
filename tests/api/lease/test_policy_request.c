#include "api/lease/policy_request.h"

#include <stdio.h>
#include <string.h>

#include "tests/cmocka.h"

#define LIST "\"allowlist\":[\"203.0.113.7:51900\"]"
#define GOOD "\"mode\":\"filtered\"," LIST

static struct lease_offer offer_of(bool override)
{
    return (struct lease_offer){
        .network = {.mode = MODE_FILTERED, .sampling_rate = 0.25, .allow_mode_override = override},
        .own = {.count = 1, .ips = {UINT32_C(0xC6336409)}}, /* 198.51.100.9 */
    };
}

static struct nat_policy decode(const char *text, bool override, struct decode_errors *errors)
{
    struct lease_offer offer = offer_of(override);
    struct nat_policy policy;
    json_t *tree = json_loads(text, 0, NULL);
    if (tree == NULL)
        fail_msg("no JSON: %s", text);
    *errors = (struct decode_errors){0};
    policy_request_decode(tree, &offer, errors, &policy);
    json_decref(tree);
    return policy;
}

static struct nat_policy good(const char *text)
{
    struct decode_errors errors;
    struct nat_policy policy = decode(text, true, &errors);
    if (errors.count > 0)
        fail_msg("%s: %s %s", text, errors.items[0].pointer, errors.items[0].detail);
    return policy;
}

static void expect(const struct decode_errors *errors, const char *text, const char *pointer, const char *slug)
{
    if (errors->count != 1 || strcmp(errors->items[0].pointer, pointer) != 0)
        fail_msg("%s: %zu faults, first at %s: %s", text, errors->count, errors->items[0].pointer,
                 errors->items[0].detail);
    if (slug == NULL)
        assert_null(errors->items[0].slug);
    else
        assert_string_equal(errors->items[0].slug, slug);
}

static void a_policy_is_taken_field_by_field(void **state)
{
    (void)state;
    struct nat_policy policy =
        good("{\"mode\":\"sampled\",\"sampling_rate\":0.5,\"require_wireguard\":true,\"on_violation\":\"drop\","
             "\"allowlist\":[\"203.0.113.7:51900\",\"203.0.113.7:51901\",\"203.0.113.8:51900\"],"
             "\"limits\":{\"egress_bits_per_s\":1000001,\"ingress_bits_per_s\":1000002,"
             "\"egress_packets_per_s\":1003,\"ingress_packets_per_s\":1004}}");
    assert_int_equal(policy.mode, NAT_MODE_SAMPLED);
    assert_int_equal(policy.sampling_ppm, 500000);
    assert_true(policy.require_wireguard);
    assert_false(policy.terminate);
    assert_true(policy.budget_unanswered);
    assert_int_equal(policy.allow_count, 3);
    assert_int_equal(policy.allow[0].ip, 0xCB007107);
    assert_int_equal(policy.allow[1].port, 51901);
    assert_int_equal(policy.allow[2].ip, 0xCB007108);
    assert_int_equal(policy.limits.egress_bits_per_s, 1000001);
    assert_int_equal(policy.limits.ingress_bits_per_s, 1000002);
    assert_int_equal(policy.limits.egress_packets_per_s, 1003);
    assert_int_equal(policy.limits.ingress_packets_per_s, 1004);
}

static void what_is_not_said_is_as_in_a_lease_request(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum nat_mode mode;
        uint32_t sampling_ppm;
        bool terminate;
    } cases[] = {{"{" GOOD "}", NAT_MODE_FILTERED, 0, false},
                 {"{\"mode\":\"conntrack\"," LIST "}", NAT_MODE_CONNTRACK, 0, true},
                 {"{\"mode\":\"sampled\"," LIST "}", NAT_MODE_SAMPLED, 250000, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct nat_policy policy = good(cases[i].text);
        assert_int_equal(policy.mode, cases[i].mode);
        assert_int_equal(policy.sampling_ppm, cases[i].sampling_ppm);
        assert_int_equal(policy.terminate, cases[i].terminate);
        assert_false(policy.require_wireguard);
        assert_int_equal(policy.limits.egress_bits_per_s, 0);
        assert_int_equal(policy.limits.ingress_packets_per_s, 0);
        assert_int_equal(policy.known_as.ip, 0);
    }
}

static void every_fault_is_named_by_its_field(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *pointer;
        const char *slug;
    } cases[] = {
        {"{\"mode\":\"filtered\"}", "/allowlist", NULL},
        {"{\"mode\":\"filtered\",\"allowlist\":[]}", "/allowlist", NULL},
        {"{\"mode\":\"filtered\",\"allowlist\":\"203.0.113.7:1\"}", "/allowlist", NULL},
        {"{\"mode\":\"filtered\",\"allowlist\":[7]}", "/allowlist/0", NULL},
        {"{\"mode\":\"filtered\",\"allowlist\":[\"203.0.113.7\"]}", "/allowlist/0", NULL},
        {"{\"mode\":\"filtered\",\"allowlist\":[\"203.0.113.7:0\"]}", "/allowlist/0", NULL},
        {"{\"mode\":\"filtered\",\"allowlist\":[\"203.0.113.7:1\",\"127.0.0.1:1\"]}", "/allowlist/1",
         "endpoint-forbidden"},
        {"{\"mode\":\"filtered\",\"allowlist\":[\"169.254.169.254:1\"]}", "/allowlist/0", "endpoint-forbidden"},
        {"{\"mode\":\"filtered\",\"allowlist\":[\"10.0.0.1:1\"]}", "/allowlist/0", "endpoint-forbidden"},
        {"{\"mode\":\"filtered\",\"allowlist\":[\"198.51.100.9:1\"]}", "/allowlist/0", "endpoint-forbidden"},
        {"{\"mode\":\"filtered\",\"allowlist\":[\"203.0.113.7:1\",\"203.0.113.7:2\",\"203.0.113.7:1\"]}",
         "/allowlist/2", NULL},
        {"{" LIST "}", "/mode", NULL},
        {"{\"mode\":\"open\"," LIST "}", "/mode", NULL},
        {"{\"mode\":1," LIST "}", "/mode", NULL},
        {"{\"mode\":\"direct\"," LIST "}", "/mode", NULL},
        {"{" GOOD ",\"sampling_rate\":0.5}", "/sampling_rate", NULL},
        {"{\"mode\":\"sampled\",\"sampling_rate\":0.0009," LIST "}", "/sampling_rate", NULL},
        {"{\"mode\":\"sampled\",\"sampling_rate\":1.1," LIST "}", "/sampling_rate", NULL},
        {"{" GOOD ",\"require_wireguard\":1}", "/require_wireguard", NULL},
        {"{" GOOD ",\"on_violation\":\"ask\"}", "/on_violation", NULL},
        {"{" GOOD ",\"limits\":7}", "/limits", NULL},
        {"{" GOOD ",\"limits\":{\"egress\":1}}", "/limits/egress", NULL},
        {"{" GOOD ",\"limits\":{\"egress_bits_per_s\":1}}", "/limits/egress_bits_per_s", NULL},
        {"{" GOOD ",\"limits\":{\"ingress_bits_per_s\":-1}}", "/limits/ingress_bits_per_s", NULL},
        {"{" GOOD ",\"limits\":{\"egress_packets_per_s\":\"9\"}}", "/limits/egress_packets_per_s", NULL},
        {"{" GOOD ",\"limits\":{\"ingress_packets_per_s\":0}}", "/limits/ingress_packets_per_s", NULL},
        {"{" GOOD ",\"boot_isolation\":\"prebuilt\"}", "/boot_isolation", NULL},
        {"{" GOOD ",\"generation\":7}", "/generation", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct decode_errors errors;
        decode(cases[i].text, true, &errors);
        expect(&errors, cases[i].text, cases[i].pointer, cases[i].slug);
    }
}

static void another_mode_is_for_the_configuration_to_allow(void **state)
{
    (void)state;
    struct decode_errors errors;
    decode("{" GOOD "}", false, &errors);
    assert_int_equal(errors.count, 0);
    const char *text = "{\"mode\":\"conntrack\"," LIST "}";
    decode(text, false, &errors);
    expect(&errors, text, "/mode", "mode-not-allowed");
}

static void an_allowlist_has_a_last_place(void **state)
{
    (void)state;
    for (int more = 0; more < 2; more++) {
        char text[1024] = "{\"mode\":\"filtered\",\"allowlist\":[";
        struct decode_errors errors;
        size_t used = strlen(text);
        for (int i = 0; i < NAT_ALLOW_MAX + more; i++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s\"203.0.113.7:%d\"", i == 0 ? "" : ",", i + 1);
        snprintf(text + used, sizeof text - used, "]}");
        struct nat_policy policy = decode(text, true, &errors);
        if (more == 0)
            assert_int_equal(policy.allow_count, NAT_ALLOW_MAX);
        else
            expect(&errors, text, "/allowlist", NULL);
    }
}

/* ---- packets ----------------------------------------------------------------------------------------------------- */

static const struct nat_link guest_link = {.guest_mac = {{2, 0, 0, 0, 0, 2}},
                                           .guest_ip = UINT32_C(0xC0A84002),
                                           .gateway_ip = UINT32_C(0xC0A84001),
                                           .prefix = 24,
                                           .mtu = NAT_MTU_MAX};

static struct evaluation_request decode_packet(const char *text, struct decode_errors *errors)
{
    struct evaluation_request request;
    json_t *tree = json_loads(text, 0, NULL);
    if (tree == NULL)
        fail_msg("no JSON: %s", text);
    *errors = (struct decode_errors){0};
    evaluation_request_decode(tree, &guest_link, errors, &request);
    json_decref(tree);
    return request;
}

static struct evaluation_request good_packet(const char *text)
{
    struct decode_errors errors;
    struct evaluation_request request = decode_packet(text, &errors);
    if (errors.count > 0)
        fail_msg("%s: %s %s", text, errors.items[0].pointer, errors.items[0].detail);
    return request;
}

static void a_described_packet_comes_from_the_guest_unless_it_says_otherwise(void **state)
{
    (void)state;
    static const uint8_t guest[4] = {192, 168, 64, 2};
    static const uint8_t consumer[4] = {203, 0, 113, 7};
    struct evaluation_request plain = good_packet("{\"destination_ip\":\"203.0.113.7\",\"destination_port\":51900}");
    assert_int_equal(plain.length, 14 + 20 + 8);
    assert_memory_equal(plain.frame + 6, guest_link.guest_mac.b, 6);
    assert_int_equal(plain.frame[23], 17);
    assert_memory_equal(plain.frame + 26, guest, 4);
    assert_memory_equal(plain.frame + 30, consumer, 4);
    assert_int_equal(plain.frame[34] * 256 + plain.frame[35], 40000);
    assert_int_equal(plain.frame[36] * 256 + plain.frame[37], 51900);

    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 9};
    static const uint8_t other[4] = {192, 168, 64, 9};
    struct evaluation_request said =
        good_packet("{\"source_mac\":\"02:00:00:00:00:09\",\"source_ip\":\"192.168.64.9\",\"source_port\":7,"
                    "\"destination_ip\":\"203.0.113.7\",\"destination_port\":0,\"payload_bytes\":1472}");
    assert_int_equal(said.length, NAT_FRAME_BYTES_MAX);
    assert_memory_equal(said.frame + 6, mac, 6);
    assert_memory_equal(said.frame + 26, other, 4);
    assert_int_equal(said.frame[34] * 256 + said.frame[35], 7);
}

static void a_protocol_is_a_name_or_a_number(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        uint8_t number;
    } cases[] = {{"\"udp\"", 17}, {"\"tcp\"", 6}, {"\"icmp\"", 1}, {"0", 0}, {"132", 132}, {"255", 255}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[96];
        snprintf(text, sizeof text, "{\"destination_ip\":\"203.0.113.7\",\"protocol\":%s}", cases[i].word);
        assert_int_equal(good_packet(text).frame[23], cases[i].number);
    }
}

static void a_frame_is_taken_byte_by_byte(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0x00, 0xff, 0xA5, 0x10};
    static char text[2 * NAT_FRAME_BYTES_MAX + 64];
    struct evaluation_request request = good_packet("{\"frame\":\"00ffA510\"}");
    assert_int_equal(request.length, sizeof bytes);
    assert_memory_equal(request.frame, bytes, sizeof bytes);
    assert_int_equal(good_packet("{\"frame\":\"\"}").length, 0);
    for (int more = 0; more < 2; more++) {
        struct decode_errors errors;
        snprintf(text, sizeof text, "{\"frame\":\"%0*d\"}", 2 * (NAT_FRAME_BYTES_MAX + more), 0);
        size_t length = decode_packet(text, &errors).length;
        if (more == 0)
            assert_int_equal(length, NAT_FRAME_BYTES_MAX);
        else
            expect(&errors, "a frame too long", "/frame", NULL);
    }
}

static void every_fault_of_a_packet_is_named_by_its_field(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *pointer;
    } cases[] = {
        {"{}", "/destination_ip"},
        {"{\"destination_ip\":\"here\"}", "/destination_ip"},
        {"{\"destination_ip\":7}", "/destination_ip"},
        {"{\"destination_ip\":\"203.0.113.7\",\"destination_port\":65536}", "/destination_port"},
        {"{\"destination_ip\":\"203.0.113.7\",\"source_port\":-1}", "/source_port"},
        {"{\"destination_ip\":\"203.0.113.7\",\"source_ip\":\"192.168.64\"}", "/source_ip"},
        {"{\"destination_ip\":\"203.0.113.7\",\"source_mac\":\"01:00:00:00:00:01\"}", "/source_mac"},
        {"{\"destination_ip\":\"203.0.113.7\",\"source_mac\":\"02:00\"}", "/source_mac"},
        {"{\"destination_ip\":\"203.0.113.7\",\"protocol\":\"sctp\"}", "/protocol"},
        {"{\"destination_ip\":\"203.0.113.7\",\"protocol\":256}", "/protocol"},
        {"{\"destination_ip\":\"203.0.113.7\",\"protocol\":true}", "/protocol"},
        {"{\"destination_ip\":\"203.0.113.7\",\"payload_bytes\":1473}", "/payload_bytes"},
        {"{\"destination_ip\":\"203.0.113.7\",\"payload_bytes\":\"9\"}", "/payload_bytes"},
        {"{\"destination_ip\":\"203.0.113.7\",\"ttl\":9}", "/ttl"},
        {"{\"frame\":\"0\"}", "/frame"},
        {"{\"frame\":\"0g\"}", "/frame"},
        {"{\"frame\":7}", "/frame"},
        {"{\"frame\":\"00\",\"protocol\":\"udp\"}", "/protocol"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct decode_errors errors;
        decode_packet(cases[i].text, &errors);
        expect(&errors, cases[i].text, cases[i].pointer, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_policy_is_taken_field_by_field),
        cmocka_unit_test(what_is_not_said_is_as_in_a_lease_request),
        cmocka_unit_test(every_fault_is_named_by_its_field),
        cmocka_unit_test(another_mode_is_for_the_configuration_to_allow),
        cmocka_unit_test(an_allowlist_has_a_last_place),
        cmocka_unit_test(a_described_packet_comes_from_the_guest_unless_it_says_otherwise),
        cmocka_unit_test(a_protocol_is_a_name_or_a_number),
        cmocka_unit_test(a_frame_is_taken_byte_by_byte),
        cmocka_unit_test(every_fault_of_a_packet_is_named_by_its_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

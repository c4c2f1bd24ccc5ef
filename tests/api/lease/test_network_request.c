#include "api/lease/network_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cmocka.h"

/* A provider that allows everything but has no packages. */
static const struct network_offer open_offer = {
    .mode = MODE_FILTERED, .sampling_rate = 0.25, .allow_mode_override = true, .allow_online_install = true};

static struct network_request decode(const char *text, const struct network_offer *offer, struct decode_errors *errors)
{
    json_t *tree = json_loads(text, 0, NULL);
    assert_non_null(tree);
    *errors = (struct decode_errors){0};
    struct decode_node root = decode_root(tree, errors);
    struct network_request request;
    network_request_decode(&root, offer, &request);
    json_decref(tree);
    return request;
}

static struct network_request good(const char *text, const struct network_offer *offer)
{
    struct decode_errors errors;
    struct network_request request = decode(text, offer, &errors);
    if (errors.count > 0)
        fail_msg("%s: %s %s", text, errors.items[0].pointer, errors.items[0].detail);
    return request;
}

/* One fault, at @pointer, with @slug; or none for a NULL pointer. */
static void expect(const char *text, const struct network_offer *offer, const char *pointer, const char *slug)
{
    struct decode_errors errors;
    decode(text, offer, &errors);
    if (pointer == NULL && errors.count > 0)
        fail_msg("%s: %s %s", text, errors.items[0].pointer, errors.items[0].detail);
    if (pointer == NULL)
        return;
    if (errors.count != 1 || strcmp(errors.items[0].pointer, pointer) != 0)
        fail_msg("%s: %zu faults, first at %s: %s", text, errors.count, errors.items[0].pointer,
                 errors.items[0].detail);
    if (slug == NULL)
        assert_null(errors.items[0].slug);
    else
        assert_string_equal(errors.items[0].slug, slug);
}

static void nothing_asked_is_what_the_provider_has(void **state)
{
    (void)state;
    static const char *const texts[] = {"{}", "{\"network\":{}}"};
    for (int mode = 0; mode < MODE_COUNT; mode++) {
        struct network_offer offer = {.mode = (enum mode)mode, .sampling_rate = 0.25};
        for (size_t i = 0; i < 2; i++) {
            struct network_request request = good(texts[i], &offer);
            assert_int_equal(request.mode, mode);
            assert_int_equal(request.sampling_ppm, mode == MODE_SAMPLED ? 250000 : 0);
            assert_int_equal(request.terminate, mode == MODE_CONNTRACK || mode == MODE_SAMPLED);
            assert_false(request.require_wireguard);
            assert_int_equal(request.boot_isolation, VMM_BOOT_PREBUILT);
            assert_int_equal(request.limits.egress_bits_per_s, 0);
        }
    }
}

static void another_mode_is_for_the_configuration_to_allow(void **state)
{
    (void)state;
    for (int own = 0; own < MODE_COUNT; own++) {
        for (int asked = 0; asked < MODE_COUNT; asked++) {
            struct network_offer offer = {.mode = (enum mode)own, .sampling_rate = 0.25};
            char text[64];
            snprintf(text, sizeof text, "{\"network\":{\"mode\":\"%s\"}}", mode_name((enum mode)asked));
            expect(text, &offer, own == asked ? NULL : "/network/mode", "mode-not-allowed");
            offer.allow_mode_override = true;
            assert_int_equal(good(text, &offer).mode, asked);
        }
    }
}

static void everything_asked_is_taken(void **state)
{
    (void)state;
    struct network_request request =
        good("{\"network\":{\"mode\":\"sampled\",\"sampling_rate\":0.05,\"require_wireguard\":true,"
             "\"boot_isolation\":\"prebuilt\",\"limits\":{\"egress_bits_per_s\":8000,\"ingress_bits_per_s\":8001,"
             "\"egress_packets_per_s\":1,\"ingress_packets_per_s\":2}},\"on_violation\":\"drop\"}",
             &open_offer);
    assert_int_equal(request.mode, MODE_SAMPLED);
    assert_int_equal(request.sampling_ppm, 50000);
    assert_true(request.require_wireguard);
    assert_false(request.terminate);
    assert_int_equal(request.limits.egress_bits_per_s, 8000);
    assert_int_equal(request.limits.ingress_bits_per_s, 8001);
    assert_int_equal(request.limits.egress_packets_per_s, 1);
    assert_int_equal(request.limits.ingress_packets_per_s, 2);
    assert_true(good("{\"on_violation\":\"terminate\"}", &open_offer).terminate);
}

static void bounds_are_held_and_what_a_mode_cannot_do_is_refused(void **state)
{
    (void)state;
#define SAMPLED(rate) "{\"network\":{\"mode\":\"sampled\",\"sampling_rate\":" rate "}}"
#define LIMIT(name, value) "{\"network\":{\"limits\":{\"" name "\":" value "}}}"
#define DIRECT(more) "{\"network\":{\"mode\":\"direct\"," more "}}"
    static const struct {
        const char *text;
        const char *pointer; /* NULL: is accepted */
        const char *slug;
    } table[] = {
        {"{\"network\":[]}", "/network", NULL},
        {"{\"network\":null}", "/network", NULL},
        {"{\"network\":{\"speed\":1}}", "/network/speed", NULL},
        {"{\"network\":{\"mode\":\"\"}}", "/network/mode", NULL},
        {"{\"network\":{\"mode\":\"open\"}}", "/network/mode", NULL},
        {"{\"network\":{\"mode\":1}}", "/network/mode", NULL},
        {SAMPLED("0.001"), NULL, NULL},
        {SAMPLED("1"), NULL, NULL},
        {SAMPLED("1.0"), NULL, NULL},
        {SAMPLED("0.000999"), "/network/sampling_rate", NULL},
        {SAMPLED("1.000001"), "/network/sampling_rate", NULL},
        {SAMPLED("0"), "/network/sampling_rate", NULL},
        {SAMPLED("-0.5"), "/network/sampling_rate", NULL},
        {SAMPLED("1e300"), "/network/sampling_rate", NULL},
        {SAMPLED("\"0.5\""), "/network/sampling_rate", NULL},
        {SAMPLED("null"), "/network/sampling_rate", NULL},
        {"{\"network\":{\"sampling_rate\":0.5}}", "/network/sampling_rate", NULL},
        {"{\"network\":{\"mode\":\"conntrack\",\"sampling_rate\":0.5}}", "/network/sampling_rate", NULL},
        {DIRECT("\"sampling_rate\":0.5"), "/network/sampling_rate", NULL},
        {LIMIT("egress_bits_per_s", "8000"), NULL, NULL},
        {LIMIT("egress_bits_per_s", "7999"), "/network/limits/egress_bits_per_s", NULL},
        {LIMIT("egress_bits_per_s", "0"), "/network/limits/egress_bits_per_s", NULL},
        {LIMIT("ingress_bits_per_s", "1000000000000"), NULL, NULL},
        {LIMIT("ingress_bits_per_s", "1000000000001"), "/network/limits/ingress_bits_per_s", NULL},
        {LIMIT("egress_packets_per_s", "1"), NULL, NULL},
        {LIMIT("egress_packets_per_s", "0"), "/network/limits/egress_packets_per_s", NULL},
        {LIMIT("ingress_packets_per_s", "1000000000"), NULL, NULL},
        {LIMIT("ingress_packets_per_s", "1000000001"), "/network/limits/ingress_packets_per_s", NULL},
        {LIMIT("ingress_packets_per_s", "1.5"), "/network/limits/ingress_packets_per_s", NULL},
        {LIMIT("egress_bytes_per_s", "9000"), "/network/limits/egress_bytes_per_s", NULL},
        {"{\"network\":{\"limits\":[]}}", "/network/limits", NULL},
        {"{\"network\":{\"limits\":{}}}", NULL, NULL},
        {DIRECT("\"limits\":{\"egress_bits_per_s\":8000}"), "/network/limits/egress_bits_per_s", NULL},
        {DIRECT("\"limits\":{}"), NULL, NULL},
        {DIRECT("\"require_wireguard\":true"), "/network/require_wireguard", NULL},
        {DIRECT("\"require_wireguard\":false"), NULL, NULL},
        {"{\"network\":{\"require_wireguard\":1}}", "/network/require_wireguard", NULL},
        {DIRECT("\"boot_isolation\":\"online_install\""), NULL, NULL},
        {"{\"network\":{\"boot_isolation\":\"online_install\"}}", "/network/boot_isolation",
         "online-install-not-allowed"},
        {"{\"network\":{\"mode\":\"conntrack\",\"boot_isolation\":\"online_install\"}}", "/network/boot_isolation",
         "online-install-not-allowed"},
        {"{\"network\":{\"boot_isolation\":\"offline_packages\"}}", "/network/boot_isolation", "packages-unusable"},
        {"{\"network\":{\"boot_isolation\":\"online\"}}", "/network/boot_isolation", NULL},
        {"{\"network\":{\"boot_isolation\":true}}", "/network/boot_isolation", NULL},
        {"{\"on_violation\":\"warn\"}", "/on_violation", NULL},
        {"{\"on_violation\":null}", "/on_violation", NULL},
        {"{\"network\":{\"mode\":\"direct\"},\"on_violation\":\"drop\"}", "/on_violation", NULL},
        {"{\"network\":{\"mode\":\"direct\"},\"on_violation\":\"terminate\"}", "/on_violation", NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        expect(table[i].text, &open_offer, table[i].pointer, table[i].slug);
}

static void online_installation_needs_the_configuration_s_leave(void **state)
{
    (void)state;
    struct network_offer offer = open_offer;
    offer.allow_online_install = false;
    expect(DIRECT("\"boot_isolation\":\"online_install\""), &offer, "/network/boot_isolation",
           "online-install-not-allowed");
}

static void offline_packages_need_a_folder_of_packages(void **state)
{
    (void)state;
    static const char asked[] = "{\"network\":{\"boot_isolation\":\"offline_packages\"}}";
    char dir[] = "/tmp/omertad-offline-XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(dir));
    struct network_offer offer = open_offer;
    offer.packages_dir = "";
    expect(asked, &offer, "/network/boot_isolation", "packages-unusable");
    offer.packages_dir = dir;
    expect(asked, &offer, "/network/boot_isolation", "packages-unusable");
    snprintf(path, sizeof path, "%s/wireguard.deb", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("not a package", file);
    fclose(file);
    struct decode_errors errors;
    decode(asked, &offer, &errors);
    assert_int_equal(errors.count, 1);
    assert_non_null(strstr(errors.items[0].detail, "wireguard.deb"));
    file = fopen(path, "w");
    fputs("!<arch>\ndebian-binary   ", file);
    fclose(file);
    assert_int_equal(good(asked, &offer).boot_isolation, VMM_BOOT_OFFLINE_PACKAGES);
    assert_int_equal(good("{\"network\":{\"mode\":\"direct\",\"boot_isolation\":\"offline_packages\"}}", &offer).mode,
                     MODE_DIRECT);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_asked_is_what_the_provider_has),
        cmocka_unit_test(another_mode_is_for_the_configuration_to_allow),
        cmocka_unit_test(everything_asked_is_taken),
        cmocka_unit_test(bounds_are_held_and_what_a_mode_cannot_do_is_refused),
        cmocka_unit_test(online_installation_needs_the_configuration_s_leave),
        cmocka_unit_test(offline_packages_need_a_folder_of_packages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

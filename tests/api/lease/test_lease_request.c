#include "api/lease/lease_request.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cmocka.h"

#define KEY "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
#define SSH_KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"

#define MANIFEST                                                                                                       \
    "{\"name\":\"micro\",\"description\":\"a test\",\"architecture\":\"x86_64\","                                      \
    "\"boot\":\"kernel\",\"kernel\":{\"file\":\"k\",\"sha256\":\"%s\",\"bytes\":1},"                                   \
    "\"initrd\":{\"file\":\"i\",\"sha256\":\"%s\",\"bytes\":1},"                                                       \
    "\"command_line\":\"quiet\",\"min_memory_mib\":96,\"ready_line\":\"ready\"}"

static const char good[] = "{\"image\":\"micro\",\"resources\":{\"vcpus\":2,\"memory_mib\":128},"
                           "\"network\":{\"mode\":\"filtered\"},"
                           "\"consumer\":{\"public_key\":\"" KEY "\",\"endpoint\":\"203.0.113.7:51900\","
                           "\"tunnel_ip\":\"10.99.0.1\"},\"vm\":{\"tunnel_ip\":\"10.99.0.2\"},"
                           "\"ssh\":{\"user\":\"work\",\"authorized_keys\":[\"" SSH_KEY " me@here\"]},"
                           "\"ttl_s\":60,\"labels\":{\"example.org/team\":\"a\"}}";

struct world {
    char dir[40];
    struct lease_offer offer;
};

static void write_manifest(const struct world *world, const char *image, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", world->dir, image);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/%s/manifest.json", world->dir, image);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int make_world(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    snprintf(world->dir, sizeof world->dir, "/tmp/omertad-request-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    char text[1024];
    char digest[65];
    memset(digest, 'a', 64);
    digest[64] = '\0';
    snprintf(text, sizeof text, MANIFEST, digest, digest);
    write_manifest(world, "micro", text);
    write_manifest(world, "broken", "{}");
    world->offer = (struct lease_offer){
        .image_dir = world->dir,
        .capacity = {.leases = 4, .vcpus = 4, .memory_mib = 1024, .disk_mib = 100},
        .network = {.mode = MODE_FILTERED, .sampling_rate = 0.01},
        .own = {.count = 1, .ips = {UINT32_C(0xC6336463)}}, /* 198.51.100.99 */
    };
    *state = world;
    return 0;
}

static int drop_world(void **state)
{
    struct world *world = *state;
    char command[80];
    snprintf(command, sizeof command, "rm -rf %s", world->dir);
    int removed = system(command);
    free(world);
    return removed;
}

/* The good request with the value at a JSON pointer of one or two plain parts replaced (or removed, for NULL). */
static json_t *changed(const char *pointer, const char *value)
{
    json_t *tree = json_loads(good, 0, NULL);
    assert_non_null(tree);
    char parts[64];
    snprintf(parts, sizeof parts, "%s", pointer + 1);
    char *last = strchr(parts, '/');
    json_t *object = tree;
    if (last != NULL) {
        *last++ = '\0';
        object = json_object_get(tree, parts);
        if (object == NULL) {
            object = json_object();
            json_object_set_new(tree, parts, object);
        }
    } else {
        last = parts;
    }
    if (value == NULL)
        assert_int_equal(json_object_del(object, last), 0);
    else
        assert_int_equal(json_object_set_new(object, last, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
    return tree;
}

static void decode(const struct world *world, json_t *tree, struct decode_errors *errors, struct lease_request *request)
{
    *errors = (struct decode_errors){0};
    lease_request_decode(tree, &world->offer, errors, request);
    json_decref(tree);
}

static void a_good_request_becomes_values(void **state)
{
    const struct world *world = *state;
    struct decode_errors errors;
    struct lease_request request;
    decode(world, json_loads(good, 0, NULL), &errors, &request);
    if (errors.count > 0)
        fail_msg("%s %s", errors.items[0].pointer, errors.items[0].detail);
    assert_string_equal(request.image, "micro");
    assert_int_equal(request.resources.leases, 1);
    assert_int_equal(request.resources.vcpus, 2);
    assert_int_equal(request.resources.memory_mib, 128);
    assert_int_equal(request.resources.disk_mib, 0);
    assert_int_equal(request.tunnel.consumer.ip, UINT32_C(0xCB007107));
    assert_int_equal(request.tunnel.consumer.port, 51900);
    assert_int_equal(request.tunnel.vm_tunnel_ip, UINT32_C(0x0A630002));
    assert_false(request.tunnel.has_preshared_key);
    assert_string_equal(request.ssh_keys[0], SSH_KEY);
    assert_int_equal(request.ttl_s, 60);
    assert_string_equal(request.labels, "{\"example.org/team\":\"a\"}");
    lease_request_done(&request);
    assert_true(sodium_is_zero((const unsigned char *)&request, sizeof request));
}

static void what_may_be_left_out_may_be_left_out(void **state)
{
    const struct world *world = *state;
    const char *const optional[] = {"/network", "/ttl_s", "/labels"};
    for (size_t i = 0; i < sizeof optional / sizeof optional[0]; i++) {
        struct decode_errors errors;
        struct lease_request request;
        decode(world, changed(optional[i], NULL), &errors, &request);
        assert_int_equal(errors.count, 0);
        assert_int_equal(request.network.mode, MODE_FILTERED);
        assert_false(request.network.terminate);
        lease_request_done(&request);
    }
}

static void hostile_values_are_refused_at_their_pointer(void **state)
{
    const struct world *world = *state;
    static const struct {
        const char *pointer;
        const char *value;
        const char *slug;
    } table[] = {
        {"/image", NULL, NULL},
        {"/image", "\"\"", NULL},
        {"/image", "\"../micro\"", NULL},
        {"/image", "\"Micro\"", NULL},
        {"/image", "\"absent\"", "image-not-found"},
        {"/image", "\"broken\"", "image-manifest-invalid"},
        {"/image", "7", NULL},
        {"/resources", NULL, NULL},
        {"/resources", "[]", NULL},
        {"/resources/vcpus", "0", NULL},
        {"/resources/vcpus", "5", NULL},
        {"/resources/vcpus", "1.5", NULL},
        {"/resources/vcpus", "-1", NULL},
        {"/resources/memory_mib", "95", NULL},
        {"/resources/memory_mib", "1025", NULL},
        {"/resources/memory_mib", "4294967424", NULL}, /* 128 in 32 bits */
        {"/resources/disk_mib", "101", NULL},
        {"/resources/cores", "1", NULL},
        {"/network/mode", "\"direct\"", "mode-not-allowed"},
        {"/network/mode", "\"sampled\"", "mode-not-allowed"},
        {"/network/mode", "\"conntrack\"", "mode-not-allowed"},
        {"/network/mode", "\"FILTERED\"", NULL},
        {"/network/sampling_rate", "0.1", NULL},
        {"/consumer/public_key", NULL, NULL},
        {"/consumer/public_key", "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"", NULL},
        {"/consumer/public_key", "\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"", NULL},
        {"/consumer/public_key", "\"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dh=\"", NULL},
        {"/consumer/public_key", "\"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8D\\n=\"", NULL},
        {"/consumer/preshared_key", "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"", NULL},
        {"/consumer/preshared_key", "null", NULL},
        {"/consumer/endpoint", "\"203.0.113.7\"", NULL},
        {"/consumer/endpoint", "\"203.0.113.7:0\"", NULL},
        {"/consumer/endpoint", "\"203.0.113.7:65536\"", NULL},
        {"/consumer/endpoint", "\"203.0.113.07:1\"", NULL},
        {"/consumer/endpoint", "\"example.org:1\"", NULL},
        {"/consumer/endpoint", "\" 203.0.113.7:1\"", NULL},
        {"/consumer/endpoint", "\"127.0.0.1:51900\"", "endpoint-forbidden"},
        {"/consumer/endpoint", "\"127.255.255.255:51900\"", "endpoint-forbidden"},
        {"/consumer/endpoint", "\"0.0.0.0:51900\"", "endpoint-forbidden"},
        {"/consumer/endpoint", "\"169.254.169.254:80\"", "endpoint-forbidden"},
        {"/consumer/endpoint", "\"224.0.0.1:51900\"", "endpoint-forbidden"},
        {"/consumer/endpoint", "\"255.255.255.255:51900\"", "endpoint-forbidden"},
        {"/consumer/endpoint", "\"198.51.100.99:51900\"", "endpoint-forbidden"},
        {"/consumer/endpoint", "\"10.0.0.1:51900\"", "endpoint-forbidden"},
        {"/consumer/endpoint", "\"172.31.255.255:51900\"", "endpoint-forbidden"},
        {"/consumer/endpoint", "\"192.168.1.1:51900\"", "endpoint-forbidden"},
        {"/consumer/endpoint", "\"100.127.255.255:51900\"", "endpoint-forbidden"},
        {"/consumer/tunnel_ip", "\"10.99.0.1/24\"", NULL},
        {"/consumer/tunnel_ip", "\"10.99.0.1\\nPostUp = reboot\"", NULL},
        {"/consumer/tunnel_ip", "\"203.0.113.7\"", NULL},
        {"/consumer/tunnel_ip", "\"192.168.64.7\"", NULL},
        {"/vm/tunnel_ip", "\"10.99.0.1\"", NULL},
        {"/vm/tunnel_ip", "\"203.0.113.7\"", NULL},
        {"/vm/tunnel_ip", "\"224.0.0.1\"", NULL},
        {"/vm/tunnel_ip", "\"127.0.0.1\"", NULL},
        {"/vm/public_key", "\"" KEY "\"", NULL},
        {"/ssh/user", "\"Root\"", NULL},
        {"/ssh/user", "\"a b\"", NULL},
        {"/ssh/user", "\"-a\"", NULL},
        {"/ssh/user", "\"1a\"", NULL},
        {"/ssh/user", "\"abcdefghijklmnopqrstuvwxyzabcdefg\"", NULL},
        {"/ssh/authorized_keys", "[]", NULL},
        {"/ssh/authorized_keys", "\"" SSH_KEY "\"", NULL},
        {"/ssh/authorized_keys", "[\"" SSH_KEY "\\n" SSH_KEY "\"]", NULL},
        {"/ssh/authorized_keys", "[\"command=\\\"x\\\" " SSH_KEY "\"]", NULL},
        {"/ttl_s", "0", NULL},
        {"/ttl_s", "2678401", NULL},
        {"/ttl_s", "null", NULL},
        {"/labels", "[]", NULL},
        {"/labels/-a", "\"x\"", NULL},
        {"/labels/a", "\"x y\"", NULL},
        {"/labels/a", "7", NULL},
        {"/heartbeat_timeout_s", "0", NULL},
        {"/heartbeat_timeout_s", "86401", NULL},
        {"/heartbeat_timeout_s", "1.5", NULL},
        {"/heartbeat_s", "5", NULL},
        {"/on_violation", "\"ignore\"", NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct decode_errors errors;
        struct lease_request request;
        decode(world, changed(table[i].pointer, table[i].value), &errors, &request);
        lease_request_done(&request);
        if (errors.count != 1 || strncmp(errors.items[0].pointer, table[i].pointer, strlen(table[i].pointer)) != 0)
            fail_msg("%s = %s: %zu faults, first at %s", table[i].pointer,
                     table[i].value == NULL ? "(none)" : table[i].value, errors.count, errors.items[0].pointer);
        if (table[i].slug == NULL)
            assert_null(errors.items[0].slug);
        else
            assert_string_equal(errors.items[0].slug, table[i].slug);
    }
}

static void bounds_themselves_are_accepted(void **state)
{
    const struct world *world = *state;
    static const struct {
        const char *pointer;
        const char *value;
    } table[] = {
        {"/resources/vcpus", "4"},
        {"/resources/memory_mib", "96"},
        {"/resources/memory_mib", "1024"},
        {"/resources/disk_mib", "100"},
        {"/ttl_s", "1"},
        {"/ttl_s", "2678400"},
        {"/ssh/user", "\"_\""},
        {"/ssh/user", "\"abcdefghijklmnopqrstuvwxyzabcdef\""},
        {"/consumer/endpoint", "\"172.32.0.1:65535\""},
        {"/consumer/endpoint", "\"100.128.0.1:1\""},
        {"/consumer/endpoint", "\"223.255.255.255:1\""},
        {"/consumer/preshared_key", "\"" KEY "\""},
        {"/labels/a", "\"\""},
        {"/on_violation", "\"drop\""},
        {"/on_violation", "\"terminate\""},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct decode_errors errors;
        struct lease_request request;
        decode(world, changed(table[i].pointer, table[i].value), &errors, &request);
        lease_request_done(&request);
        if (errors.count != 0)
            fail_msg("%s = %s: %s", table[i].pointer, table[i].value, errors.items[0].detail);
    }
}

static void private_endpoints_are_for_the_configuration_to_allow(void **state)
{
    struct world *world = *state;
    world->offer.allow_private_endpoints = true;
    assert_null(lease_endpoint_refusal(&world->offer, UINT32_C(0x0A000001)));
    assert_null(lease_endpoint_refusal(&world->offer, UINT32_C(0xC0A80001)));
    /* What is never allowed stays so. */
    assert_non_null(lease_endpoint_refusal(&world->offer, UINT32_C(0x7F000001)));
    assert_non_null(lease_endpoint_refusal(&world->offer, UINT32_C(0xA9FEA9FE)));
    assert_non_null(lease_endpoint_refusal(&world->offer, UINT32_C(0xC6336463)));
}

static void sixteen_labels_and_keys_fit_and_seventeen_do_not(void **state)
{
    const struct world *world = *state;
    for (size_t count = 16; count <= 17; count++) {
        json_t *tree = json_loads(good, 0, NULL);
        json_t *labels = json_object();
        json_t *keys = json_array();
        for (size_t i = 0; i < count; i++) {
            char key[LEASE_LABEL_KEY_BYTES + 1];
            char value[LEASE_LABEL_NAME_BYTES + 1];
            memset(key, 'k', sizeof key - 1);
            key[63] = '/';
            key[0] = (char)('a' + i);
            key[sizeof key - 1] = '\0';
            memset(value, 'v', sizeof value - 1);
            value[sizeof value - 1] = '\0';
            json_object_set_new(labels, key, json_string(value));
            json_array_append_new(keys, json_string(SSH_KEY));
        }
        json_object_set_new(tree, "labels", labels);
        json_object_set_new(json_object_get(tree, "ssh"), "authorized_keys", keys);
        struct decode_errors errors;
        struct lease_request request;
        decode(world, tree, &errors, &request);
        assert_int_equal(errors.count, count == 16 ? 0 : 2);
        if (count == 16) {
            json_t *stored = json_loads(request.labels, 0, NULL);
            assert_int_equal(json_object_size(stored), 16);
            json_decref(stored);
        }
        lease_request_done(&request);
    }
}

static void an_empty_document_is_told_all_that_it_lacks(void **state)
{
    const struct world *world = *state;
    struct decode_errors errors;
    struct lease_request request;
    decode(world, json_object(), &errors, &request);
    lease_request_done(&request);
    const char *const pointers[] = {"/image", "/resources", "/consumer", "/vm", "/ssh"};
    assert_int_equal(errors.count, sizeof pointers / sizeof pointers[0]);
    for (size_t i = 0; i < errors.count; i++)
        assert_string_equal(errors.items[i].pointer, pointers[i]);
}

/* The good request for a VM that somebody else runs. */
static json_t *external(void)
{
    json_t *tree = changed("/attachment", "\"external\"");
    json_object_del(tree, "image");
    json_object_del(tree, "ssh");
    return tree;
}

static void a_vm_that_somebody_else_runs_needs_neither_image_nor_ssh(void **state)
{
    const struct world *world = *state;
    struct decode_errors errors;
    struct lease_request request;
    decode(world, external(), &errors, &request);
    assert_int_equal(errors.count, 0);
    assert_true(request.external);
    assert_string_equal(request.image, "");
    assert_string_equal(request.ssh_user, "");
    lease_request_done(&request);
    decode(world, changed("/attachment", "\"qemu\""), &errors, &request);
    assert_int_equal(errors.count, 0);
    assert_false(request.external);
    lease_request_done(&request);
}

static void what_such_a_vm_cannot_be_given_is_refused_at_its_pointer(void **state)
{
    struct world *world = *state;
    struct decode_errors errors;
    struct lease_request request;
    static const struct {
        const char *object;
        const char *member;
        const char *value;
        const char *pointer;
    } table[] = {
        {NULL, "image", "\"micro\"", "/image"},
        {NULL, "ssh", "{}", "/ssh"},
        {"consumer", "preshared_key", "\"" KEY "\"", "/consumer/preshared_key"},
        {"network", "boot_isolation", "\"prebuilt\"", "/network/boot_isolation"},
        {"network", "mode", "\"direct\"", "/network/mode"},
        {NULL, "attachment", "\"tap\"", "/attachment"},
        {NULL, "attachment", "1", "/attachment"},
    };
    world->offer.network.allow_mode_override = true;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        json_t *tree = external();
        json_t *object = table[i].object == NULL ? tree : json_object_get(tree, table[i].object);
        json_object_set_new(object, table[i].member, json_loads(table[i].value, JSON_DECODE_ANY, NULL));
        decode(world, tree, &errors, &request);
        assert_true(errors.count >= 1);
        assert_string_equal(errors.items[table[i].pointer[1] == 'a' ? 0 : errors.count - 1].pointer, table[i].pointer);
        lease_request_done(&request);
    }
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, make_world, drop_world)
    const struct CMUnitTest tests[] = {
        WITH_WORLD(a_good_request_becomes_values),
        WITH_WORLD(what_may_be_left_out_may_be_left_out),
        WITH_WORLD(hostile_values_are_refused_at_their_pointer),
        WITH_WORLD(bounds_themselves_are_accepted),
        WITH_WORLD(private_endpoints_are_for_the_configuration_to_allow),
        WITH_WORLD(sixteen_labels_and_keys_fit_and_seventeen_do_not),
        WITH_WORLD(an_empty_document_is_told_all_that_it_lacks),
        WITH_WORLD(a_vm_that_somebody_else_runs_needs_neither_image_nor_ssh),
        WITH_WORLD(what_such_a_vm_cannot_be_given_is_refused_at_its_pointer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "vmm/manifest.h"

#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"
#include "tests/cmocka.h"
#include "tests/vmm/image_fixture.h"
#include "vmm/image.h"

static void a_sound_manifest_yields_its_values(void **state)
{
    struct image_fixture *fixture = *state;
    struct vmm_image image;
    struct error err = {0};
    assert_int_equal(vmm_image_load(fixture->folder, "micro", &image, &err), 0);
    assert_string_equal(image.name, "micro");
    assert_string_equal(image.description, "A small guest");
    assert_string_equal(image.architecture, "x86_64");
    assert_string_equal(image.kernel_file, "vmlinuz");
    assert_int_equal(image.kernel_bytes, KERNEL_BYTES);
    assert_string_equal(image.initrd_file, "initrd");
    assert_int_equal(image.initrd_bytes, INITRD_BYTES);
    assert_int_equal(image.bytes, KERNEL_BYTES + INITRD_BYTES);
    assert_int_equal(image.min_memory_mib, 96);
    assert_string_equal(image.command_line, "console=ttyS0 quiet");
    char *text SCOPED_FREE = json_dumps(fixture->manifest, JSON_INDENT(2));
    uint8_t digest[crypto_hash_sha256_BYTES];
    char expected[VMM_DIGEST_BYTES];
    crypto_hash_sha256(digest, (const uint8_t *)text, strlen(text));
    assert_string_equal(image.digest, sodium_bin2hex(expected, sizeof expected, digest, sizeof digest));
    json_object_del(fixture->manifest, "ready_line");
    image_put_manifest(fixture);
    image_assert_load(fixture, 0, NULL, NULL);
}

static void a_wrong_disk_section_is_named(void **state)
{
    struct image_fixture *fixture = *state;
    static const uint8_t disk[512] = {0};
    static const char *const formats[] = {"", "vmdk", "RAW", "qcow2 ", "raw,file.filename=x"};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        image_put_disk(fixture, formats[i], disk, sizeof disk);
        image_assert_load(fixture, -EINVAL, "image-manifest-invalid", "/disk/format");
    }
    image_put_disk(fixture, "raw", disk, sizeof disk);
    json_object_del(json_object_get(fixture->manifest, "disk"), "format");
    image_put_manifest(fixture);
    image_assert_load(fixture, -EINVAL, "image-manifest-invalid", "/disk/format");
    image_put_disk(fixture, "raw", disk, sizeof disk);
    json_object_set_new(json_object_get(fixture->manifest, "disk"), "backing", json_string("/etc/passwd"));
    image_put_manifest(fixture);
    image_assert_load(fixture, -EINVAL, "image-manifest-invalid", "/disk/backing");
    image_put_disk(fixture, "raw", disk, sizeof disk);
    json_object_set_new(json_object_get(fixture->manifest, "disk"), "file", json_string("../disk.img"));
    image_put_manifest(fixture);
    image_assert_load(fixture, -EINVAL, "image-manifest-invalid", "/disk/file");
    json_object_set_new(fixture->manifest, "disk", json_null());
    image_put_manifest(fixture);
    image_assert_load(fixture, -EINVAL, "image-manifest-invalid", "/disk");
}

static void each_missing_key_is_named(void **state)
{
    struct image_fixture *fixture = *state;
    static const char *const keys[] = {"name",         "description",    "architecture", "boot",
                                       "command_line", "min_memory_mib", "kernel",       "initrd"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *value = json_incref(json_object_get(fixture->manifest, keys[i]));
        char pointer[64];
        snprintf(pointer, sizeof pointer, "/%s", keys[i]);
        json_object_del(fixture->manifest, keys[i]);
        image_put_manifest(fixture);
        image_assert_load(fixture, -EINVAL, "image-manifest-invalid", pointer);
        json_object_set_new(fixture->manifest, keys[i], value);
    }
    static const char *const inner[] = {"file", "sha256", "bytes"};
    for (size_t i = 0; i < sizeof inner / sizeof inner[0]; i++) {
        json_t *kernel = json_object_get(fixture->manifest, "kernel");
        json_t *value = json_incref(json_object_get(kernel, inner[i]));
        char pointer[64];
        snprintf(pointer, sizeof pointer, "/kernel/%s", inner[i]);
        json_object_del(kernel, inner[i]);
        image_put_manifest(fixture);
        image_assert_load(fixture, -EINVAL, "image-manifest-invalid", pointer);
        json_object_set_new(kernel, inner[i], value);
    }
    image_put_manifest(fixture);
    image_assert_load(fixture, 0, NULL, NULL);
}

static void each_wrong_value_is_named(void **state)
{
    struct image_fixture *fixture = *state;
    static const char sha_upper[] = "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef";
    const struct {
        const char *section;
        const char *key;
        json_t *value;
    } table[] = {
        {NULL, "name", json_string("other")},
        {NULL, "name", json_integer(1)},
        {NULL, "name", json_string("")},
        {NULL, "description", json_string("two\nlines")},
        {NULL, "architecture", json_string("z80")},
        {NULL, "boot", json_string("disk")},
        {NULL, "boot", json_null()},
        {NULL, "command_line", json_string("a\tb")},
        {NULL, "command_line", json_array()},
        {NULL, "ready_line", json_true()},
        {NULL, "ready_line", json_string("\x1b[2J")},
        {NULL, "min_memory_mib", json_integer(0)},
        {NULL, "min_memory_mib", json_integer(-1)},
        {NULL, "min_memory_mib", json_integer(1048577)},
        {NULL, "min_memory_mib", json_real(96.0)},
        {NULL, "min_memory_mib", json_string("96")},
        {NULL, "kernel", json_string("vmlinuz")},
        {NULL, "initrd", json_array()},
        {"kernel", "file", json_string("../micro/vmlinuz")},
        {"kernel", "file", json_string("/etc/passwd")},
        {"kernel", "file", json_string("..")},
        {"kernel", "file", json_string("")},
        {"kernel", "sha256", json_string("00")},
        {"kernel", "sha256", json_string(sha_upper)},
        {"initrd", "sha256", json_integer(0)},
        {"initrd", "bytes", json_integer(0)},
        {"initrd", "bytes", json_integer((json_int_t)1 << 41)},
        {"initrd", "bytes", json_false()},
        {NULL, "unknown", json_true()},
        {"kernel", "unknown", json_true()},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        json_t *manifest = json_deep_copy(fixture->manifest);
        json_t *object = table[i].section == NULL ? manifest : json_object_get(manifest, table[i].section);
        json_object_set_new_nocheck(object, table[i].key, table[i].value);
        json_t *sound = fixture->manifest;
        fixture->manifest = manifest;
        image_put_manifest(fixture);
        fixture->manifest = sound;
        json_decref(manifest);
        char pointer[64];
        snprintf(pointer, sizeof pointer, "%s%s/%s", table[i].section == NULL ? "" : "/",
                 table[i].section == NULL ? "" : table[i].section, table[i].key);
        image_assert_load(fixture, -EINVAL, "image-manifest-invalid", pointer);
    }
}

static void text_may_fill_its_place_and_no_more(void **state)
{
    struct image_fixture *fixture = *state;
    char text[513];
    memset(text, 'x', sizeof text);
    text[512] = '\0';
    json_object_set_new(fixture->manifest, "command_line", json_string(text));
    image_put_manifest(fixture);
    image_assert_load(fixture, -EINVAL, "image-manifest-invalid", "/command_line");
    json_object_set_new(fixture->manifest, "command_line", json_string(text + 1));
    image_put_manifest(fixture);
    image_assert_load(fixture, 0, NULL, NULL);
}

static void what_is_no_json_object_is_refused(void **state)
{
    struct image_fixture *fixture = *state;
    static const char *const texts[] = {
        "",    "{", "[]", "null", "{} x", "{\"name\": \"a\\u0000b\"}", "{\"name\": \"micro\", \"name\": \"micro\"}",
        "\xff"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        image_put_file(fixture, "micro/manifest.json", texts[i], strlen(texts[i]));
        image_assert_load(fixture, -EINVAL, "image-manifest-invalid", "");
    }
    char *large SCOPED_FREE = malloc(IMAGE_MANIFEST_BYTES);
    memset(large, ' ', IMAGE_MANIFEST_BYTES);
    image_put_file(fixture, "micro/manifest.json", large, IMAGE_MANIFEST_BYTES);
    image_assert_load(fixture, -EINVAL, "image-manifest-invalid", "");
}

static void a_key_twice_is_refused_even_with_the_same_value(void **state)
{
    struct image_fixture *fixture = *state;
    char *text SCOPED_FREE = json_dumps(fixture->manifest, JSON_COMPACT);
    char twice[4096];
    snprintf(twice, sizeof twice, "{\"boot\":\"kernel\",%s", text + 1);
    image_put_file(fixture, "micro/manifest.json", twice, strlen(twice));
    image_assert_load(fixture, -EINVAL, "image-manifest-invalid", "");
}

static void a_hostile_key_is_escaped_in_the_message(void **state)
{
    struct image_fixture *fixture = *state;
    struct vmm_image image;
    struct error err = {0};
    json_object_set_new(fixture->manifest, "a\x1b[2Jb\n", json_true());
    image_put_manifest(fixture);
    assert_int_equal(vmm_image_load(fixture->folder, "micro", &image, &err), -EINVAL);
    for (const char *at = err.message; *at != '\0'; at++)
        assert_true(*at >= ' ' && *at <= '~');
    for (const char *at = err.field; *at != '\0'; at++)
        assert_true(*at >= ' ' && *at <= '~');
}

#define IMAGE_TEST(test) cmocka_unit_test_setup_teardown(test, image_set_up, image_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IMAGE_TEST(a_sound_manifest_yields_its_values),
        IMAGE_TEST(a_wrong_disk_section_is_named),
        IMAGE_TEST(each_missing_key_is_named),
        IMAGE_TEST(each_wrong_value_is_named),
        IMAGE_TEST(text_may_fill_its_place_and_no_more),
        IMAGE_TEST(what_is_no_json_object_is_refused),
        IMAGE_TEST(a_key_twice_is_refused_even_with_the_same_value),
        IMAGE_TEST(a_hostile_key_is_escaped_in_the_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

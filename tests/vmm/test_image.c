#include "vmm/image.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"

enum { KERNEL_BYTES = 300000, INITRD_BYTES = 1000 };

/* A folder with one sound image, "micro". */
struct fixture {
    char folder[64];
    json_t *manifest;
    uint8_t kernel[KERNEL_BYTES];
    uint8_t initrd[INITRD_BYTES];
};

static void put_file(const struct fixture *fixture, const char *name, const void *bytes, size_t length)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", fixture->folder, name);
    int fd SCOPED_FD = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), length);
}

static void put_manifest(const struct fixture *fixture)
{
    char *text SCOPED_FREE = json_dumps(fixture->manifest, JSON_INDENT(2));
    put_file(fixture, "micro/manifest.json", text, strlen(text));
}

static void remove_all(const char *folder)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

static json_t *section(const char *file, const uint8_t *bytes, size_t length)
{
    uint8_t digest[crypto_hash_sha256_BYTES];
    char text[VMM_DIGEST_BYTES];
    crypto_hash_sha256(digest, bytes, length);
    sodium_bin2hex(text, sizeof text, digest, sizeof digest);
    return json_pack("{s:s, s:s, s:I}", "file", file, "sha256", text, "bytes", (json_int_t)length);
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/test_image.XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    char path[128];
    snprintf(path, sizeof path, "%s/micro", fixture->folder);
    assert_int_equal(mkdir(path, 0755), 0);
    memset(fixture->kernel, 'k', sizeof fixture->kernel);
    memset(fixture->initrd, 'i', sizeof fixture->initrd);
    put_file(fixture, "micro/vmlinuz", fixture->kernel, sizeof fixture->kernel);
    put_file(fixture, "micro/initrd", fixture->initrd, sizeof fixture->initrd);
    fixture->manifest = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:s, s:i, s:s}", "name", "micro", "description",
                                  "A small guest", "architecture", "x86_64", "boot", "kernel", "kernel",
                                  section("vmlinuz", fixture->kernel, sizeof fixture->kernel), "initrd",
                                  section("initrd", fixture->initrd, sizeof fixture->initrd), "command_line",
                                  "console=ttyS0 quiet", "min_memory_mib", 96, "ready_line", "micro: ready");
    put_manifest(fixture);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    remove_all(fixture->folder);
    json_decref(fixture->manifest);
    free(fixture);
    return 0;
}

static void assert_load(const struct fixture *fixture, int rc, const char *slug, const char *field)
{
    struct vmm_image image = {.min_memory_mib = 4711};
    struct error err = {0};
    assert_int_equal(vmm_image_load(fixture->folder, "micro", &image, &err), rc);
    if (rc == 0)
        return;
    assert_non_null(err.slug);
    assert_string_equal(err.slug, slug);
    assert_string_equal(err.field, field);
    assert_int_equal(image.min_memory_mib, 4711);
}

static void assert_open(const struct fixture *fixture, struct image_cache *cache, int rc, const char *slug,
                        const char *field)
{
    struct image_files files;
    struct error err = {0};
    assert_int_equal(image_open_verified(fixture->folder, "micro", cache, &files, &err), rc);
    if (rc == 0) {
        image_files_close(&files);
        return;
    }
    assert_string_equal(err.slug, slug);
    assert_string_equal(err.field, field);
}

static void image_names_are_words_without_a_path(void **state)
{
    (void)state;
    char longest[66];
    memset(longest, 'a', sizeof longest);
    longest[65] = '\0';
    assert_false(vmm_image_name_valid(longest));
    longest[64] = '\0';
    assert_true(vmm_image_name_valid(longest));
    static const char *const good[] = {"a", "0", "micro", "debian-12", "a.b_c-d", "a..b", "0."};
    static const char *const bad[] = {"",      ".",   "..",  "../x", "a/b", "/a",       ".hidden", "-a",    "_a",
                                      "Micro", "a b", "a\n", "a\\b", "a%",  "\xc3\xa9", "a/",      "a/../b"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(vmm_image_name_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(vmm_image_name_valid(bad[i]));
}

static void a_sound_manifest_yields_its_values(void **state)
{
    struct fixture *fixture = *state;
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
    put_manifest(fixture);
    assert_load(fixture, 0, NULL, NULL);
}

static void each_missing_key_is_named(void **state)
{
    struct fixture *fixture = *state;
    static const char *const keys[] = {"name",         "description",    "architecture", "boot",
                                       "command_line", "min_memory_mib", "kernel",       "initrd"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *value = json_incref(json_object_get(fixture->manifest, keys[i]));
        char pointer[64];
        snprintf(pointer, sizeof pointer, "/%s", keys[i]);
        json_object_del(fixture->manifest, keys[i]);
        put_manifest(fixture);
        assert_load(fixture, -EINVAL, "image-manifest-invalid", pointer);
        json_object_set_new(fixture->manifest, keys[i], value);
    }
    static const char *const inner[] = {"file", "sha256", "bytes"};
    for (size_t i = 0; i < sizeof inner / sizeof inner[0]; i++) {
        json_t *kernel = json_object_get(fixture->manifest, "kernel");
        json_t *value = json_incref(json_object_get(kernel, inner[i]));
        char pointer[64];
        snprintf(pointer, sizeof pointer, "/kernel/%s", inner[i]);
        json_object_del(kernel, inner[i]);
        put_manifest(fixture);
        assert_load(fixture, -EINVAL, "image-manifest-invalid", pointer);
        json_object_set_new(kernel, inner[i], value);
    }
    put_manifest(fixture);
    assert_load(fixture, 0, NULL, NULL);
}

static void each_wrong_value_is_named(void **state)
{
    struct fixture *fixture = *state;
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
        put_manifest(fixture);
        fixture->manifest = sound;
        json_decref(manifest);
        char pointer[64];
        snprintf(pointer, sizeof pointer, "%s%s/%s", table[i].section == NULL ? "" : "/",
                 table[i].section == NULL ? "" : table[i].section, table[i].key);
        assert_load(fixture, -EINVAL, "image-manifest-invalid", pointer);
    }
}

static void text_may_fill_its_place_and_no_more(void **state)
{
    struct fixture *fixture = *state;
    char text[513];
    memset(text, 'x', sizeof text);
    text[512] = '\0';
    json_object_set_new(fixture->manifest, "command_line", json_string(text));
    put_manifest(fixture);
    assert_load(fixture, -EINVAL, "image-manifest-invalid", "/command_line");
    json_object_set_new(fixture->manifest, "command_line", json_string(text + 1));
    put_manifest(fixture);
    assert_load(fixture, 0, NULL, NULL);
}

static void what_is_no_json_object_is_refused(void **state)
{
    struct fixture *fixture = *state;
    static const char *const texts[] = {
        "",    "{", "[]", "null", "{} x", "{\"name\": \"a\\u0000b\"}", "{\"name\": \"micro\", \"name\": \"micro\"}",
        "\xff"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        put_file(fixture, "micro/manifest.json", texts[i], strlen(texts[i]));
        assert_load(fixture, -EINVAL, "image-manifest-invalid", "");
    }
    char *large SCOPED_FREE = malloc(IMAGE_MANIFEST_BYTES);
    memset(large, ' ', IMAGE_MANIFEST_BYTES);
    put_file(fixture, "micro/manifest.json", large, IMAGE_MANIFEST_BYTES);
    assert_load(fixture, -EINVAL, "image-manifest-invalid", "");
}

static void a_key_twice_is_refused_even_with_the_same_value(void **state)
{
    struct fixture *fixture = *state;
    char *text SCOPED_FREE = json_dumps(fixture->manifest, JSON_COMPACT);
    char twice[4096];
    snprintf(twice, sizeof twice, "{\"boot\":\"kernel\",%s", text + 1);
    put_file(fixture, "micro/manifest.json", twice, strlen(twice));
    assert_load(fixture, -EINVAL, "image-manifest-invalid", "");
}

static void a_hostile_key_is_escaped_in_the_message(void **state)
{
    struct fixture *fixture = *state;
    struct vmm_image image;
    struct error err = {0};
    json_object_set_new(fixture->manifest, "a\x1b[2Jb\n", json_true());
    put_manifest(fixture);
    assert_int_equal(vmm_image_load(fixture->folder, "micro", &image, &err), -EINVAL);
    for (const char *at = err.message; *at != '\0'; at++)
        assert_true(*at >= ' ' && *at <= '~');
    for (const char *at = err.field; *at != '\0'; at++)
        assert_true(*at >= ' ' && *at <= '~');
}

static void names_that_lead_elsewhere_are_not_found(void **state)
{
    struct fixture *fixture = *state;
    static const char *const names[] = {"..", ".", "", "micro/", "../micro", "/", "micro/../micro", "absent", "Micro"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct vmm_image image;
        struct error err = {0};
        assert_int_equal(vmm_image_load(fixture->folder, names[i], &image, &err), -ENOENT);
        assert_string_equal(err.slug, "image-not-found");
    }
    struct vmm_image image;
    struct error err = {0};
    assert_int_equal(vmm_image_load("/no/such/folder", "micro", &image, &err), -ENOENT);
}

static void links_and_fifos_are_not_followed_and_hold_nobody(void **state)
{
    struct fixture *fixture = *state;
    char folder[128];
    char link[128];
    char kernel[128];
    char manifest[128];
    snprintf(folder, sizeof folder, "%s/micro", fixture->folder);
    snprintf(link, sizeof link, "%s/linked", fixture->folder);
    snprintf(kernel, sizeof kernel, "%s/micro/vmlinuz", fixture->folder);
    snprintf(manifest, sizeof manifest, "%s/micro/manifest.json", fixture->folder);
    struct vmm_image image;
    struct error err = {0};
    assert_int_equal(symlink(folder, link), 0);
    assert_int_equal(vmm_image_load(fixture->folder, "linked", &image, &err), -ENOENT);
    assert_string_equal(err.slug, "image-not-found");
    put_file(fixture, "elsewhere", fixture->kernel, sizeof fixture->kernel);
    assert_int_equal(unlink(kernel), 0);
    assert_int_equal(symlink("../elsewhere", kernel), 0);
    assert_open(fixture, NULL, -ENOENT, "image-file-missing", "vmlinuz");
    assert_int_equal(unlink(kernel), 0);
    assert_int_equal(mkfifo(kernel, 0644), 0);
    assert_open(fixture, NULL, -ENOENT, "image-file-missing", "vmlinuz");
    assert_int_equal(unlink(kernel), 0);
    assert_int_equal(mkdir(kernel, 0755), 0);
    assert_open(fixture, NULL, -ENOENT, "image-file-missing", "vmlinuz");
    assert_int_equal(unlink(manifest), 0);
    assert_int_equal(symlink("/etc/hostname", manifest), 0);
    assert_load(fixture, -ENOENT, "image-not-found", "");
    assert_int_equal(unlink(manifest), 0);
    assert_int_equal(mkfifo(manifest, 0644), 0);
    assert_load(fixture, -ENOENT, "image-not-found", "");
}

static void a_verified_image_gives_its_files_from_their_start(void **state)
{
    struct fixture *fixture = *state;
    struct image_cache cache = {0};
    struct image_files files;
    struct error err = {0};
    uint8_t byte = 0;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(image_open_verified(fixture->folder, "micro", &cache, &files, &err), 0);
        assert_string_equal(files.image.name, "micro");
        assert_int_equal(read(files.kernel_fd, &byte, 1), 1);
        assert_int_equal(byte, 'k');
        assert_int_equal(read(files.initrd_fd, &byte, 1), 1);
        assert_int_equal(byte, 'i');
        assert_int_equal(fcntl(files.kernel_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
        assert_true((fcntl(files.kernel_fd, F_GETFD) & FD_CLOEXEC) != 0);
        image_files_close(&files);
        assert_int_equal(files.kernel_fd, -1);
        image_files_close(&files);
    }
}

static void one_changed_byte_is_a_mismatch_that_shows_both_digests(void **state)
{
    struct fixture *fixture = *state;
    static const size_t places[] = {0, IMAGE_BLOCK_BYTES - 1, IMAGE_BLOCK_BYTES, KERNEL_BYTES - 1};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        fixture->kernel[places[i]] ^= 1;
        put_file(fixture, "micro/vmlinuz", fixture->kernel, sizeof fixture->kernel);
        fixture->kernel[places[i]] ^= 1;
        assert_open(fixture, NULL, -EBADMSG, "image-digest-mismatch", "vmlinuz");
    }
    struct vmm_image image;
    struct error err = {0};
    assert_int_equal(vmm_image_load(fixture->folder, "micro", &image, &err), 0);
    assert_int_equal(vmm_image_verify(fixture->folder, &image, &err), -EBADMSG);
    assert_string_equal(err.slug, "image-digest-mismatch");
    assert_string_equal(err.field, "vmlinuz");
    char expected[16];
    snprintf(expected, sizeof expected, "%.12s", image.kernel_sha256);
    assert_non_null(strstr(err.message, expected));
    put_file(fixture, "micro/vmlinuz", fixture->kernel, sizeof fixture->kernel);
    assert_int_equal(vmm_image_verify(fixture->folder, &image, &err), 0);
}

static void another_size_or_a_missing_file_is_named(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    put_file(fixture, "micro/initrd", fixture->initrd, INITRD_BYTES - 1);
    assert_open(fixture, NULL, -EBADMSG, "image-digest-mismatch", "initrd");
    snprintf(path, sizeof path, "%s/micro/initrd", fixture->folder);
    assert_int_equal(unlink(path), 0);
    assert_open(fixture, NULL, -ENOENT, "image-file-missing", "initrd");
}

static size_t cached(const struct image_cache *cache)
{
    size_t count = 0;
    for (size_t i = 0; i < IMAGE_CACHE_ENTRIES; i++)
        count += cache->entries[i].sha256[0] != '\0';
    return count;
}

static void an_unchanged_image_is_read_once_and_a_changed_one_again(void **state)
{
    struct fixture *fixture = *state;
    struct image_cache cache = {0};
    assert_open(fixture, &cache, 0, NULL, NULL);
    assert_int_equal(cached(&cache), 0); /* written a moment ago: it might change within the same tick */
    usleep(200 * 1000);
    assert_open(fixture, &cache, 0, NULL, NULL);
    assert_int_equal(cached(&cache), 2);
    assert_open(fixture, &cache, 0, NULL, NULL);
    assert_int_equal(cached(&cache), 2);
    /* Same size, same inode, and the old mtime put back: ctime tells. */
    char path[128];
    struct stat before;
    snprintf(path, sizeof path, "%s/micro/vmlinuz", fixture->folder);
    assert_int_equal(stat(path, &before), 0);
    fixture->kernel[7] ^= 1;
    put_file(fixture, "micro/vmlinuz", fixture->kernel, sizeof fixture->kernel);
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]){before.st_atim, before.st_mtim}, 0), 0);
    assert_open(fixture, &cache, -EBADMSG, "image-digest-mismatch", "vmlinuz");
}

static void a_cached_file_does_not_vouch_for_another_digest(void **state)
{
    struct fixture *fixture = *state;
    struct image_cache cache = {0};
    usleep(200 * 1000);
    assert_open(fixture, &cache, 0, NULL, NULL);
    assert_int_equal(cached(&cache), 2);
    json_object_set_new(json_object_get(fixture->manifest, "kernel"), "sha256",
                        json_string("0000000000000000000000000000000000000000000000000000000000000000"));
    put_manifest(fixture);
    assert_open(fixture, &cache, -EBADMSG, "image-digest-mismatch", "vmlinuz");
}

static void the_list_is_sorted_and_leaves_out_what_is_no_image(void **state)
{
    struct fixture *fixture = *state;
    static const char *const folders[] = {"zeta", "alpha", "Upper", ".hidden", "empty"};
    char path[192];
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", fixture->folder, folders[i]);
        assert_int_equal(mkdir(path, 0755), 0);
        if (strcmp(folders[i], "empty") == 0)
            continue;
        snprintf(path, sizeof path, "%s/manifest.json", folders[i]);
        put_file(fixture, path, "{}", 2);
    }
    put_file(fixture, "file", "", 0);
    snprintf(path, sizeof path, "%s/link", fixture->folder);
    assert_int_equal(symlink("alpha", path), 0);
    char names[4][VMM_NAME_BYTES];
    struct error err = {0};
    assert_int_equal(vmm_image_list(fixture->folder, names, 4, &err), 3);
    assert_string_equal(names[0], "alpha");
    assert_string_equal(names[1], "micro");
    assert_string_equal(names[2], "zeta");
    assert_int_equal(vmm_image_list(fixture->folder, names, 2, &err), 2);
    assert_string_equal(names[0], "alpha");
    assert_string_equal(names[1], "micro");
    assert_int_equal(vmm_image_list(fixture->folder, names, 0, &err), 0);
    assert_int_equal(vmm_image_list("/no/such/folder", names, 4, &err), -ENOENT);
}

#define IMAGE_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(image_names_are_words_without_a_path),
        IMAGE_TEST(a_sound_manifest_yields_its_values),
        IMAGE_TEST(each_missing_key_is_named),
        IMAGE_TEST(each_wrong_value_is_named),
        IMAGE_TEST(text_may_fill_its_place_and_no_more),
        IMAGE_TEST(what_is_no_json_object_is_refused),
        IMAGE_TEST(a_key_twice_is_refused_even_with_the_same_value),
        IMAGE_TEST(a_hostile_key_is_escaped_in_the_message),
        IMAGE_TEST(names_that_lead_elsewhere_are_not_found),
        IMAGE_TEST(links_and_fifos_are_not_followed_and_hold_nobody),
        IMAGE_TEST(a_verified_image_gives_its_files_from_their_start),
        IMAGE_TEST(one_changed_byte_is_a_mismatch_that_shows_both_digests),
        IMAGE_TEST(another_size_or_a_missing_file_is_named),
        IMAGE_TEST(an_unchanged_image_is_read_once_and_a_changed_one_again),
        IMAGE_TEST(a_cached_file_does_not_vouch_for_another_digest),
        IMAGE_TEST(the_list_is_sorted_and_leaves_out_what_is_no_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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

#include "base/clock.h"
#include "base/scope.h"
#include "tests/cmocka.h"
#include "tests/vmm/image_fixture.h"

static void assert_open(const struct image_fixture *fixture, struct image_cache *cache, int rc, const char *slug,
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

static void a_root_disk_is_verified_and_given_like_the_other_files(void **state)
{
    struct image_fixture *fixture = *state;
    static uint8_t disk[4096];
    struct image_files files;
    struct vmm_image image;
    struct error err = {0};
    assert_int_equal(image_open_verified(fixture->folder, "micro", NULL, &files, &err), 0);
    assert_int_equal(files.disk_fd, -1);
    image_files_close(&files);
    image_put_disk(fixture, "raw", disk, sizeof disk);
    assert_int_equal(vmm_image_load(fixture->folder, "micro", &image, &err), 0);
    assert_string_equal(image.disk_file, "disk.img");
    assert_string_equal(image.disk_format, "raw");
    assert_string_equal(image.ready_line, "micro: ready");
    assert_int_equal(image.bytes, KERNEL_BYTES + INITRD_BYTES + sizeof disk);
    assert_int_equal(image_open_verified(fixture->folder, "micro", NULL, &files, &err), 0);
    assert_int_equal(files.disk_size_bytes, sizeof disk);
    assert_int_equal(fcntl(files.disk_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(lseek(files.disk_fd, 0, SEEK_CUR), 0);
    image_files_close(&files);
    assert_int_equal(files.disk_fd, -1);
    disk[17] = 1;
    image_put_file(fixture, "micro/disk.img", disk, sizeof disk);
    assert_open(fixture, NULL, -EBADMSG, "image-digest-mismatch", "disk.img");
    image_put_disk(fixture, "raw", disk, 1000); /* no whole number of sectors */
    assert_open(fixture, NULL, -EBADMSG, "image-disk-invalid", "disk.img");
    image_put_disk(fixture, "qcow2", disk, sizeof disk); /* the format is what the manifest says, and nothing else */
    assert_open(fixture, NULL, -EBADMSG, "image-disk-invalid", "disk.img");
}

static void names_that_lead_elsewhere_are_not_found(void **state)
{
    struct image_fixture *fixture = *state;
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

static void a_folder_that_others_may_write_to_is_refused(void **state)
{
    const struct image_fixture *fixture = *state;
    struct vmm_image image;
    struct error err = {0};
    char path[256];
    snprintf(path, sizeof path, "%s/micro", fixture->folder);
    assert_int_equal(vmm_image_load(fixture->folder, "micro", &image, &err), 0);
    assert_int_equal(chmod(path, 0775), 0);
    assert_int_equal(vmm_image_load(fixture->folder, "micro", &image, &err), -EPERM);
    assert_non_null(strstr(err.message, "chmod go-w"));
    assert_int_equal(chmod(path, 0755), 0);
    assert_int_equal(chmod(fixture->folder, 0757), 0);
    assert_int_equal(vmm_image_verify(fixture->folder, &image, &err), -EPERM);
    assert_int_equal(chmod(fixture->folder, 0755), 0);
    assert_int_equal(vmm_image_verify(fixture->folder, &image, &err), 0);
}

static void links_and_fifos_are_not_followed_and_hold_nobody(void **state)
{
    struct image_fixture *fixture = *state;
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
    image_put_file(fixture, "elsewhere", fixture->kernel, sizeof fixture->kernel);
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
    image_assert_load(fixture, -ENOENT, "image-not-found", "");
    assert_int_equal(unlink(manifest), 0);
    assert_int_equal(mkfifo(manifest, 0644), 0);
    image_assert_load(fixture, -ENOENT, "image-not-found", "");
}

static void a_verified_image_gives_its_files_from_their_start(void **state)
{
    struct image_fixture *fixture = *state;
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
    struct image_fixture *fixture = *state;
    static const size_t places[] = {0, IMAGE_BLOCK_BYTES - 1, IMAGE_BLOCK_BYTES, KERNEL_BYTES - 1};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        fixture->kernel[places[i]] ^= 1;
        image_put_file(fixture, "micro/vmlinuz", fixture->kernel, sizeof fixture->kernel);
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
    image_put_file(fixture, "micro/vmlinuz", fixture->kernel, sizeof fixture->kernel);
    assert_int_equal(vmm_image_verify(fixture->folder, &image, &err), 0);
}

static void another_size_or_a_missing_file_is_named(void **state)
{
    struct image_fixture *fixture = *state;
    char path[128];
    image_put_file(fixture, "micro/initrd", fixture->initrd, INITRD_BYTES - 1);
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
    struct image_fixture *fixture = *state;
    struct image_cache cache = {0};
    uint64_t passed_ms;
    do {
        const uint64_t before_ms = clock_monotonic_ms();
        cache = (struct image_cache){0};
        image_put_file(fixture, "micro/vmlinuz", fixture->kernel, sizeof fixture->kernel);
        assert_open(fixture, &cache, 0, NULL, NULL);
        passed_ms = clock_monotonic_ms() - before_ms;
    } while (passed_ms > 90);            /* on a busy machine it would be no moment */
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
    image_put_file(fixture, "micro/vmlinuz", fixture->kernel, sizeof fixture->kernel);
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]){before.st_atim, before.st_mtim}, 0), 0);
    assert_open(fixture, &cache, -EBADMSG, "image-digest-mismatch", "vmlinuz");
}

static void a_cached_file_does_not_vouch_for_another_digest(void **state)
{
    struct image_fixture *fixture = *state;
    struct image_cache cache = {0};
    usleep(200 * 1000);
    assert_open(fixture, &cache, 0, NULL, NULL);
    assert_int_equal(cached(&cache), 2);
    json_object_set_new(json_object_get(fixture->manifest, "kernel"), "sha256",
                        json_string("0000000000000000000000000000000000000000000000000000000000000000"));
    image_put_manifest(fixture);
    assert_open(fixture, &cache, -EBADMSG, "image-digest-mismatch", "vmlinuz");
}

static void the_list_is_sorted_and_leaves_out_what_is_no_image(void **state)
{
    struct image_fixture *fixture = *state;
    static const char *const folders[] = {"zeta", "alpha", "Upper", ".hidden", "empty"};
    char path[192];
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", fixture->folder, folders[i]);
        assert_int_equal(mkdir(path, 0755), 0);
        if (strcmp(folders[i], "empty") == 0)
            continue;
        snprintf(path, sizeof path, "%s/manifest.json", folders[i]);
        image_put_file(fixture, path, "{}", 2);
    }
    image_put_file(fixture, "file", "", 0);
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

#define IMAGE_TEST(test) cmocka_unit_test_setup_teardown(test, image_set_up, image_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(image_names_are_words_without_a_path),
        IMAGE_TEST(a_root_disk_is_verified_and_given_like_the_other_files),
        IMAGE_TEST(names_that_lead_elsewhere_are_not_found),
        IMAGE_TEST(a_folder_that_others_may_write_to_is_refused),
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

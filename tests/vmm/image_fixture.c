#include "tests/vmm/image_fixture.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"
#include "vmm/vmm.h"

void image_put_file(const struct image_fixture *fixture, const char *name, const void *bytes, size_t length)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", fixture->folder, name);
    int fd SCOPED_FD = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), length);
}

void image_put_manifest(const struct image_fixture *fixture)
{
    char *text SCOPED_FREE = json_dumps(fixture->manifest, JSON_INDENT(2));
    image_put_file(fixture, "micro/manifest.json", text, strlen(text));
}

static void remove_all(const char *folder)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

json_t *image_section(const char *file, const uint8_t *bytes, size_t length)
{
    uint8_t digest[crypto_hash_sha256_BYTES];
    char text[VMM_DIGEST_BYTES];
    crypto_hash_sha256(digest, bytes, length);
    sodium_bin2hex(text, sizeof text, digest, sizeof digest);
    return json_pack("{s:s, s:s, s:I}", "file", file, "sha256", text, "bytes", (json_int_t)length);
}

int image_set_up(void **state)
{
    struct image_fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/test_image.XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    char path[128];
    snprintf(path, sizeof path, "%s/micro", fixture->folder);
    assert_int_equal(mkdir(path, 0755), 0);
    memset(fixture->kernel, 'k', sizeof fixture->kernel);
    memset(fixture->initrd, 'i', sizeof fixture->initrd);
    image_put_file(fixture, "micro/vmlinuz", fixture->kernel, sizeof fixture->kernel);
    image_put_file(fixture, "micro/initrd", fixture->initrd, sizeof fixture->initrd);
    fixture->manifest = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:s, s:i, s:s}", "name", "micro", "description",
                                  "A small guest", "architecture", "x86_64", "boot", "kernel", "kernel",
                                  image_section("vmlinuz", fixture->kernel, sizeof fixture->kernel), "initrd",
                                  image_section("initrd", fixture->initrd, sizeof fixture->initrd), "command_line",
                                  "console=ttyS0 quiet", "min_memory_mib", 96, "ready_line", "micro: ready");
    image_put_manifest(fixture);
    *state = fixture;
    return 0;
}

int image_tear_down(void **state)
{
    struct image_fixture *fixture = *state;
    remove_all(fixture->folder);
    json_decref(fixture->manifest);
    free(fixture);
    return 0;
}

void image_assert_load(const struct image_fixture *fixture, int rc, const char *slug, const char *field)
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

void image_put_disk(struct image_fixture *fixture, const char *format, const uint8_t *bytes, size_t length)
{
    json_t *disk = image_section("disk.img", bytes, length);
    json_object_set_new(disk, "format", json_string(format));
    json_object_set_new(fixture->manifest, "disk", disk);
    image_put_file(fixture, "micro/disk.img", bytes, length);
    image_put_manifest(fixture);
}

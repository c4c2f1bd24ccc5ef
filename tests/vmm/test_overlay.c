#include "vmm/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"

static char folder[64];
static char path[96];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_overlay.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(folder); /* so it is empty */
}

static int scratch(const void *bytes, size_t length)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    int fd = dup(fileno(file));
    fclose(file);
    assert_int_equal(pwrite(fd, bytes, length, 0), length);
    return fd;
}

static int measure(int fd, const char *format, uint64_t *ret_bytes)
{
    struct error err = {0};
    int rc = overlay_measure_base(fd, "disk", format, ret_bytes, &err);
    if (rc != 0) {
        assert_string_equal(err.slug, "image-disk-invalid");
        assert_string_equal(err.field, "disk");
    }
    return rc;
}

static void an_overlay_has_no_name_and_is_its_owners_alone(void **state)
{
    (void)state;
    struct stat found;
    int fd SCOPED_FD = -1;
    mode_t before = umask(0);
    assert_int_equal(overlay_make(path, 1024 * 1024, &fd, NULL), 0);
    umask(before);
    assert_int_equal(fstat(fd, &found), 0);
    assert_int_equal(found.st_nlink, 0);
    assert_int_equal(found.st_mode & 07777, 0600);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(symlink("b", path), 0);
    int other = -1;
    assert_int_equal(overlay_make(path, 1024 * 1024, &other, NULL), -EEXIST);
    assert_int_equal(other, -1);
    assert_int_equal(unlink(path), 0);
}

static void an_overlay_measures_as_what_it_was_made_for(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {512, 512 * 3, 1 << 29, (1 << 29) + 512, UINT64_C(900) << 20, OVERLAY_SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t bytes = 0;
        int fd SCOPED_FD = -1;
        assert_int_equal(overlay_make(path, sizes[i], &fd, NULL), 0);
        assert_int_equal(measure(fd, "qcow2", &bytes), 0);
        assert_true(bytes == sizes[i]);
    }
}

static void a_raw_base_is_as_large_as_its_file_in_whole_sectors(void **state)
{
    (void)state;
    uint8_t bytes[1024] = {0x51, 0x46, 0x49, 0xfb}; /* a qcow2 file by its looks, but nobody looks */
    static const struct {
        size_t length;
        int rc;
    } table[] = {{0, -EBADMSG}, {511, -EBADMSG}, {512, 0}, {513, -EBADMSG}, {1024, 0}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        uint64_t size = 77;
        int fd SCOPED_FD = scratch(bytes, table[i].length);
        assert_int_equal(measure(fd, "raw", &size), table[i].rc);
        assert_int_equal(size, table[i].rc == 0 ? table[i].length : 77);
    }
}

static void a_qcow2_base_that_is_damaged_or_names_another_file_is_refused(void **state)
{
    (void)state;
    uint8_t good[104];
    int made SCOPED_FD = -1;
    assert_int_equal(overlay_make(path, 1024 * 1024, &made, NULL), 0);
    assert_int_equal(pread(made, good, sizeof good, 0), sizeof good);
    static const struct {
        size_t at; /* of the last byte of the field */
        uint8_t value;
        int rc;
    } table[] = {
        {3, 0xfa, -EBADMSG}, /* magic */
        {7, 1, -EBADMSG},    {7, 2, 0},
        {7, 4, -EBADMSG},                       /* version */
        {15, 1, -EBADMSG},   {19, 1, -EBADMSG}, /* backing file: offset, length */
        {31, 1, -EBADMSG},   {24, 1, -EBADMSG}, /* size: no sector; too large */
        {35, 1, -EBADMSG},   {35, 2, -EBADMSG}, /* encryption */
        {79, 1, 0},                             /* counts not up to date */
        {79, 2, -EBADMSG},   {79, 4, -EBADMSG},
        {79, 8, -EBADMSG},                         /* corrupt, data file, compression */
        {79, 16, -EBADMSG},  {72, 0x80, -EBADMSG}, /* extended entries, unknown */
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        uint8_t bytes[sizeof good];
        uint64_t size;
        memcpy(bytes, good, sizeof bytes);
        bytes[table[i].at] = table[i].value;
        int fd SCOPED_FD = scratch(bytes, sizeof bytes);
        assert_int_equal(measure(fd, "qcow2", &size), table[i].rc);
    }
    for (size_t length = 0; length < sizeof good; length++) {
        uint64_t size;
        int fd SCOPED_FD = scratch(good, length);
        assert_int_equal(measure(fd, "qcow2", &size), -EBADMSG);
    }
}

/* QEMU's own opinion, where it is installed. */
static void qemu_img_finds_nothing_wrong_with_an_overlay(void **state)
{
    (void)state;
    if (system("command -v qemu-img >/dev/null 2>&1") != 0)
        skip();
    static const uint64_t sizes[] = {512, UINT64_C(2) << 30, OVERLAY_SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int fd SCOPED_FD = -1;
        char command[256];
        assert_int_equal(overlay_make(path, sizes[i], &fd, NULL), 0);
        snprintf(command, sizeof command, "qemu-img check -q -f qcow2 /dev/fd/%d", fd);
        assert_int_equal(fcntl(fd, F_SETFD, 0), 0);
        assert_int_equal(system(command), 0);
    }
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(an_overlay_has_no_name_and_is_its_owners_alone),
        WITH_FOLDER(an_overlay_measures_as_what_it_was_made_for),
        WITH_FOLDER(a_raw_base_is_as_large_as_its_file_in_whole_sectors),
        WITH_FOLDER(a_qcow2_base_that_is_damaged_or_names_another_file_is_refused),
        WITH_FOLDER(qemu_img_finds_nothing_wrong_with_an_overlay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "vmm/file_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"

enum { PATH_BYTES = 128, MIB = 1024 * 1024 };

static char folder[64];
static char from[PATH_BYTES];
static char to[PATH_BYTES];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/omertad-copy-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(from, sizeof from, "%s/from", folder);
    snprintf(to, sizeof to, "%s/to", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(from);
    unlink(to);
    return rmdir(folder);
}

static void assert_same(int one, int other, size_t length)
{
    char *a SCOPED_FREE = malloc(length + 1);
    char *b SCOPED_FREE = malloc(length + 1);
    assert_int_equal(pread(one, a, length + 1, 0), length);
    assert_int_equal(pread(other, b, length + 1, 0), length);
    assert_memory_equal(a, b, length);
}

static void a_copy_has_the_bytes_the_mode_and_the_holes(void **state)
{
    (void)state;
    const size_t length = 9 * MIB + 7; /* zeros at the end */
    int fd SCOPED_FD = open(from, O_RDWR | O_CREAT, 0444);
    assert_int_equal(pwrite(fd, "first", 5, 0), 5);
    assert_int_equal(pwrite(fd, "across", 6, 3 * MIB - 3), 6);
    assert_int_equal(ftruncate(fd, (off_t)length), 0);
    assert_int_equal(lseek(fd, 100, SEEK_SET), 100);
    assert_int_equal(file_copy(fd, to, 0600, NULL), 0);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 100);
    struct stat found;
    int copy SCOPED_FD = open(to, O_RDONLY);
    assert_int_equal(fstat(copy, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0600);
    assert_true(found.st_blocks * 512 <= 3 * MIB + 65536);
    assert_same(fd, copy, length);
}

static void an_empty_file_has_an_empty_copy(void **state)
{
    (void)state;
    struct stat found;
    int fd SCOPED_FD = open(from, O_RDWR | O_CREAT, 0600);
    assert_int_equal(file_copy(fd, to, 0600, NULL), 0);
    assert_int_equal(stat(to, &found), 0);
    assert_int_equal(found.st_size, 0);
}

static void what_cannot_be_copied_leaves_nothing_and_overwrites_nothing(void **state)
{
    (void)state;
    struct error err = {0};
    int fd SCOPED_FD = open(folder, O_RDONLY | O_DIRECTORY);
    assert_int_equal(file_copy(fd, to, 0600, &err), -EISDIR);
    assert_int_equal(access(to, F_OK), -1);
    int other SCOPED_FD = open(from, O_RDWR | O_CREAT, 0600);
    assert_int_equal(symlink(from, to), 0);
    assert_int_equal(file_copy(other, to, 0600, &err), -EEXIST);
    assert_int_equal(access(to, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_copy_has_the_bytes_the_mode_and_the_holes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_file_has_an_empty_copy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_copied_leaves_nothing_and_overwrites_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

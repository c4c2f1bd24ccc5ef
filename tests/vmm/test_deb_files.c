#include "vmm/deb_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"

static const char sound[] = "!<arch>\ndebian-binary   1700000000  0     0     100644  4         `\n2.0\n";
static char folder[64];
static struct deb_files files;

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_deb.XXXXXX");
    assert_non_null(mkdtemp(folder));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void put(const char *name, const char *text, size_t length)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd SCOPED_FD = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, length), length);
}

static void assert_refused(int rc, const char *field)
{
    struct error err = {0};
    assert_int_equal(deb_files_open(folder, &files, &err), rc);
    assert_string_equal(err.slug, "packages-invalid");
    assert_string_equal(err.field, field);
    assert_int_equal(files.count, 0);
}

static void packages_come_sorted_and_other_files_are_left_alone(void **state)
{
    (void)state;
    struct error err = {0};
    put("b_1.0_amd64.deb", sound, sizeof sound - 1);
    put("a+x_1~2_all.deb", sound, sizeof sound - 1);
    put("README", "x", 1);
    put(".deb", "x", 1);
    put("Packages.gz", "x", 1);
    assert_int_equal(deb_files_open(folder, &files, &err), 0);
    assert_int_equal(files.count, 2);
    assert_string_equal(files.list[0].name, "a+x_1~2_all.deb");
    assert_string_equal(files.list[1].name, "b_1.0_amd64.deb");
    assert_int_equal(files.list[1].bytes, sizeof sound - 1);
    assert_int_equal(fcntl(files.list[0].fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    deb_files_close(&files);
    assert_int_equal(files.count, 0);
}

static void a_folder_without_a_package_is_refused(void **state)
{
    (void)state;
    assert_refused(-ENOENT, "");
    put("README", "x", 1);
    assert_refused(-ENOENT, "");
    assert_int_equal(deb_files_open(NULL, &files, NULL), -ENOENT);
    assert_int_equal(deb_files_open("", &files, NULL), -ENOENT);
    assert_int_equal(deb_files_open("/no/such/folder", &files, NULL), -ENOENT);
}

static void what_is_no_package_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t length;
    } table[] = {{"", 0},
                 {"!<arch>\n", 8},
                 {"!<arch>\ndebian-binar", 20},
                 {"!<arch>\ncontrol.tar.gz/   ", 26},
                 {"PK\3\4 and so on, long enough", 27}};
    put("good.deb", sound, sizeof sound - 1);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        put("bad.deb", table[i].text, table[i].length);
        assert_refused(-EINVAL, "bad.deb");
    }
}

static void links_fifos_and_folders_are_named_and_hold_nobody(void **state)
{
    (void)state;
    char path[128];
    put("good.deb", sound, sizeof sound - 1);
    snprintf(path, sizeof path, "%s/x.deb", folder);
    assert_int_equal(symlink("good.deb", path), 0);
    assert_refused(-EINVAL, "x.deb");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_refused(-EINVAL, "x.deb");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_refused(-EINVAL, "x.deb");
    assert_int_equal(rmdir(path), 0);
    put("x\x1b.deb", "", 0);
    assert_refused(-EINVAL, "x\\x1b.deb");
}

static void there_may_be_64_and_256_mib_and_no_more(void **state)
{
    (void)state;
    char path[128];
    struct error err = {0};
    for (int i = 0; i < DEB_FILES_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.deb", i);
        put(name, sound, sizeof sound - 1);
    }
    assert_int_equal(deb_files_open(folder, &files, &err), 0);
    assert_int_equal(files.count, DEB_FILES_MAX);
    deb_files_close(&files);
    put("more.deb", sound, sizeof sound - 1);
    assert_refused(-EFBIG, "");
    snprintf(path, sizeof path, "%s/more.deb", folder);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/0.deb", folder);
    off_t rest = (DEB_FILES_MAX - 1) * (off_t)(sizeof sound - 1);
    assert_int_equal(truncate(path, DEB_FILES_BYTES_MAX - rest), 0);
    assert_int_equal(deb_files_open(folder, &files, &err), 0);
    deb_files_close(&files);
    assert_int_equal(truncate(path, DEB_FILES_BYTES_MAX - rest + 1), 0);
    assert_refused(-EFBIG, "");
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(packages_come_sorted_and_other_files_are_left_alone),
        WITH_FOLDER(a_folder_without_a_package_is_refused),
        WITH_FOLDER(what_is_no_package_is_named),
        WITH_FOLDER(links_fifos_and_folders_are_named_and_hold_nobody),
        WITH_FOLDER(there_may_be_64_and_256_mib_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "api/packages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cmocka.h"

static const char good[] = "!<arch>\ndebian-binary   1700000000  0     0     100644  4         `\n2.0\n";

struct folder {
    char path[40];
};

static void put(const struct folder *folder, const char *name, const char *bytes, size_t length)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder->path, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static int make_folder(void **state)
{
    struct folder *folder = calloc(1, sizeof *folder);
    snprintf(folder->path, sizeof folder->path, "/tmp/omertad-packages-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
    *state = folder;
    return 0;
}

static int drop_folder(void **state)
{
    struct folder *folder = *state;
    char command[80];
    snprintf(command, sizeof command, "rm -rf %s", folder->path);
    int removed = system(command);
    free(folder);
    return removed;
}

static void a_folder_of_packages_is_good_whatever_else_it_holds(void **state)
{
    const struct folder *folder = *state;
    struct error err = {0};
    put(folder, "wireguard.deb", good, sizeof good - 1);
    put(folder, "iptables.deb", good, sizeof good - 1);
    put(folder, "README", "read me", 7);
    put(folder, ".deb", "hidden", 6);
    if (packages_check(folder->path, &err) != 0)
        fail_msg("%s", err.message);
}

static void no_folder_and_no_package_are_refused(void **state)
{
    const struct folder *folder = *state;
    struct error err = {0};
    assert_int_equal(packages_check("/nowhere/at/all", &err), -ENOENT);
    put(folder, "wireguard.deb.part", good, sizeof good - 1);
    assert_int_equal(packages_check(folder->path, &err), -ENOENT);
    assert_non_null(strstr(err.message, ".deb"));
}

static void what_is_no_package_is_named(void **state)
{
    const struct folder *folder = *state;
    static const struct {
        const char *bytes;
        size_t length;
    } table[] = {
        {"", 0},
        {good, 8},
        {good, 20}, /* one byte short of the member's name */
        {"!<arch>\nother-member    1700000000", 32},
        {"!<arch>\r\ndebian-binary   ", 25},
        {"PK\x03\x04 this is a zip archive", 25},
    };
    put(folder, "good.deb", good, sizeof good - 1);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct error err = {0};
        put(folder, "bad.deb", table[i].bytes, table[i].length);
        if (packages_check(folder->path, &err) != -EINVAL || strncmp(err.message, "bad.deb is not", 14) != 0)
            fail_msg("case %zu: %s", i, err.message);
    }
    put(folder, "bad.deb", good, 21); /* as much as is looked at */
    assert_int_equal(packages_check(folder->path, NULL), 0);
}

static void links_folders_and_pipes_are_no_packages(void **state)
{
    const struct folder *folder = *state;
    char path[80];
    snprintf(path, sizeof path, "%s/x.deb", folder->path);
    put(folder, "good", good, sizeof good - 1);
    assert_int_equal(symlink("good", path), 0);
    assert_int_equal(packages_check(folder->path, NULL), -EINVAL);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(packages_check(folder->path, NULL), -EINVAL);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(packages_check(folder->path, NULL), -EINVAL);
}

static void more_packages_than_a_guest_needs_are_refused(void **state)
{
    const struct folder *folder = *state;
    for (int i = 0; i < PACKAGES_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "p%d.deb", i);
        put(folder, name, good, sizeof good - 1);
    }
    assert_int_equal(packages_check(folder->path, NULL), 0);
    put(folder, "last.deb", good, sizeof good - 1);
    assert_int_equal(packages_check(folder->path, NULL), -E2BIG);
}

int main(void)
{
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(a_folder_of_packages_is_good_whatever_else_it_holds),
        WITH_FOLDER(no_folder_and_no_package_are_refused),
        WITH_FOLDER(what_is_no_package_is_named),
        WITH_FOLDER(links_folders_and_pipes_are_no_packages),
        WITH_FOLDER(more_packages_than_a_guest_needs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "vmm/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"
#include "tests/vmm/vmm_fixture.h"
#include "vmm/hypervisor.h"

static struct vmm_fixture world;
static struct machine_places places;
static const char *program;

static int set_up(void **state)
{
    (void)state;
    char path[256];
    fixture_init(&world, program);
    snprintf(places.image_dir, sizeof places.image_dir, "%s", world.config.image_dir);
    places.hypervisor = hypervisor_of(VMM_HYPERVISOR_QEMU);
    snprintf(places.disk_dir, sizeof places.disk_dir, "%s", world.root);
    assert_int_equal(mkdir(fixture_path(&world, "machines", path), 0700), 0);
    places.machines_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(places.machines_fd >= 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char path[256];
    fd_close(&places.machines_fd);
    assert_int_equal(rmdir(fixture_path(&world, "machines", path)), 0); /* so it is empty */
    fixture_done(&world);
    return 0;
}

static void assert_wiped(const struct machine *machine)
{
    static const uint8_t zeros[VMM_KEY_BYTES];
    assert_memory_equal(machine->spec->tunnel.private_key, zeros, sizeof zeros);
    assert_memory_equal(machine->spec->tunnel.preshared_key, zeros, sizeof zeros);
}

static struct machine *create(const char *image)
{
    struct vmm_spec spec;
    fixture_spec(&world, "obedient", &spec);
    snprintf(spec.image, sizeof spec.image, "%s", image);
    spec.tunnel.has_preshared_key = true;
    memset(spec.tunnel.preshared_key, 7, sizeof spec.tunnel.preshared_key);
    struct machine *machine = machine_create(&spec);
    assert_non_null(machine);
    return machine;
}

static void assert_nameless(int fd, off_t bytes)
{
    struct stat found;
    assert_int_equal(fstat(fd, &found), 0);
    assert_int_equal(found.st_nlink, 0);
    assert_int_equal(found.st_mode & 07777, 0600);
    if (bytes >= 0)
        assert_int_equal(found.st_size, bytes);
}

static void preparing_leaves_no_secret_in_memory_and_no_name_on_disk(void **state)
{
    (void)state;
    struct image_cache cache = {0};
    struct machine *machine = create("obedient");
    assert_int_equal(machine_prepare(machine, &places, &cache), 0);
    assert_wiped(machine);
    assert_nameless(machine->seed_fd, -1);
    assert_nameless(machine->disk_fd, 64 * 1024 * 1024);
    struct stat folder;
    assert_int_equal(fstat(machine->folder_fd, &folder), 0);
    assert_int_equal(folder.st_mode & 07777, 0700);
    machine_release(machine, &places);
    machine_release(machine, &places);
    machine_free(machine);
}

static void an_image_with_a_root_disk_gets_a_nameless_overlay_on_it(void **state)
{
    (void)state;
    struct image_cache cache = {0};
    fixture_image_with_disk(&world, "disk", 1024 * 1024);
    struct machine *machine = create("disk");
    if (machine_prepare(machine, &places, &cache) != 0)
        fail_msg("%s", machine->prepare_error.message);
    assert_true(machine->image.disk_fd >= 0);
    assert_nameless(machine->overlay_fd, -1);
    machine_release(machine, &places);
    assert_int_equal(machine->overlay_fd, -1);
    assert_int_equal(machine->image.disk_fd, -1);
    machine_free(machine);
}

static void a_preparation_that_fails_wipes_and_leaves_nothing(void **state)
{
    (void)state;
    struct image_cache cache = {0};
    struct machine *machine = create("nowhere");
    assert_int_equal(machine_prepare(machine, &places, &cache), -ENOENT);
    assert_string_equal(machine->prepare_error.slug, "image-not-found");
    assert_wiped(machine);
    machine_release(machine, &places);
    machine_free(machine);

    machine = create("obedient");
    snprintf(places.disk_dir, sizeof places.disk_dir, "/nonexistent");
    assert_int_equal(machine_prepare(machine, &places, &cache), -ENOENT);
    assert_null(machine->prepare_error.slug);
    assert_wiped(machine);
    machine_release(machine, &places);
    machine_free(machine);
}

static void a_cancelled_preparation_does_not_read_the_image(void **state)
{
    (void)state;
    struct image_cache cache = {0};
    struct machine *machine = create("nowhere");
    machine->cancelled = true;
    assert_int_equal(machine_prepare(machine, &places, &cache), -ECANCELED);
    assert_wiped(machine);
    machine_release(machine, &places);
    machine_free(machine);
}

static void removing_a_folder_follows_no_link(void **state)
{
    (void)state;
    char kept[256];
    char path[256];
    assert_int_equal(mkdir(fixture_path(&world, "kept", kept), 0700), 0);
    assert_int_equal(mkdir(fixture_path(&world, "kept/file", path), 0700), 0);
    assert_int_equal(symlink(kept, fixture_path(&world, "machines/link", path)), 0);
    assert_true(machine_remove_folder(places.machines_fd, "link") < 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(fixture_path(&world, "machines/folder", path), 0700), 0);
    assert_int_equal(symlink(kept, fixture_path(&world, "machines/folder/link", path)), 0);
    assert_int_equal(machine_remove_folder(places.machines_fd, "folder"), 0);
    assert_int_equal(machine_remove_folder(places.machines_fd, "folder"), 0);
    assert_int_equal(access(fixture_path(&world, "kept/file", path), F_OK), 0);
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(int argc, char **argv)
{
    (void)argc;
    program = argv[0];
    const struct CMUnitTest tests[] = {
        WITH_WORLD(preparing_leaves_no_secret_in_memory_and_no_name_on_disk),
        WITH_WORLD(an_image_with_a_root_disk_gets_a_nameless_overlay_on_it),
        WITH_WORLD(a_preparation_that_fails_wipes_and_leaves_nothing),
        WITH_WORLD(a_cancelled_preparation_does_not_read_the_image),
        WITH_WORLD(removing_a_folder_follows_no_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

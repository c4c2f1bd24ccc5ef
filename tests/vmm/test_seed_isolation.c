/* Documents and volumes of guests that install their packages themselves. */
#include "vmm/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"
#include "tests/vmm/seed_fixture.h"

static json_t *user_data_of(const struct vmm_spec *spec)
{
    struct seed seed;
    seed_make(spec, &seed);
    json_t *tree = seed_tree_of(&seed.user_data);
    seed_done(&seed);
    return tree;
}

static json_t *prebuilt_firewall(void)
{
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    json_t *tree = user_data_of(spec);
    json_t *firewall = json_incref(json_array_get(json_object_get(tree, "bootcmd"), 0));
    json_decref(tree);
    return firewall;
}

static void offline_packages_are_installed_before_the_firewall_and_nothing_else_differs(void **state)
{
    (void)state;
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    json_t *prebuilt = user_data_of(spec);
    spec->boot_isolation = VMM_BOOT_OFFLINE_PACKAGES;
    json_t *tree = user_data_of(spec);
    json_t *commands = json_object_get(tree, "bootcmd");
    assert_int_equal(json_array_size(commands), 2);
    const json_t *install = json_array_get(commands, 0);
    assert_int_equal(json_array_size(install), 3);
    const char *line = json_string_value(json_array_get(install, 2));
    assert_non_null(strstr(line, "mount -o ro LABEL=CIDATA /run/omerta-seed"));
    assert_non_null(strstr(line, "dpkg -i /run/omerta-seed/packages/*.deb"));
    static const char fence[] = " || poweroff -f"; /* no firewall, no network */
    assert_string_equal(line + strlen(line) - (sizeof fence - 1), fence);
    json_array_remove(commands, 0);
    assert_true(json_equal(tree, prebuilt));
    json_decref(tree);
    json_decref(prebuilt);
}

static void an_online_installation_has_its_firewall_last_and_a_way_out_until_then(void **state)
{
    (void)state;
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    spec->boot_isolation = VMM_BOOT_ONLINE_INSTALL;
    spec->resolver_count = 2;
    spec->resolvers[0] = UINT32_C(0xC6336435); /* 198.51.100.53 */
    spec->resolvers[1] = UINT32_C(0x09090909);
    spec->direct = true;
    json_t *tree = user_data_of(spec);
    json_t *firewall = prebuilt_firewall();
    assert_null(json_object_get(tree, "bootcmd"));
    assert_true(json_is_true(json_object_get(tree, "package_update")));
    json_t *packages = json_pack("[s, s]", "wireguard-tools", "iptables");
    json_t *commands = json_pack("[[s, s, s], O]", "wg-quick", "up", "wg0", firewall);
    assert_true(json_equal(json_object_get(tree, "packages"), packages));
    assert_true(json_equal(json_object_get(tree, "runcmd"), commands));
    json_decref(packages);
    json_decref(commands);
    json_decref(firewall);
    json_decref(tree);
    struct seed seed;
    seed_make(spec, &seed);
    seed_assert_tree(&seed.network_config,
                     "{\"version\": 2, \"ethernets\": {\"eth0\": {"
                     "\"match\": {\"macaddress\": \"52:54:00:ab:cd:ef\"}, \"set-name\": \"eth0\", \"dhcp4\": false,"
                     "\"mtu\": 1500, \"addresses\": [\"192.168.64.2/24\"],"
                     "\"routes\": [{\"to\": \"203.0.113.7/32\", \"via\": \"192.168.64.1\"},"
                     "{\"to\": \"0.0.0.0/0\", \"via\": \"192.168.64.1\", \"metric\": 1000}],"
                     "\"nameservers\": {\"addresses\": [\"198.51.100.53\", \"9.9.9.9\"]}}}}");
    seed_done(&seed);
}

static void packages_go_along_numbered_and_only_where_they_are_asked_for(void **state)
{
    (void)state;
    char folder[] = "/tmp/test_seed.XXXXXX";
    assert_non_null(mkdtemp(folder));
    int directory SCOPED_FD = open(folder, O_RDONLY | O_DIRECTORY);
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    struct error err = {0};
    static struct deb_files packages;
    packages.count = 2;
    static const char *const contents[] = {"!<arch>\nfirst", "!<arch>\nsecond package"};
    for (size_t i = 0; i < 2; i++) {
        FILE *file = tmpfile();
        assert_int_equal(fputs(contents[i], file) >= 0 && fflush(file) == 0, 1);
        packages.list[i].fd = dup(fileno(file));
        packages.list[i].bytes = strlen(contents[i]);
        fclose(file);
    }
    int fd SCOPED_FD = -1;
    assert_int_equal(seed_write(directory, "seed.iso", spec, &packages, &fd, &err), -EINVAL);
    assert_string_equal(err.field, "boot_isolation");
    spec->boot_isolation = VMM_BOOT_OFFLINE_PACKAGES;
    assert_int_equal(seed_write(directory, "seed.iso", spec, NULL, &fd, &err), -EINVAL);
    assert_int_equal(seed_write(directory, "seed.iso", spec, &packages, &fd, &err), 0);
    struct stat found;
    assert_int_equal(fstat(fd, &found), 0);
    uint8_t *volume SCOPED_FREE = malloc((size_t)found.st_size);
    assert_int_equal(pread(fd, volume, (size_t)found.st_size, 0), found.st_size);
    for (size_t i = 0; i < 2; i++)
        assert_non_null(memmem(volume, (size_t)found.st_size, contents[i], strlen(contents[i])));
    assert_non_null(memmem(volume, (size_t)found.st_size, "00.deb", 6));
    assert_non_null(memmem(volume, (size_t)found.st_size, "01.deb", 6));
    deb_files_close(&packages);
    assert_int_equal(unlinkat(directory, "seed.iso", 0), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offline_packages_are_installed_before_the_firewall_and_nothing_else_differs),
        cmocka_unit_test(an_online_installation_has_its_firewall_last_and_a_way_out_until_then),
        cmocka_unit_test(packages_go_along_numbered_and_only_where_they_are_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

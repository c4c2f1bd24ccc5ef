#include "api/config/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cmocka.h"
#include "vmm/vmm.h"

static int parse(const char *text, struct config *config, struct error *err)
{
    *config = (struct config){0};
    return config_parse(text, strlen(text), config, err);
}

static void every_key_of_the_file_is_taken(void **state)
{
    (void)state;
    const char *text =
        "{\"network\":{\"mode\":\"conntrack\",\"samplingRate\":0.5,\"attachment\":\"stream\",\"allowModeOverride\":"
        "true,"
        "\"allowPrivateEndpoints\":true,\"allowOnlineInstall\":true},"
        "\"tunnel\":{\"timeoutS\":0,\"lostS\":86400},\"lease\":{\"expiringLeadS\":5},\"listen\":{\"tcp\":\"[::1]:0\"},"
        "\"paths\":{\"data\":\"/d\",\"runtime\":\"/r\",\"images\":\"/i\",\"packages\":\"/p\"},"
        "\"hypervisor\":{\"kind\":\"qemu\",\"vfkit\":\"/v\",\"qemu\":\"qemu\",\"kvmDevice\":\"/dev/"
        "kvm\",\"bootWatchdogMs\":100,"
        "\"startTimeoutMs\":200,\"powerdownMs\":0},"
        "\"onDaemonExit\":\"keep\","
        "\"capacity\":{\"leases\":1,\"vcpus\":2,\"memoryMib\":3,\"diskMib\":0}}";
    struct config config;
    struct error err = {0};
    assert_int_equal(parse(text, &config, &err), 0);
    assert_true(config.network.sampling_rate > 0.49 && config.network.sampling_rate < 0.51);
    assert_true(config.network.allow_mode_override);
    assert_int_equal(config.network.mode, MODE_CONNTRACK);
    assert_int_equal(config.network.attachment, NAT_FRAMING_STREAM);
    assert_true(config.network.allow_private_endpoints);
    assert_true(config.network.allow_online_install);
    assert_int_equal(config.tunnel.timeout_s, 0);
    assert_int_equal(config.tunnel.lost_s, 86400);
    assert_int_equal(config.lease.expiring_lead_s, 5);
    assert_string_equal(config.paths.packages, "/p");
    assert_true(config.listen.tcp_enabled);
    assert_true(config.listen.tcp.ipv6);
    assert_string_equal(config.paths.runtime, "/r");
    assert_string_equal(config.hypervisor.qemu, "qemu");
    assert_string_equal(config.hypervisor.vfkit, "/v");
    assert_int_equal(config.hypervisor.kind, VMM_HYPERVISOR_QEMU);
    assert_int_equal(config.hypervisor.start_timeout_ms, 200);
    assert_int_equal(config.capacity.memory_mib, 3);
    assert_true(config.keep_machines);
}

static void what_vfkit_cannot_do_is_refused_and_its_machines_end_with_the_daemon(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *message;
    } table[] = {
        {"{\"hypervisor\":{\"kind\":\"vfkit\"}}", ""},
        {"{\"hypervisor\":{\"kind\":\"vfkit\"},\"onDaemonExit\":\"terminate\",\"network\":{\"mode\":\"conntrack\"}}",
         ""},
        {"{\"hypervisor\":{\"kind\":\"vfkit\"},\"onDaemonExit\":\"keep\"}",
         "onDaemonExit cannot be \"keep\" with vfkit"},
        {"{\"hypervisor\":{\"kind\":\"vfkit\"},\"network\":{\"mode\":\"direct\"}}",
         "network.mode cannot be \"direct\" with vfkit: vfkit's own network (virtio-net,nat) leaves the provider's "
         "addresses, its local network and other guests open to a guest, and direct mode promises that they are "
         "closed"},
        {"{\"network\":{\"attachment\":\"stream\"},\"hypervisor\":{\"kind\":\"vfkit\"}}",
         "network.attachment cannot be \"stream\" with vfkit"},
        {"{\"hypervisor\":{\"kind\":\"xen\"}}", "hypervisor.kind must be \"qemu\" or \"vfkit\""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct config config = {.keep_machines = true};
        struct error err = {0};
        int rc = config_parse(table[i].text, strlen(table[i].text), &config, &err);
        assert_string_equal(err.message, table[i].message);
        assert_int_equal(rc, table[i].message[0] == '\0' ? 0 : -EINVAL);
        if (rc == 0) {
            assert_int_equal(config.hypervisor.kind, VMM_HYPERVISOR_VFKIT);
            assert_false(config.keep_machines);
        }
    }
}

static void what_becomes_of_machines_is_one_of_two_words(void **state)
{
    (void)state;
    struct config config = {.keep_machines = true};
    struct error err = {0};
    assert_int_equal(config_parse("{\"onDaemonExit\":\"terminate\"}", 28, &config, &err), 0);
    assert_false(config.keep_machines);
    static const char *const bad[] = {"{\"onDaemonExit\":\"leave\"}", "{\"onDaemonExit\":true}",
                                      "{\"onDaemonExit\":null}"};
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++) {
        assert_int_equal(config_parse(bad[at], strlen(bad[at]), &config, &err), -EINVAL);
        assert_non_null(strstr(err.message, "onDaemonExit must be \"keep\" or \"terminate\""));
    }
}

static void an_empty_object_changes_nothing(void **state)
{
    (void)state;
    struct config config = {.listen.tcp_enabled = true, .capacity.leases = 7};
    struct config before = config;
    assert_int_equal(config_parse("{}", 2, &config, NULL), 0);
    assert_memory_equal(&config, &before, sizeof config);
}

static void every_mode_is_known_by_its_name(void **state)
{
    (void)state;
    for (int i = 0; i < MODE_COUNT; i++) {
        char text[64];
        struct config config;
        snprintf(text, sizeof text, "{\"network\":{\"mode\":\"%s\"}}", mode_name((enum mode)i));
        assert_int_equal(parse(text, &config, NULL), 0);
        assert_int_equal(config.network.mode, i);
    }
}

static void null_and_false_switch_the_port_off(void **state)
{
    (void)state;
    const char *const texts[] = {"{\"listen\":{\"tcp\":null}}", "{\"listen\":{\"tcp\":false}}"};
    for (size_t i = 0; i < 2; i++) {
        struct config config = {.listen.tcp_enabled = true};
        assert_int_equal(config_parse(texts[i], strlen(texts[i]), &config, NULL), 0);
        assert_false(config.listen.tcp_enabled);
    }
}

static void each_fault_is_named_by_the_key_s_full_path(void **state)
{
    (void)state;
    const struct {
        const char *text;
        const char *says;
    } table[] = {
        {"{\"network\":{\"samplngRate\":1}}", "network.samplngRate is not a known key; did you mean \"samplingRate\"?"},
        {"{\"nework\":{}}", "nework is not a known key; did you mean \"network\"?"},
        {"{\"network\":{\"mode\":\"open\"}}", "network.mode must be \"filtered\", \"conntrack\""},
        {"{\"network\":{\"mode\":\"Direct\"}}", "network.mode must be \"filtered\", \"conntrack\""},
        {"{\"network\":{\"samplingRate\":0.00099}}", "network.samplingRate must be 0.001 to 1"},
        {"{\"network\":{\"samplingRate\":1.01}}", "network.samplingRate must be 0.001 to 1"},
        {"{\"network\":{\"attachment\":\"dgram\"}}", "network.attachment must be \"datagram\" or \"stream\""},
        {"{\"network\":{\"allowOnlineInstall\":1}}", "network.allowOnlineInstall must be true or false"},
        {"{\"tunnel\":{\"timeoutS\":86401}}", "tunnel.timeoutS must be 0 to 86400"},
        {"{\"tunnel\":{\"lostS\":-1}}", "tunnel.lostS must be 0 to 86400"},
        {"{\"tunnel\":{\"timeout\":1}}", "tunnel.timeout is not a known key; did you mean \"timeoutS\"?"},
        {"{\"paths\":{\"packages\":\"debs\"}}", "paths.packages must be an absolute path"},
        {"{\"network\":{\"samplingRate\":0}}", "network.samplingRate must be 0.001 to 1"},
        {"{\"network\":[]}", "network must be an object"},
        {"{\"listen\":{\"tcp\":\"0.0.0.0:80\"}}", "listen.tcp The daemon listens on loopback alone"},
        {"{\"listen\":{\"tcp\":true}}", "listen.tcp must be a string"},
        {"{\"paths\":{\"data\":\"relative\"}}", "paths.data must be an absolute path"},
        {"{\"hypervisor\":{\"qemu\":\"a/b\"}}", "hypervisor.qemu must be an absolute path"},
        {"{\"capacity\":{\"leases\":0}}", "capacity.leases must be 1 to"},
        {"{\"network\":{\"resolvers\":[\"127.0.0.53\"]}}", "network.resolvers.0 must be the IPv4 address"},
        {"{\"network\":{\"resolvers\":[\"dns.example\"]}}", "network.resolvers.0 must be the IPv4 address"},
        {"{\"network\":{\"resolvers\":[]}}", "network.resolvers"},
        {"{\"capacity\":{\"leases\":1,\"leases\":2}}", "capacity.leases stands twice"},
        {"[]", "document must be an object"},
        {"{", "not JSON"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct config config;
        struct error err = {0};
        assert_true(parse(table[i].text, &config, &err) < 0);
        if (strstr(err.message, table[i].says) == NULL)
            fail_msg("%s: %s", table[i].text, err.message);
    }
}

static void all_faults_are_told_at_once(void **state)
{
    (void)state;
    struct config config;
    struct error err = {0};
    assert_true(parse("{\"capacity\":{\"leases\":0,\"vcpus\":0}}", &config, &err) < 0);
    assert_non_null(strstr(err.message, "capacity.leases"));
    assert_non_null(strstr(err.message, "capacity.vcpus"));
}

static void without_a_file_the_folders_are_the_user_s(void **state)
{
    (void)state;
    setenv("HOME", "/nowhere", 1);
    unsetenv("XDG_DATA_HOME");
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("XDG_RUNTIME_DIR");
    struct config_overrides none = {0};
    struct config config;
    assert_int_equal(config_load(&none, &config, NULL), 0);
    assert_string_equal(config.paths.data, "/nowhere/.local/share/omertad");
    assert_string_equal(config.paths.runtime, "/nowhere/.local/share/omertad/run");
    assert_string_equal(config.paths.images, "/nowhere/.local/share/omertad/images");
    assert_string_equal(config.file, "");
    assert_int_equal(config.listen.tcp.port, 8470);
    assert_int_equal(config.network.mode, MODE_FILTERED);
    assert_int_equal(sampling_ppm(config.network.sampling_rate), 10000);
    assert_int_equal(config.network.attachment, NAT_FRAMING_DATAGRAM);
    assert_false(config.network.allow_mode_override);
    assert_false(config.network.allow_online_install);
    assert_int_equal(config.tunnel.timeout_s, 120);
    assert_int_equal(config.tunnel.lost_s, 0);
    assert_string_equal(config.paths.packages, "");
    assert_in_range(config.capacity.leases, 1, 64); /* fewer where few descriptors may be open */
    assert_true(config.capacity.vcpus >= 1);
    assert_true(config.capacity.memory_mib >= 1);
    assert_true(config.capacity.disk_mib >= 1); /* before the folder is there, too */
    setenv("XDG_RUNTIME_DIR", "/run/user/1", 1);
    setenv("XDG_DATA_HOME", "relative-is-ignored", 1);
    assert_int_equal(config_load(&none, &config, NULL), 0);
    assert_string_equal(config.paths.runtime, "/run/user/1/omertad");
    assert_string_equal(config.paths.data, "/nowhere/.local/share/omertad");
}

static void load_with(const char *text, struct config *ret_config, int expected, struct error *err)
{
    char path[] = "/tmp/omertad-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    const struct config_overrides overrides = {.file = path};
    int result = config_load(&overrides, ret_config, err);
    unlink(path);
    if (result == 0)
        result = config_share_descriptors(ret_config, err);
    if (result != expected)
        fail_msg("%d: %s", result, err->message);
}

static void no_disk_at_all_is_another_thing_than_none_given(void **state)
{
    (void)state;
    struct config config;
    struct error err = {0};
    setenv("HOME", "/nowhere", 1);
    load_with("{\"capacity\":{\"diskMib\":0}}", &config, 0, &err);
    assert_int_equal(config.capacity.disk_mib, 0);
    load_with("{\"capacity\":{\"leases\":3}}", &config, 0, &err);
    assert_true(config.capacity.disk_mib > 0);
}

static void leases_are_bounded_by_the_descriptors_that_are_there(void **state)
{
    (void)state;
    struct config config;
    struct rlimit before;
    struct error err = {0};
    setenv("HOME", "/nowhere", 1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit few = {.rlim_cur = 320 + 2 * (VMM_MACHINE_DESCRIPTORS + NAT_FLOWS_MIN), .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    load_with("{}", &config, 0, &err);
    assert_int_equal(config.capacity.leases, 2);
    assert_int_equal(config.flows_max, NAT_FLOWS_MIN);
    load_with("{\"capacity\":{\"leases\":1}}", &config, 0, &err);
    assert_int_equal(config.flows_max, NAT_FLOWS_MIN * 2 + VMM_MACHINE_DESCRIPTORS);
    load_with("{\"capacity\":{\"leases\":3}}", &config, -EMFILE, &err);
    assert_non_null(
        strstr(err.message, "capacity.leases: the limit of open descriptors (`ulimit -n`) is enough for 2"));
    few.rlim_cur = 300;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    load_with("{}", &config, -EMFILE, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    load_with("{\"capacity\":{\"leases\":4097}}", &config, -EINVAL, &err);
    assert_non_null(strstr(err.message, "capacity.leases must be 1 to 4096"));
}

static void a_named_file_that_is_absent_is_an_error(void **state)
{
    (void)state;
    struct config_overrides overrides = {.file = "/nowhere/at/all.json"};
    struct config config;
    struct error err = {0};
    assert_true(config_load(&overrides, &config, &err) < 0);
    assert_non_null(strstr(err.message, "/nowhere/at/all.json"));
}

static void options_stand_over_the_file_and_move_what_follows_from_them(void **state)
{
    (void)state;
    setenv("HOME", "/nowhere", 1);
    unsetenv("XDG_RUNTIME_DIR");
    unsetenv("XDG_DATA_HOME");
    struct config_overrides overrides = {.data = "/elsewhere", .listen = "127.0.0.1:9"};
    struct config config;
    assert_int_equal(config_load(&overrides, &config, NULL), 0);
    assert_string_equal(config.paths.images, "/elsewhere/images");
    assert_string_equal(config.paths.runtime, "/elsewhere/run");
    assert_int_equal(config.listen.tcp.port, 9);
    overrides.listen = "192.0.2.1:9";
    assert_true(config_load(&overrides, &config, NULL) < 0);
}

static void folders_are_made_private_and_open_ones_are_refused(void **state)
{
    (void)state;
    char dir[] = "/tmp/omertad-config-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct config config = {0};
    snprintf(config.paths.data, sizeof config.paths.data, "%s/a/data", dir);
    snprintf(config.paths.runtime, sizeof config.paths.runtime, "%s/a/run", dir);
    snprintf(config.paths.images, sizeof config.paths.images, "%s/a/images", dir);
    assert_int_equal(config_prepare_dirs(&config, NULL), 0);
    struct stat status;
    assert_int_equal(stat(config.paths.data, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(chmod(config.paths.data, 0750), 0);
    struct error err = {0};
    assert_true(config_prepare_dirs(&config, &err) < 0);
    assert_non_null(strstr(err.message, "chmod 700"));
    rmdir(config.paths.data);
    rmdir(config.paths.runtime);
    rmdir(config.paths.images);
    char parent[64];
    snprintf(parent, sizeof parent, "%s/a", dir);
    rmdir(parent);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_disk_at_all_is_another_thing_than_none_given),
        cmocka_unit_test(leases_are_bounded_by_the_descriptors_that_are_there),
        cmocka_unit_test(every_key_of_the_file_is_taken),
        cmocka_unit_test(what_vfkit_cannot_do_is_refused_and_its_machines_end_with_the_daemon),
        cmocka_unit_test(what_becomes_of_machines_is_one_of_two_words),
        cmocka_unit_test(an_empty_object_changes_nothing),
        cmocka_unit_test(every_mode_is_known_by_its_name),
        cmocka_unit_test(null_and_false_switch_the_port_off),
        cmocka_unit_test(each_fault_is_named_by_the_key_s_full_path),
        cmocka_unit_test(all_faults_are_told_at_once),
        cmocka_unit_test(without_a_file_the_folders_are_the_user_s),
        cmocka_unit_test(a_named_file_that_is_absent_is_an_error),
        cmocka_unit_test(options_stand_over_the_file_and_move_what_follows_from_them),
        cmocka_unit_test(folders_are_made_private_and_open_ones_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "vmm/seed.h"

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
#include "tests/vmm/seed_fixture.h"
#include "vmm/volume.h"

/* Text of a base64 string in the user-data. Owner: the caller. */
static char *decode(const char *encoded, size_t length)
{
    char *text = calloc(1, 4096);
    size_t used = 0;
    assert_int_equal(sodium_base642bin((unsigned char *)text, 4095, encoded, length, NULL, &used, NULL,
                                       sodium_base64_VARIANT_ORIGINAL),
                     0);
    return text;
}

static char *tunnel_file(const json_t *user_data)
{
    const json_t *file = json_array_get(json_object_get(user_data, "write_files"), 0);
    const char *content = json_string_value(json_object_get(file, "content"));
    return decode(content, strlen(content));
}

static void meta_data_and_network_config_are_these_trees(void **state)
{
    (void)state;
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    struct seed seed;
    seed_make(spec, &seed);
    seed_assert_tree(&seed.meta_data, "{\"instance-id\": \"0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b\","
                                      " \"local-hostname\": \"vm-0190a1b2\", \"dsmode\": \"local\"}");
    seed_assert_tree(&seed.network_config,
                     "{\"version\": 2, \"ethernets\": {\"eth0\": {"
                     "\"match\": {\"macaddress\": \"52:54:00:ab:cd:ef\"}, \"set-name\": \"eth0\", \"dhcp4\": false,"
                     "\"mtu\": 1500, \"addresses\": [\"192.168.64.2/24\"],"
                     "\"routes\": [{\"to\": \"203.0.113.7/32\", \"via\": \"192.168.64.1\"}]}}}");
    seed_done(&seed);
}

/* The two base64 texts are compared decoded, in tests of their own. */
static void assert_user_data(const struct seed *seed, const char *users)
{
    json_t *tree = seed_tree_of(&seed->user_data);
    json_t *bootcmd = json_array_get(json_array_get(json_object_get(tree, "bootcmd"), 0), 2);
    json_t *file = json_array_get(json_object_get(tree, "write_files"), 0);
    assert_true(json_is_string(bootcmd));
    assert_true(json_is_string(json_object_get(file, "content")));
    json_string_set(bootcmd, "X");
    json_object_set_new(file, "content", json_string("Y"));
    char *dump SCOPED_FREE = json_dumps(tree, JSON_INDENT(2));
    char text[8192];
    snprintf(text, sizeof text, "%s\n", dump);
    char expected[4096];
    snprintf(expected, sizeof expected,
             "{\"bootcmd\": [[\"sh\", \"-c\", \"X\"]], \"disable_root\": false, \"ssh_pwauth\": false, \"users\": %s,"
             "\"write_files\": [{\"path\": \"/etc/wireguard/wg0.conf\", \"permissions\": \"0600\","
             "\"encoding\": \"b64\", \"content\": \"Y\"}], \"runcmd\": [[\"wg-quick\", \"up\", \"wg0\"]]}",
             users);
    seed_assert_tree(&(struct seed_document){.text = text, .length = strlen(text)}, expected);
    json_decref(tree);
}

static void user_data_starts_with_its_mark_and_is_this_tree(void **state)
{
    (void)state;
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    struct seed seed;
    seed_make(spec, &seed);
    assert_memory_equal(seed.user_data.text, "#cloud-config\n{\n  \"bootcmd\": [\n", 31);
    assert_user_data(&seed,
                     "[{\"name\": \"root\", \"lock_passwd\": true, \"ssh_authorized_keys\": [\"" SEED_SSH_KEY "\"]}]");
    seed_done(&seed);
}

static void a_user_other_than_root_has_a_shell_and_all_the_keys(void **state)
{
    (void)state;
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    struct seed seed;
    snprintf(spec->ssh_user, sizeof spec->ssh_user, "worker_1");
    snprintf(spec->ssh_keys[1], sizeof spec->ssh_keys[1], SEED_SSH_KEY);
    spec->ssh_key_count = 2;
    seed_make(spec, &seed);
    assert_user_data(&seed, "[{\"name\": \"worker_1\", \"lock_passwd\": true, \"shell\": \"/bin/sh\","
                            "\"ssh_authorized_keys\": [\"" SEED_SSH_KEY "\", \"" SEED_SSH_KEY "\"]}]");
    seed_done(&seed);
    spec->ssh_key_count = 0;
    seed_make(spec, &seed);
    assert_user_data(&seed, "[{\"name\": \"worker_1\", \"lock_passwd\": true, \"shell\": \"/bin/sh\"}]");
    seed_done(&seed);
}

static void the_guest_firewall_lets_only_the_tunnel_through(void **state)
{
    (void)state;
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    struct seed seed;
    seed_make(spec, &seed);
    json_t *tree = seed_tree_of(&seed.user_data);
    const char *command = json_string_value(json_array_get(json_array_get(json_object_get(tree, "bootcmd"), 0), 2));
    static const char head[] = "echo ";
    static const char tail[] = " | base64 -d | iptables-restore";
    assert_memory_equal(command, head, sizeof head - 1);
    assert_string_equal(command + strlen(command) - (sizeof tail - 1), tail);
    char *rules SCOPED_FREE =
        decode(command + sizeof head - 1, strlen(command) - (sizeof head - 1) - (sizeof tail - 1));
    assert_string_equal(rules, "*filter\n"
                               ":INPUT DROP [0:0]\n"
                               ":FORWARD DROP [0:0]\n"
                               ":OUTPUT DROP [0:0]\n"
                               "-A INPUT -i lo -j ACCEPT\n"
                               "-A INPUT -i wg0 -j ACCEPT\n"
                               "-A INPUT -i eth0 -s 203.0.113.7/32 -p udp -m udp --sport 51900 -j ACCEPT\n"
                               "-A OUTPUT -o lo -j ACCEPT\n"
                               "-A OUTPUT -o wg0 -j ACCEPT\n"
                               "-A OUTPUT -o eth0 -d 203.0.113.7/32 -p udp -m udp --dport 51900 -j ACCEPT\n"
                               "-A OUTPUT -m limit --limit 5/sec --limit-burst 20 -j LOG --log-prefix "
                               "\"ROGUE-ATTEMPT: \" --log-level 1\n"
                               "COMMIT\n");
    json_decref(tree);
    seed_done(&seed);
}

static void the_tunnel_file_is_what_wg_quick_reads(void **state)
{
    (void)state;
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    static const char *const preshared[] = {"", "PresharedKey = QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=\n"};
    for (int with = 0; with < 2; with++) {
        struct seed seed;
        char expected[1024];
        spec->tunnel.has_preshared_key = with == 1;
        seed_make(spec, &seed);
        json_t *tree = seed_tree_of(&seed.user_data);
        char *text SCOPED_FREE = tunnel_file(tree);
        snprintf(expected, sizeof expected,
                 "[Interface]\n"
                 "Address = 10.77.0.2/32\n"
                 "PrivateKey = QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n"
                 "MTU = 1420\n"
                 "Table = main\n"
                 "\n"
                 "[Peer]\n"
                 "PublicKey = CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
                 "%s"
                 "Endpoint = 203.0.113.7:51900\n"
                 "AllowedIPs = 0.0.0.0/0\n"
                 "PersistentKeepalive = 25\n",
                 preshared[with]);
        assert_string_equal(text, expected);
        json_decref(tree);
        seed_done(&seed);
    }
}

/* A guest without cloud-init reads the documents line by line. */
static void assert_readable_line_by_line(const struct vmm_spec *spec)
{
    struct seed seed;
    seed_make(spec, &seed);
    const struct seed_document *documents[] = {&seed.meta_data, &seed.network_config, &seed.user_data};
    for (size_t i = 0; i < 3; i++) {
        assert_null(strchr(documents[i]->text, '\\'));
        for (const char *at = documents[i]->text; *at != '\0'; at++)
            assert_true(*at == '\n' || (*at >= ' ' && *at <= '~'));
        for (const char *line = documents[i]->text; line != NULL; line = strchr(line + 1, '\n')) {
            size_t length = strcspn(line + 1, "\n");
            size_t quotes = 0;
            for (size_t k = 0; k < length; k++)
                quotes += line[1 + k] == '"';
            assert_true(quotes == 0 || quotes == 2 || quotes == 4);
        }
    }
    seed_done(&seed);
}

static void no_string_needs_an_escape_and_each_item_has_a_line(void **state)
{
    (void)state;
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    spec->tunnel.has_preshared_key = true;
    spec->direct = true;
    for (int isolation = VMM_BOOT_PREBUILT; isolation <= VMM_BOOT_ONLINE_INSTALL; isolation++) {
        spec->boot_isolation = (enum vmm_boot_isolation)isolation;
        assert_readable_line_by_line(spec);
    }
}

static void assert_refused(const struct vmm_spec *spec, const char *field)
{
    struct error err = {0};
    struct seed seed = {.meta_data = {.length = 7}};
    assert_int_equal(seed_documents(spec, &seed, &err), -EINVAL);
    assert_string_equal(err.field, field);
    assert_int_equal(seed.meta_data.length, 7);
}

static void hostile_users_ids_and_keys_are_refused(void **state)
{
    (void)state;
    static const char *const users[] = {"",    "Root", "0day", "-r", "a b",   "a:b",  "a\nb",    "a\"b",
                                        "a,b", "a#b",  "a/b",  "..", "$(id)", "a\\b", "\xc3\xa9"};
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        snprintf(spec->ssh_user, sizeof spec->ssh_user, "%s", users[i]);
        assert_refused(spec, "ssh_user");
    }
    memset(spec->ssh_user, 'a', sizeof spec->ssh_user); /* no NUL */
    assert_refused(spec, "ssh_user");
    snprintf(spec->ssh_user, sizeof spec->ssh_user, "root");
    static const char *const keys[] = {
        "", "x", SEED_SSH_KEY " comment", (SEED_SSH_KEY "\nx"), "no-pty " SEED_SSH_KEY, "ssh-ed25519 AAAA"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        snprintf(spec->ssh_keys[0], sizeof spec->ssh_keys[0], "%s", keys[i]);
        assert_refused(spec, "ssh_keys");
    }
    memset(spec->ssh_keys[0], 'A', sizeof spec->ssh_keys[0]);
    assert_refused(spec, "ssh_keys");
    spec->ssh_key_count = VMM_SSH_KEYS_MAX + 1;
    assert_refused(spec, "ssh_keys");
    spec->ssh_key_count = 0;
    spec->id.text[0] = '"';
    assert_refused(spec, "id");
    memset(spec->id.text, 'a', sizeof spec->id.text);
    assert_refused(spec, "id");
}

static void values_that_make_no_tunnel_are_refused(void **state)
{
    (void)state;
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    spec->tunnel.consumer.port = 0;
    assert_refused(spec, "consumer");
    spec->tunnel.consumer = (struct nat_endpoint){.ip = 0, .port = 1};
    assert_refused(spec, "consumer");
    spec->tunnel.consumer.ip = 1;
    spec->guest_mac.b[0] = 0x53;
    assert_refused(spec, "guest_mac");
    spec->guest_mac.b[0] = 0x52;
    spec->tunnel.consumer_public_key[0] = 1; /* of low order */
    assert_refused(spec, "consumer_public_key");
    spec->tunnel.consumer_public_key[0] = 9;
    spec->boot_isolation = VMM_BOOT_ONLINE_INSTALL; /* and not direct */
    assert_refused(spec, "boot_isolation");
    spec->boot_isolation = VMM_BOOT_PREBUILT;
    spec->tunnel.vm_tunnel_ip = 0;
    assert_refused(spec, "vm_tunnel_ip");
}

static void the_largest_spec_still_fits(void **state)
{
    (void)state;
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    struct seed seed;
    uint8_t blob[759] = {0, 0, 0, 7, 's', 's', 'h', '-', 'r', 's', 'a', 0, 0, 744 / 256, 744 % 256};
    for (size_t i = 0; i < VMM_SSH_KEYS_MAX; i++) {
        memcpy(spec->ssh_keys[i], "ssh-rsa ", 8);
        sodium_bin2base64(spec->ssh_keys[i] + 8, VMM_SSH_KEY_BYTES - 8, blob, sizeof blob,
                          sodium_base64_VARIANT_ORIGINAL);
    }
    spec->ssh_key_count = VMM_SSH_KEYS_MAX;
    memset(spec->ssh_user, 'w', VMM_USER_BYTES - 1);
    spec->tunnel.has_preshared_key = true;
    spec->tunnel.consumer = (struct nat_endpoint){.ip = UINT32_C(0xDFFFFFFE), .port = 65535};
    spec->tunnel.vm_tunnel_ip = UINT32_C(0xDFFFFFFE);
    seed_make(spec, &seed);
    assert_true(seed.user_data.length > 16 * 1000);
    seed_done(&seed);
}

/* Bytes of @name in the volume, by its directory record; NULL when it is not there. */
static const uint8_t *find_file(const uint8_t *volume, const char *name, size_t *ret_length)
{
    const uint8_t *root = volume + 16 * VOLUME_SECTOR_BYTES + 156;
    const uint8_t *at = volume + (root[2] + root[3] * 256) * VOLUME_SECTOR_BYTES;
    for (; at[0] != 0; at += at[0])
        if (at[32] >= strlen(name) && memcmp(at + 33, name, strlen(name)) == 0) {
            *ret_length = at[10] + at[11] * 256u + at[12] * 65536u;
            return volume + (at[2] + at[3] * 256 + at[4] * 65536) * VOLUME_SECTOR_BYTES;
        }
    return NULL;
}

static void assert_document(const uint8_t *volume, const char *name, const struct seed_document *document)
{
    size_t length = 0;
    const uint8_t *bytes = find_file(volume, name, &length);
    assert_non_null(bytes);
    assert_int_equal(length, document->length);
    assert_memory_equal(bytes, document->text, length);
}

static void the_volume_holds_the_documents_and_only_its_owner_may_read_it(void **state)
{
    (void)state;
    char folder[] = "/tmp/test_seed.XXXXXX";
    assert_non_null(mkdtemp(folder));
    int directory SCOPED_FD = open(folder, O_RDONLY | O_DIRECTORY);
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    struct error err = {0};
    struct stat found;
    int fd SCOPED_FD = -1;
    mode_t before = umask(0);
    assert_int_equal(seed_write(directory, "seed.iso", spec, NULL, &fd, &err), 0);
    umask(before);
    assert_int_equal(fstat(fd, &found), 0);
    assert_int_equal(found.st_mode & 07777, 0600);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
    uint8_t *volume SCOPED_FREE = malloc((size_t)found.st_size);
    assert_int_equal(pread(fd, volume, (size_t)found.st_size, 0), found.st_size);
    assert_memory_equal(volume + VOLUME_ID_OFFSET, "CIDATA  ", 8);
    struct seed seed;
    seed_make(spec, &seed);
    assert_document(volume, "META", &seed.meta_data);
    assert_document(volume, "NETWORK", &seed.network_config);
    assert_document(volume, "USER", &seed.user_data);
    seed_done(&seed);
    assert_int_equal(unlinkat(directory, "seed.iso", 0), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void a_volume_is_never_written_over_a_file_or_through_a_link(void **state)
{
    (void)state;
    char folder[] = "/tmp/test_seed.XXXXXX";
    assert_non_null(mkdtemp(folder));
    int directory SCOPED_FD = open(folder, O_RDONLY | O_DIRECTORY);
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    struct error err = {0};
    int fd = -1;
    assert_int_equal(symlinkat("target", directory, "link"), 0);
    close(openat(directory, "file", O_WRONLY | O_CREAT, 0600));
    assert_int_equal(seed_write(directory, "link", spec, NULL, &fd, &err), -EEXIST);
    assert_int_equal(seed_write(directory, "file", spec, NULL, &fd, &err), -EEXIST);
    assert_int_equal(seed_write(directory, "no/such", spec, NULL, &fd, &err), -ENOENT);
    assert_int_equal(fd, -1);
    assert_int_equal(faccessat(directory, "target", F_OK, 0), -1);
    spec->tunnel.consumer.port = 0;
    assert_int_equal(seed_write(directory, "refused", spec, NULL, &fd, &err), -EINVAL);
    assert_int_equal(unlinkat(directory, "link", 0), 0);
    assert_int_equal(unlinkat(directory, "file", 0), 0);
    assert_int_equal(rmdir(folder), 0); /* so nothing else was left */
}

static void seed_done_takes_what_is_not_there(void **state)
{
    (void)state;
    struct seed seed = {0};
    seed_done(NULL);
    seed_done(&seed);
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    seed_make(spec, &seed);
    seed_done(&seed);
    assert_null(seed.user_data.text);
    assert_int_equal(seed.user_data.length, 0);
    seed_done(&seed);
}

/* The heap is searched for what jansson, the library below the volume and the stack of base64 steps may have left. */
static size_t count_in_heap(const uint8_t *inverted, size_t length)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    size_t count = 0;
    char line[512];
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        unsigned long start = 0;
        unsigned long end = 0;
        if (sscanf(line, "%lx-%lx rw-p", &start, &end) != 2 || strstr(line, "rw-p") == NULL ||
            end - start > (64ul << 20))
            continue;
        for (const uint8_t *at = (const uint8_t *)start; at + length <= (const uint8_t *)end; at++) {
            size_t same = 0;
            while (same < length && (at[same] ^ inverted[same]) == 0xff)
                same++;
            count += same == length;
        }
    }
    if (maps != NULL)
        fclose(maps);
    return count;
}

/* Both spellings of a private key, inverted: its base64, and that as it stands within the base64 of wg0.conf. */
static void invert_spellings(const struct vmm_spec *spec, uint8_t ret_plain[static 40], uint8_t ret_within[static 40])
{
    struct seed seed;
    seed_make(spec, &seed);
    json_t *tree = seed_tree_of(&seed.user_data);
    char *text SCOPED_FREE = tunnel_file(tree);
    const json_t *file = json_array_get(json_object_get(tree, "write_files"), 0);
    char *content = (char *)json_string_value(json_object_get(file, "content"));
    size_t at = (size_t)(strstr(text, "PrivateKey = ") - text) + 13;
    for (size_t i = 0; i < 40; i++) {
        ret_plain[i] = (uint8_t)text[at + i] ^ 0xff;
        ret_within[i] = (uint8_t)content[(at + 2) / 3 * 4 + i] ^ 0xff;
    }
    sodium_memzero(text, strlen(text)); /* what this test copied itself */
    sodium_memzero(content, strlen(content));
    json_decref(tree);
    seed_done(&seed);
}

static void the_private_key_does_not_stay_in_memory(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip();
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    skip();
#endif
#endif
    struct vmm_spec *spec SCOPED_FREE = seed_make_spec();
    uint8_t plain[40];
    uint8_t within[40];
    randombytes_buf(spec->tunnel.private_key, VMM_KEY_BYTES);
    invert_spellings(spec, plain, within);
    char folder[] = "/tmp/test_seed.XXXXXX";
    assert_non_null(mkdtemp(folder));
    int directory SCOPED_FD = open(folder, O_RDONLY | O_DIRECTORY);
    int fd SCOPED_FD = -1;
    assert_int_equal(seed_write(directory, "seed.iso", spec, NULL, &fd, NULL), 0);
    assert_int_equal(unlinkat(directory, "seed.iso", 0), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(count_in_heap(plain, sizeof plain), 0);
    assert_int_equal(count_in_heap(within, sizeof within), 0);
    /* The search can find: while the documents stand, the key does. */
    struct seed seed;
    seed_make(spec, &seed);
    char *copy SCOPED_FREE = strdup(seed.user_data.text);
    if (access("/proc/self/maps", R_OK) == 0)
        assert_true(count_in_heap(within, sizeof within) > 0);
    sodium_memzero(copy, strlen(copy));
    seed_done(&seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(meta_data_and_network_config_are_these_trees),
        cmocka_unit_test(user_data_starts_with_its_mark_and_is_this_tree),
        cmocka_unit_test(a_user_other_than_root_has_a_shell_and_all_the_keys),
        cmocka_unit_test(the_guest_firewall_lets_only_the_tunnel_through),
        cmocka_unit_test(the_tunnel_file_is_what_wg_quick_reads),
        cmocka_unit_test(no_string_needs_an_escape_and_each_item_has_a_line),
        cmocka_unit_test(hostile_users_ids_and_keys_are_refused),
        cmocka_unit_test(values_that_make_no_tunnel_are_refused),
        cmocka_unit_test(the_largest_spec_still_fits),
        cmocka_unit_test(the_volume_holds_the_documents_and_only_its_owner_may_read_it),
        cmocka_unit_test(a_volume_is_never_written_over_a_file_or_through_a_link),
        cmocka_unit_test(seed_done_takes_what_is_not_there),
        cmocka_unit_test(the_private_key_does_not_stay_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

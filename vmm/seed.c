/* cloud-init's NoCloud documents, as JSON, which is YAML.
 *
 * They are trees printed by jansson, one item a line. Every string in them is a fixed word, a number, a validated word or
 * base64, so that none needs an escape and a small reader in a guest without cloud-init can take them apart.
 *
 * `dsmode: local` makes cloud-init run bootcmd before it brings the network up (its default is after), so the guest's own
 * firewall stands before the first frame. It is the guest's second fence; the first is the NAT outside. A guest that has to
 * install its firewall first does so in bootcmd too, from the seed volume (offline), or fetches it with its network open
 * (online), in direct mode alone.
 *
 * The private key passes through these places and is wiped in each: the base64 text, wg0.conf, the same as base64, its copy
 * in the tree, the printed document. */
#include "vmm/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "vmm/volume.h"

enum seed_limits {
    RULES_BYTES = 1024,     /* the firewall takes 560 */
    TUNNEL_BYTES = 1024,    /* wg0.conf takes 400 */
    HOST_NAME_ID_BYTES = 8, /* "vm-" and so many characters of the id */
    TUNNEL_MTU = 1420,      /* 1500 less IPv6 40, UDP 8, WireGuard 32: what wg-quick takes too */
    LINK_MTU = 1500,
    INSTALL_METRIC = 1000,  /* any above the tunnel's 0 */
    PACKAGE_NAME_BYTES = 8, /* "63.deb" */
    SEED_FILES = 3,
    KEEPALIVE_S = 25, /* WireGuard's own advice for a peer behind a NAT */
};

#define BASE64_BYTES(length) sodium_base64_ENCODED_LEN((length), sodium_base64_VARIANT_ORIGINAL)

static int refuse(struct error *err, const char *field, const char *why)
{
    error_set(err, -EINVAL, "seed: %s %s", field, why);
    error_tag(err, NULL, field);
    return -EINVAL;
}

/* useradd's names. */
static bool user_is_valid(const char *user)
{
    size_t length = strspn(user, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return length > 0 && length < VMM_USER_BYTES && user[length] == '\0' && (user[0] < '0' || user[0] > '9') &&
           user[0] != '-';
}

static bool ssh_keys_are_valid(const struct vmm_spec *spec)
{
    if (spec->ssh_key_count > VMM_SSH_KEYS_MAX)
        return false;
    for (size_t i = 0; i < spec->ssh_key_count; i++) {
        char key[VMM_SSH_KEY_BYTES];
        if (memchr(spec->ssh_keys[i], '\0', sizeof spec->ssh_keys[i]) == NULL ||
            vmm_ssh_key_parse(spec->ssh_keys[i], key) != NULL || strcmp(key, spec->ssh_keys[i]) != 0)
            return false;
    }
    return true;
}

static int check(const struct vmm_spec *spec, struct error *err)
{
    struct id id;
    if (!id_parse(spec->id.text, strnlen(spec->id.text, sizeof spec->id.text), &id))
        return refuse(err, "id", "is not a UUID");
    if (memchr(spec->ssh_user, '\0', sizeof spec->ssh_user) == NULL || !user_is_valid(spec->ssh_user))
        return refuse(err, "ssh_user", "is not a user name");
    if (!ssh_keys_are_valid(spec))
        return refuse(err, "ssh_keys", "are not up to 16 keys of type and base64");
    if ((spec->guest_mac.b[0] & 1) != 0)
        return refuse(err, "guest_mac", "is a group address");
    if (spec->tunnel.consumer.port == 0 || spec->tunnel.consumer.ip == 0)
        return refuse(err, "consumer", "is not an endpoint");
    if (spec->tunnel.vm_tunnel_ip == 0)
        return refuse(err, "vm_tunnel_ip", "is zero");
    if (spec->boot_isolation == VMM_BOOT_ONLINE_INSTALL && !spec->direct)
        return refuse(err, "boot_isolation", "online_install needs the direct mode");
    if (!vmm_public_key_valid(spec->tunnel.consumer_public_key))
        return refuse(err, "consumer_public_key", "is not a public key");
    return 0;
}

/* Add one line or more to a text of fixed size. Return: false once it is full. */
static bool append(char *text, size_t capacity, size_t *used, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool append(char *text, size_t capacity, size_t *used, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text + *used, capacity - *used, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= capacity - *used)
        return false;
    *used += (size_t)length;
    return true;
}

static json_t *base64(const char *text, size_t length)
{
    char encoded[BASE64_BYTES(TUNNEL_BYTES)];
    REQUIRE(length < TUNNEL_BYTES);
    sodium_bin2base64(encoded, sizeof encoded, (const unsigned char *)text, length, sodium_base64_VARIANT_ORIGINAL);
    json_t *string = json_string(encoded);
    sodium_memzero(encoded, sizeof encoded);
    return string;
}

/* Only the tunnel and the datagrams that carry it; what else the guest tries to send is named in its log. */
static json_t *firewall(const struct vmm_spec *spec)
{
    char rules[RULES_BYTES];
    char ip[NAT_IP_TEXT_BYTES];
    nat_ip_format(spec->tunnel.consumer.ip, ip);
    unsigned port = spec->tunnel.consumer.port;
    int length = snprintf(rules, sizeof rules,
                          "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\n"
                          "-A INPUT -i lo -j ACCEPT\n"
                          "-A INPUT -i wg0 -j ACCEPT\n"
                          "-A INPUT -i eth0 -s %s/32 -p udp -m udp --sport %u -j ACCEPT\n"
                          "-A OUTPUT -o lo -j ACCEPT\n"
                          "-A OUTPUT -o wg0 -j ACCEPT\n"
                          "-A OUTPUT -o eth0 -d %s/32 -p udp -m udp --dport %u -j ACCEPT\n"
                          "-A OUTPUT -m limit --limit 5/sec --limit-burst 20 -j LOG --log-prefix \"ROGUE-ATTEMPT: \" "
                          "--log-level 1\n"
                          "COMMIT\n",
                          ip, port, ip, port);
    REQUIRE(length > 0 && (size_t)length < sizeof rules);
    json_t *encoded = base64(rules, (size_t)length);
    json_t *command =
        encoded == NULL ? NULL : json_sprintf("echo %s | base64 -d | iptables-restore", json_string_value(encoded));
    json_decref(encoded);
    return json_pack("[s, s, o]", "sh", "-c", command);
}

/* Install what the seed volume brings. Services are not started by it: in this stage systemd would wait for itself. A guest
 * without its firewall must not get as far as its network. */
static const char install_packages[] =
    "mkdir -p /run/omerta-seed && mount -o ro LABEL=CIDATA /run/omerta-seed && echo exit 101 > /usr/sbin/policy-rc.d "
    "&& "
    "chmod 755 /usr/sbin/policy-rc.d && DEBIAN_FRONTEND=noninteractive dpkg -i /run/omerta-seed/packages/*.deb && "
    "rm /usr/sbin/policy-rc.d && umount /run/omerta-seed || poweroff -f";

/* wg-quick's file. The guest has no default route but the tunnel, so no policy routing is needed: Table = main. */
static json_t *tunnel_configuration(const struct vmm_tunnel *tunnel)
{
    char text[TUNNEL_BYTES];
    char key[VMM_KEY_TEXT_BYTES];
    char ip[NAT_IP_TEXT_BYTES];
    char endpoint[NAT_ENDPOINT_TEXT_BYTES];
    size_t used = 0;
    bool fits =
        append(text, sizeof text, &used, "[Interface]\nAddress = %s/32\nPrivateKey = %s\nMTU = %d\nTable = main\n\n",
               nat_ip_format(tunnel->vm_tunnel_ip, ip), vmm_key_format(tunnel->private_key, key), TUNNEL_MTU);
    fits = fits && append(text, sizeof text, &used, "[Peer]\nPublicKey = %s\n",
                          vmm_key_format(tunnel->consumer_public_key, key));
    if (tunnel->has_preshared_key)
        fits =
            fits && append(text, sizeof text, &used, "PresharedKey = %s\n", vmm_key_format(tunnel->preshared_key, key));
    fits = fits && append(text, sizeof text, &used, "Endpoint = %s\nAllowedIPs = 0.0.0.0/0\nPersistentKeepalive = %d\n",
                          nat_endpoint_format(tunnel->consumer, endpoint), KEEPALIVE_S);
    REQUIRE(fits);
    json_t *encoded = base64(text, used);
    sodium_memzero(text, sizeof text);
    sodium_memzero(key, sizeof key);
    return encoded;
}

/* Add to an object, keeping its order. NULL for either is out of memory, and stays so. */
static json_t *with(json_t *object, const char *key, json_t *value)
{
    if (object == NULL || json_object_set_new(object, key, value) != 0) {
        if (object == NULL)
            json_decref(value);
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *ssh_keys(const struct vmm_spec *spec)
{
    json_t *keys = json_array();
    for (size_t i = 0; i < spec->ssh_key_count; i++)
        if (json_array_append_new(keys, json_string(spec->ssh_keys[i])) != 0) {
            json_decref(keys);
            return NULL;
        }
    return keys;
}

static json_t *user(const struct vmm_spec *spec)
{
    const char *shell = strcmp(spec->ssh_user, "root") == 0 ? NULL : "/bin/sh"; /* root has one; s* leaves out NULL */
    if (spec->ssh_key_count == 0)
        return json_pack("{s:s, s:b, s:s*}", "name", spec->ssh_user, "lock_passwd", 1, "shell", shell);
    return json_pack("{s:s, s:b, s:o, s:s*}", "name", spec->ssh_user, "lock_passwd", 1, "ssh_authorized_keys",
                     ssh_keys(spec), "shell", shell);
}

static json_t *meta_data(const struct vmm_spec *spec)
{
    return json_pack("{s:s, s:o, s:s}", "instance-id", spec->id.text, "local-hostname",
                     json_sprintf("vm-%.*s", HOST_NAME_ID_BYTES, spec->id.text), "dsmode", "local");
}

static json_t *resolvers(const struct vmm_spec *spec)
{
    json_t *list = json_array();
    for (size_t at = 0; at < spec->resolver_count; at++) {
        char text[NAT_IP_TEXT_BYTES];
        if (json_array_append_new(list, json_string(nat_ip_format(spec->resolvers[at], text))) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:o}", "addresses", list);
}

/* For the time of an installation: a default route, which the tunnel's outranks later, and the resolvers that the provider
 * has chosen; its own may listen where a guest does not get. */
static json_t *open_to_the_internet(json_t *eth0, const char *gateway, const struct vmm_spec *spec)
{
    json_t *route = json_pack("{s:s, s:s, s:i}", "to", "0.0.0.0/0", "via", gateway, "metric", INSTALL_METRIC);
    if (eth0 == NULL || json_array_append_new(json_object_get(eth0, "routes"), route) != 0) {
        if (eth0 == NULL)
            json_decref(route);
        json_decref(eth0);
        return NULL;
    }
    return with(eth0, "nameservers", resolvers(spec));
}

static json_t *network_config(const struct vmm_spec *spec)
{
    char mac[NAT_MAC_TEXT_BYTES];
    char guest[NAT_IP_TEXT_BYTES];
    char gateway[NAT_IP_TEXT_BYTES];
    char consumer[NAT_IP_TEXT_BYTES];
    nat_mac_format(spec->guest_mac, mac);
    nat_ip_format(VMM_LINK_GUEST_IP, guest);
    nat_ip_format(VMM_LINK_GATEWAY_IP, gateway);
    nat_ip_format(spec->tunnel.consumer.ip, consumer);
    json_t *route = json_pack("{s:o, s:s}", "to", json_sprintf("%s/32", consumer), "via", gateway);
    json_t *eth0 =
        json_pack("{s:{s:s}, s:s, s:b, s:i, s:[o], s:[o]}", "match", "macaddress", mac, "set-name", "eth0", "dhcp4", 0,
                  "mtu", LINK_MTU, "addresses", json_sprintf("%s/%d", guest, VMM_LINK_PREFIX), "routes", route);
    if (spec->boot_isolation == VMM_BOOT_ONLINE_INSTALL)
        eth0 = open_to_the_internet(eth0, gateway, spec);
    return json_pack("{s:i, s:{s:o}}", "version", 2, "ethernets", "eth0", eth0);
}

/* What comes before the network is up. */
static json_t *boot_commands(const struct vmm_spec *spec)
{
    switch (spec->boot_isolation) {
    case VMM_BOOT_PREBUILT:
        return json_pack("{s:[o]}", "bootcmd", firewall(spec));
    case VMM_BOOT_OFFLINE_PACKAGES:
        return json_pack("{s:[[s, s, s], o]}", "bootcmd", "sh", "-c", install_packages, firewall(spec));
    case VMM_BOOT_ONLINE_INSTALL:
        return json_pack("{s:b, s:[s, s]}", "package_update", 1, "packages", "wireguard-tools", "iptables");
    }
    return NULL;
}

static json_t *run_commands(const struct vmm_spec *spec)
{
    if (spec->boot_isolation == VMM_BOOT_ONLINE_INSTALL)
        return json_pack("[[s, s, s], o]", "wg-quick", "up", "wg0", firewall(spec));
    return json_pack("[[s, s, s]]", "wg-quick", "up", "wg0");
}

static json_t *user_data(const struct vmm_spec *spec, json_t *configuration)
{
    json_t *tree = boot_commands(spec);
    tree = with(tree, "disable_root", json_false());
    tree = with(tree, "ssh_pwauth", json_false());
    tree = with(tree, "users", json_pack("[o]", user(spec)));
    tree = with(tree, "write_files",
                json_pack("[{s:s, s:s, s:s, s:O}]", "path", "/etc/wireguard/wg0.conf", "permissions", "0600",
                          "encoding", "b64", "content", configuration));
    return with(tree, "runcmd", run_commands(spec));
}

/* Print a tree into memory of its final size, so that no outgrown copy is left behind. Takes the tree. */
static int print_document(json_t *tree, const char *head, struct seed_document *ret_document, struct error *err)
{
    const size_t flags = JSON_INDENT(2);
    size_t head_length = strlen(head);
    size_t length = tree == NULL ? 0 : json_dumpb(tree, NULL, 0, flags);
    char *text = length == 0 ? NULL : sodium_malloc(head_length + length + sizeof "\n");
    if (text == NULL || json_dumpb(tree, text + head_length, length, flags) != length) {
        sodium_free(text);
        json_decref(tree);
        return error_set(err, -ENOMEM, "out of memory");
    }
    memcpy(text, head, head_length);
    text[head_length + length] = '\n';
    text[head_length + length + 1] = '\0';
    *ret_document = (struct seed_document){.text = text, .length = head_length + length + 1};
    json_decref(tree);
    return 0;
}

/* jansson frees a string without wiping it. */
static void wipe_string(json_t *string)
{
    if (string == NULL)
        return;
    REQUIRE(string->refcount == 1); /* nobody else reads what is wiped here */
    sodium_memzero((char *)json_string_value(string), json_string_length(string));
    json_decref(string);
}

int seed_documents(const struct vmm_spec *spec, struct seed *ret_seed, struct error *err)
{
    int rc = check(spec, err);
    if (rc != 0)
        return rc;
    if (sodium_init() < 0)
        return error_set(err, -EIO, "libsodium cannot be started");
    struct seed seed = {0};
    json_t *configuration = tunnel_configuration(&spec->tunnel);
    rc = print_document(meta_data(spec), "", &seed.meta_data, err);
    if (rc == 0)
        rc = print_document(network_config(spec), "", &seed.network_config, err);
    if (rc == 0)
        rc = print_document(user_data(spec, configuration), "#cloud-config\n", &seed.user_data, err);
    wipe_string(configuration);
    if (rc == 0)
        *ret_seed = seed;
    else
        seed_done(&seed);
    return rc;
}

static void document_done(struct seed_document *document)
{
    sodium_free(document->text); /* wipes; the memory was locked and kept out of core dumps */
    *document = (struct seed_document){0};
}

void seed_done(struct seed *seed)
{
    if (seed == NULL)
        return;
    document_done(&seed->meta_data);
    document_done(&seed->network_config);
    document_done(&seed->user_data);
}

/* Packages are numbered in the volume: dpkg reads their names inside, and nobody has to quote what a file was called. */
static int write_volume(int fd, const struct seed *seed, const struct deb_files *packages, struct error *err)
{
    char names[DEB_FILES_MAX][PACKAGE_NAME_BYTES];
    struct volume_file files[SEED_FILES + DEB_FILES_MAX] = {
        {.name = "meta-data", .bytes = seed->meta_data.text, .length = seed->meta_data.length},
        {.name = "network-config", .bytes = seed->network_config.text, .length = seed->network_config.length},
        {.name = "user-data", .bytes = seed->user_data.text, .length = seed->user_data.length, .secret = true},
    };
    size_t count = SEED_FILES;
    for (size_t at = 0; packages != NULL && at < packages->count; at++) {
        snprintf(names[at], sizeof names[at], "%02u.deb", (unsigned)(at % DEB_FILES_MAX));
        files[count++] = (struct volume_file){
            .folder = "packages", .name = names[at], .fd = packages->list[at].fd, .length = packages->list[at].bytes};
    }
    return volume_write(fd, "CIDATA", files, count, err);
}

int seed_write(int directory_fd, const char *name, const struct vmm_spec *spec, const struct deb_files *packages,
               int *ret_fd, struct error *err)
{
    struct seed seed = {0};
    if (spec->boot_isolation == VMM_BOOT_ONLINE_INSTALL && spec->resolver_count == 0)
        return refuse(err, "resolvers", "are needed for an online installation");
    if ((spec->boot_isolation == VMM_BOOT_OFFLINE_PACKAGES) != (packages != NULL))
        return refuse(err, "boot_isolation", "and packages do not go together");
    int rc = seed_documents(spec, &seed, err);
    if (rc != 0)
        return rc;
    int fd SCOPED_FD = openat(directory_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        rc = error_set(err, -errno, "seed volume %s: %s", name, strerror(errno));
        seed_done(&seed);
        return rc;
    }
    rc = write_volume(fd, &seed, packages, err);
    seed_done(&seed);
    int read_fd SCOPED_FD = rc == 0 ? openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (rc == 0 && read_fd < 0)
        rc = error_set(err, -errno, "seed volume %s: %s", name, strerror(errno));
    if (rc != 0) {
        unlinkat(directory_fd, name, 0);
        return rc;
    }
    *ret_fd = fd_take(&read_fd);
    return 0;
}

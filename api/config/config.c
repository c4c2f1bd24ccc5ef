#include "api/config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "api/config/config_default.h"
#include "api/json/decode.h"
#include "api/lease/lease_timers.h"
#include "base/scope.h"
#include "vmm/vmm.h"

enum {
    MS_MAX = 600000,      /* no time limit of a hypervisor is meant to be above ten minutes */
    TUNNEL_S_MAX = 86400, /* a day; fits 32 bits as milliseconds */
    LEASES_MAX = VMM_MACHINES_MAX,
    VCPUS_MAX = 4096,          /* above any machine */
    MEMORY_MIB_MAX = 64 << 20, /* 64 TiB */
    DISK_MIB_MAX = 1 << 30,    /* 1 PiB */
    PATH_MAX_BYTES = CONFIG_PATH_BYTES - 1,
};

/* ---- members --------------------------------------------------------------------------------------------------- */

static void take_integer(const struct decode_node *object, const char *key, uint64_t least, uint64_t most,
                         uint64_t *value)
{
    struct decode_node node = decode_member(object, key);
    if (decode_present(&node))
        decode_integer(&node, least, most, value);
}

static void take_integer32(const struct decode_node *object, const char *key, uint32_t least, uint32_t most,
                           uint32_t *value)
{
    uint64_t wide = *value;
    take_integer(object, key, least, most, &wide);
    *value = (uint32_t)wide;
}

static void take_boolean(const struct decode_node *object, const char *key, bool *value)
{
    struct decode_node node = decode_member(object, key);
    if (decode_present(&node))
        decode_boolean(&node, value);
}

/* An absolute path, or with @bare a program's name as well. */
static void take_path(const struct decode_node *object, const char *key, bool bare, char *value)
{
    struct decode_node node = decode_member(object, key);
    if (!decode_present(&node))
        return;
    const char *text = decode_string(&node, 1, PATH_MAX_BYTES);
    if (text == NULL)
        return;
    if (text[0] != '/' && !(bare && strchr(text, '/') == NULL))
        decode_fault(&node, NULL, "must be an absolute path");
    else
        snprintf(value, CONFIG_PATH_BYTES, "%s", text);
}

/* ---- sections -------------------------------------------------------------------------------------------------- */

static void take_resolvers(const struct decode_node *network, struct config *config)
{
    struct decode_node list = decode_member(network, "resolvers");
    size_t count;
    if (!decode_present(&list) || !decode_array(&list, 1, VMM_RESOLVERS_MAX, &count))
        return;
    config->network.resolver_count = count;
    for (size_t i = 0; i < count; i++) {
        struct decode_node node = decode_element(&list, i);
        const char *text = decode_string(&node, 1, NAT_IP_TEXT_BYTES - 1);
        uint32_t *ip = &config->network.resolvers[i];
        if (text != NULL && (!nat_ip_parse(text, ip) || nat_ip_is_never(*ip) != NULL))
            decode_fault(&node, NULL, "must be the IPv4 address of a resolver that a guest can reach");
    }
}

static void take_attachment(const struct decode_node *network, struct config *config)
{
    struct decode_node node = decode_member(network, "attachment");
    const char *name = decode_present(&node) ? decode_string(&node, 1, 32) : NULL;
    if (name == NULL)
        return;
    const bool stream = strcmp(name, "stream") == 0;
    if (!stream && strcmp(name, "datagram") != 0)
        decode_fault(&node, NULL, "must be \"datagram\" or \"stream\"");
    config->network.attachment = stream ? NAT_FRAMING_STREAM : NAT_FRAMING_DATAGRAM;
}

static void take_network(const struct decode_node *root, struct config *config)
{
    static const char *const keys[] = {"mode",
                                       "samplingRate",
                                       "attachment",
                                       "allowModeOverride",
                                       "allowPrivateEndpoints",
                                       "allowOnlineInstall",
                                       "resolvers",
                                       NULL};
    struct decode_node network = decode_member(root, "network");
    if (!decode_present(&network) || !decode_object(&network, keys))
        return;
    struct decode_node mode = decode_member(&network, "mode");
    const char *name = decode_present(&mode) ? decode_string(&mode, 1, 32) : NULL;
    if (name != NULL && !mode_parse(name, &config->network.mode))
        decode_fault(&mode, NULL, "must be \"filtered\", \"conntrack\", \"sampled\" or \"direct\"");
    struct decode_node rate = decode_member(&network, "samplingRate");
    if (decode_present(&rate))
        decode_number(&rate, 0.001, 1, &config->network.sampling_rate);
    take_attachment(&network, config);
    take_boolean(&network, "allowModeOverride", &config->network.allow_mode_override);
    take_boolean(&network, "allowPrivateEndpoints", &config->network.allow_private_endpoints);
    take_boolean(&network, "allowOnlineInstall", &config->network.allow_online_install);
    take_resolvers(&network, config);
}

static void take_tunnel(const struct decode_node *root, struct config *config)
{
    static const char *const keys[] = {"timeoutS", "lostS", NULL};
    struct decode_node tunnel = decode_member(root, "tunnel");
    if (!decode_present(&tunnel) || !decode_object(&tunnel, keys))
        return;
    take_integer32(&tunnel, "timeoutS", 0, TUNNEL_S_MAX, &config->tunnel.timeout_s);
    take_integer32(&tunnel, "lostS", 0, TUNNEL_S_MAX, &config->tunnel.lost_s);
}

static void take_lease(const struct decode_node *root, struct config *config)
{
    static const char *const keys[] = {"expiringLeadS", NULL};
    struct decode_node lease = decode_member(root, "lease");
    if (!decode_present(&lease) || !decode_object(&lease, keys))
        return;
    take_integer32(&lease, "expiringLeadS", 0, LEASE_EXPIRING_LEAD_MAX_S, &config->lease.expiring_lead_s);
}

static void take_listen(const struct decode_node *root, struct config *config)
{
    static const char *const keys[] = {"tcp", NULL};
    struct decode_node listen = decode_member(root, "listen");
    if (!decode_present(&listen) || !decode_object(&listen, keys))
        return;
    struct decode_node tcp = decode_member(&listen, "tcp");
    if (!decode_present(&tcp))
        return;
    if (json_is_null(tcp.value) || json_is_false(tcp.value)) {
        config->listen.tcp_enabled = false;
        return;
    }
    const char *text = decode_string(&tcp, 1, LISTEN_TEXT_BYTES - 1);
    struct error err = {0};
    if (text != NULL && listen_parse(text, &config->listen.tcp, &err) < 0)
        decode_fault(&tcp, NULL, "%s", err.message);
    config->listen.tcp_enabled = true;
}

static void take_paths(const struct decode_node *root, struct config *config)
{
    static const char *const keys[] = {"data", "runtime", "images", "packages", NULL};
    struct decode_node paths = decode_member(root, "paths");
    if (!decode_present(&paths) || !decode_object(&paths, keys))
        return;
    take_path(&paths, "data", false, config->paths.data);
    take_path(&paths, "runtime", false, config->paths.runtime);
    take_path(&paths, "images", false, config->paths.images);
    take_path(&paths, "packages", false, config->paths.packages);
}

static void take_kind(const struct decode_node *hypervisor, struct config *config)
{
    struct decode_node node = decode_member(hypervisor, "kind");
    const char *name = decode_present(&node) ? decode_string(&node, 1, 32) : NULL;
    if (name == NULL)
        return;
    if (!vmm_hypervisor_parse(name, &config->hypervisor.kind))
        decode_fault(&node, NULL, "must be \"qemu\" or \"vfkit\"");
    config->keep_machines =
        vmm_hypervisor_abilities(config->hypervisor.kind).keeps; /* unless onDaemonExit says otherwise */
}

static void take_hypervisor(const struct decode_node *root, struct config *config)
{
    static const char *const keys[] = {"kind",           "qemu",           "vfkit",       "kvmDevice",
                                       "bootWatchdogMs", "startTimeoutMs", "powerdownMs", NULL};
    struct decode_node hypervisor = decode_member(root, "hypervisor");
    if (!decode_present(&hypervisor) || !decode_object(&hypervisor, keys))
        return;
    take_kind(&hypervisor, config);
    take_path(&hypervisor, "qemu", true, config->hypervisor.qemu);
    take_path(&hypervisor, "vfkit", true, config->hypervisor.vfkit);
    take_path(&hypervisor, "kvmDevice", false, config->hypervisor.kvm_device);
    take_integer32(&hypervisor, "bootWatchdogMs", 100, MS_MAX, &config->hypervisor.boot_watchdog_ms);
    take_integer32(&hypervisor, "startTimeoutMs", 100, MS_MAX, &config->hypervisor.start_timeout_ms);
    take_integer32(&hypervisor, "powerdownMs", 0, MS_MAX, &config->hypervisor.powerdown_ms);
}

static void take_capacity(const struct decode_node *root, struct config *config)
{
    static const char *const keys[] = {"leases", "vcpus", "memoryMib", "diskMib", NULL};
    struct decode_node capacity = decode_member(root, "capacity");
    if (!decode_present(&capacity) || !decode_object(&capacity, keys))
        return;
    take_integer32(&capacity, "leases", 1, LEASES_MAX, &config->capacity.leases);
    take_integer32(&capacity, "vcpus", 1, VCPUS_MAX, &config->capacity.vcpus);
    take_integer(&capacity, "memoryMib", 1, MEMORY_MIB_MAX, &config->capacity.memory_mib);
    struct decode_node disk = decode_member(&capacity, "diskMib");
    config->disk_given = decode_present(&disk);
    take_integer(&capacity, "diskMib", 0, DISK_MIB_MAX, &config->capacity.disk_mib);
}

static void take_on_exit(const struct decode_node *root, struct config *config)
{
    struct decode_node on_exit = decode_member(root, "onDaemonExit");
    if (!decode_present(&on_exit))
        return;
    const char *word = json_string_value(on_exit.value);
    if (word != NULL && strcmp(word, "keep") == 0)
        config->keep_machines = true;
    else if (word != NULL && strcmp(word, "terminate") == 0)
        config->keep_machines = false;
    else
        decode_fault(&on_exit, NULL, "must be \"keep\" or \"terminate\"");
}

/* What the hypervisor cannot do is not quietly done in another way. */
static void refuse_impossible(const struct decode_node *root, const struct config *config)
{
    struct decode_node network = decode_member(root, "network");
    struct decode_node mode = decode_member(&network, "mode");
    struct decode_node attachment = decode_member(&network, "attachment");
    struct decode_node on_exit = decode_member(root, "onDaemonExit");
    const struct vmm_abilities can = vmm_hypervisor_abilities(config->hypervisor.kind);
    const char *name = vmm_hypervisor_name(config->hypervisor.kind);
    struct error why = {0};
    if (config->network.mode == MODE_DIRECT && !can.direct && vmm_direct_none(&why) < 0)
        decode_fault(&mode, NULL, "cannot be \"direct\" with %s: %s", name, why.message);
    if (config->network.attachment == NAT_FRAMING_STREAM && !can.streams)
        decode_fault(&attachment, NULL, "cannot be \"stream\" with %s", name);
    if (config->keep_machines && !can.keeps)
        decode_fault(&on_exit, NULL, "cannot be \"keep\" with %s", name);
}

/* ---- whole ----------------------------------------------------------------------------------------------------- */

/* All faults in one message, each with its key written as network.mode. */
static int report(const struct decode_errors *errors, struct error *err)
{
    char text[ERROR_MESSAGE_BYTES];
    size_t used = 0;
    for (size_t i = 0; i < errors->count && used < sizeof text; i++) {
        char key[DECODE_POINTER_BYTES];
        snprintf(key, sizeof key, "%s", errors->items[i].pointer[0] == '/' ? errors->items[i].pointer + 1 : "document");
        for (char *c = key; *c != '\0'; c++)
            *c = (char)(*c == '/' ? '.' : *c);
        int more =
            snprintf(text + used, sizeof text - used, "%s%s %s", i == 0 ? "" : "; ", key, errors->items[i].detail);
        used += more < 0 ? 0 : (size_t)more;
    }
    return error_set(err, -EINVAL, "%s", text);
}

int config_parse(const char *text, size_t length, struct config *config, struct error *err)
{
    static const char *const keys[] = {"network",    "tunnel",   "lease",        "listen", "paths",
                                       "hypervisor", "capacity", "onDaemonExit", NULL};
    struct decode_errors errors = {0};
    json_t *tree = NULL;
    int result = decode_parse((const uint8_t *)text, length, &errors, &tree, err);
    if (result < 0)
        return errors.count > 0 ? report(&errors, err) : result;
    struct decode_node root = decode_root(tree, &errors);
    decode_object(&root, keys);
    take_network(&root, config);
    take_tunnel(&root, config);
    take_lease(&root, config);
    take_listen(&root, config);
    take_paths(&root, config);
    take_hypervisor(&root, config);
    take_capacity(&root, config);
    take_on_exit(&root, config);
    refuse_impossible(&root, config);
    json_decref(tree);
    return errors.count > 0 ? report(&errors, err) : 0;
}

static int read_file(const char *path, bool must_exist, struct config *config, struct error *err)
{
    int fd SCOPED_FD = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !must_exist)
        return 0;
    if (fd < 0)
        return error_set(err, -errno, "The configuration file %s cannot be opened: %s.", path, strerror(errno));
    char *text SCOPED_FREE = malloc(CONFIG_FILE_BYTES + 1);
    if (text == NULL)
        return error_set(err, -ENOMEM, "There is no memory to read the configuration.");
    size_t length = 0;
    ssize_t got = 1;
    while (got > 0 && length <= CONFIG_FILE_BYTES) {
        got = read(fd, text + length, CONFIG_FILE_BYTES + 1 - length);
        length += got > 0 ? (size_t)got : 0;
    }
    if (got < 0)
        return error_set(err, -errno, "The configuration file %s cannot be read: %s.", path, strerror(errno));
    if (length > CONFIG_FILE_BYTES)
        return error_set(err, -EFBIG, "The configuration file %s is longer than %d bytes.", path, CONFIG_FILE_BYTES);
    int result = config_parse(text, length, config, err);
    if (result < 0)
        error_prefix(err, "%s", path);
    snprintf(config->file, sizeof config->file, "%s", path);
    return result;
}

/* Put an option's folder, made absolute, over a path. */
static int override_path(const char *option, const char *given, char *path, struct error *err)
{
    if (given == NULL)
        return 0;
    char here[CONFIG_PATH_BYTES] = "";
    if (given[0] != '/' && getcwd(here, sizeof here) == NULL)
        return error_set(err, -errno, "The present folder cannot be told: %s.", strerror(errno));
    int length = snprintf(path, CONFIG_PATH_BYTES, "%s%s%s", here, here[0] == '\0' ? "" : "/", given);
    if (given[0] == '\0' || length < 0 || length >= CONFIG_PATH_BYTES)
        return error_set(err, -EINVAL, "%s needs a path of at most %d bytes.", option, PATH_MAX_BYTES);
    return 0;
}

int config_load(const struct config_overrides *overrides, struct config *ret_config, struct error *err)
{
    struct config config = {0};
    char file[CONFIG_PATH_BYTES];
    int result = config_default_paths(&config, file, err);
    if (result < 0)
        return result;
    config_default_values(&config);
    const char *path = overrides->file != NULL ? overrides->file : file;
    result = read_file(path, overrides->file != NULL, &config, err);
    if (result < 0)
        return result;
    if ((result = override_path("--data", overrides->data, config.paths.data, err)) < 0 ||
        (result = override_path("--runtime", overrides->runtime, config.paths.runtime, err)) < 0 ||
        (result = override_path("--images", overrides->images, config.paths.images, err)) < 0)
        return result;
    if (overrides->listen != NULL) {
        result = listen_parse(overrides->listen, &config.listen.tcp, err);
        if (result < 0)
            return result;
        config.listen.tcp_enabled = true;
    }
    result = config_default_rest(&config, err);
    if (result < 0)
        return result;
    *ret_config = config;
    return 0;
}

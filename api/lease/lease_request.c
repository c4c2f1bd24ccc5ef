#include "api/lease/lease_request.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"

enum { ATTACHMENT_BYTES = 16 };

/* ---- labels ---------------------------------------------------------------------------------------------------- */

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Letters and digits, with '-', '_' and '.' between them. */
static bool label_word(const char *text, size_t length)
{
    if (length == 0 || length > LEASE_LABEL_NAME_BYTES || !is_alphanumeric(text[0]) ||
        !is_alphanumeric(text[length - 1]))
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!is_alphanumeric(text[i]) && text[i] != '-' && text[i] != '_' && text[i] != '.')
            return false;
    }
    return true;
}

bool lease_label_key_valid(const char *key)
{
    const char *slash = strchr(key, '/');
    if (slash == NULL)
        return label_word(key, strlen(key));
    return label_word(key, (size_t)(slash - key)) && label_word(slash + 1, strlen(slash + 1));
}

bool lease_label_value_valid(const char *value)
{
    return value[0] == '\0' || label_word(value, strlen(value));
}

_Static_assert(LEASE_LABELS_MAX *(LEASE_LABEL_KEY_BYTES + LEASE_LABEL_NAME_BYTES + sizeof "\"\":\"\",") + 2 <
                   STORE_LABELS_BYTES,
               "the labels of a lease fit the store");

static void take_labels(const struct decode_node *root, struct lease_request *request)
{
    snprintf(request->labels, sizeof request->labels, "{}");
    struct decode_node labels = decode_member(root, "labels");
    if (!decode_present(&labels))
        return;
    if (!json_is_object(labels.value)) {
        decode_fault(&labels, NULL, "must be an object");
        return;
    }
    if (json_object_size(labels.value) > LEASE_LABELS_MAX) {
        decode_fault(&labels, NULL, "may have %d labels", LEASE_LABELS_MAX);
        return;
    }
    size_t before = labels.errors->count;
    const char *key;
    json_t *value;
    json_object_foreach(labels.value, key, value)
    {
        struct decode_node label = decode_member(&labels, key);
        if (!lease_label_key_valid(key))
            decode_fault(&label, NULL, "is not a label key: [prefix/]name, each of 1 to 63 letters, digits, - _ .");
        const char *text = decode_string(&label, 0, LEASE_LABEL_NAME_BYTES);
        if (text != NULL && !lease_label_value_valid(text))
            decode_fault(&label, NULL, "must be empty or of letters, digits, - _ . between letters or digits");
    }
    if (labels.errors->count == before)
        json_dumpb(labels.value, request->labels, sizeof request->labels - 1, JSON_COMPACT);
}

/* ---- addresses ------------------------------------------------------------------------------------------------- */

static bool in_range(uint32_t ip, uint32_t first, unsigned prefix)
{
    return (ip ^ first) >> (32 - prefix) == 0;
}

/* RFC 1918 and RFC 6598. */
static bool is_private(uint32_t ip)
{
    return in_range(ip, UINT32_C(0x0A000000), 8) || in_range(ip, UINT32_C(0xAC100000), 12) ||
           in_range(ip, UINT32_C(0xC0A80000), 16) || in_range(ip, UINT32_C(0x64400000), 10);
}

const char *lease_endpoint_refusal(const struct lease_offer *offer, uint32_t ip)
{
    const char *never = nat_ip_is_never(ip);
    if (never != NULL)
        return never;
    if (own_addresses_have(&offer->own, ip))
        return "the provider's own addresses";
    if (is_private(ip) && !offer->allow_private_endpoints)
        return "a private range, which this provider's configuration does not allow";
    return NULL;
}

bool lease_endpoint_decode(const struct decode_node *node, const struct lease_offer *offer,
                           struct nat_endpoint *ret_endpoint)
{
    const char *text = decode_string(node, 1, NAT_ENDPOINT_TEXT_BYTES - 1);
    if (text == NULL)
        return false;
    if (!nat_endpoint_parse(text, ret_endpoint))
        return decode_fault(node, NULL, "must be an IPv4 address and a port, as 203.0.113.7:51900");
    const char *refusal = lease_endpoint_refusal(offer, ret_endpoint->ip);
    return refusal == NULL || decode_fault(node, "endpoint-forbidden", "is not allowed (%s)", refusal);
}

/* An address inside the tunnel. Return: true when it is one. */
static bool take_tunnel_ip(const struct decode_node *parent, struct decode_node *ret_node, uint32_t *ret_ip)
{
    *ret_node = decode_member(parent, "tunnel_ip");
    const char *text = decode_string(ret_node, 1, NAT_IP_TEXT_BYTES - 1);
    if (text == NULL)
        return false;
    if (!nat_ip_parse(text, ret_ip))
        return decode_fault(ret_node, NULL, "must be an IPv4 address, as 10.99.0.2");
    const char *never = nat_ip_is_never(*ret_ip);
    if (never != NULL)
        return decode_fault(ret_node, NULL, "must be a unicast address (%s)", never);
    if (in_range(*ret_ip, VMM_LINK_GUEST_IP & UINT32_C(0xFFFFFF00), VMM_LINK_PREFIX))
        return decode_fault(ret_node, NULL, "must not be in 192.168.64.0/24, the VM's own link");
    return true;
}

/* ---- parts ----------------------------------------------------------------------------------------------------- */

static void take_image(const struct decode_node *root, const struct lease_offer *offer, struct lease_request *request,
                       uint32_t *ret_min_memory_mib)
{
    struct decode_node node = decode_member(root, "image");
    const char *name = decode_string(&node, 1, VMM_NAME_BYTES - 1);
    if (name == NULL)
        return;
    if (!vmm_image_name_valid(name)) {
        decode_fault(&node, NULL, "must be an image's name: [a-z0-9][a-z0-9._-]{0,63}");
        return;
    }
    struct vmm_image image;
    struct error err = {0};
    int loaded = vmm_image_load(offer->image_dir, name, &image, &err);
    int measured = loaded < 0 ? 0 : vmm_image_disk_mib(offer->image_dir, &image, &request->image_disk_mib, &err);
    if (loaded == -ENOENT)
        decode_fault(&node, "image-not-found",
                     "there is no image of this name; `make image` or deploy/guest/build-micro.sh builds one");
    else if (loaded == -ENOMEM || measured == -ENOMEM)
        root->errors->no_memory = !decode_fault(&node, NULL, "%s", err.message);
    else if (loaded < 0)
        decode_fault(&node, "image-manifest-invalid", "has no valid manifest: %s", err.message);
    else if (measured < 0)
        decode_fault(&node, "image-manifest-invalid", "has no usable disk: %s", err.message);
    else
        *ret_min_memory_mib = image.min_memory_mib;
    snprintf(request->image, sizeof request->image, "%s", name);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void take_resources(const struct decode_node *root, const struct lease_offer *offer, uint32_t min_memory_mib,
                           struct store_resources *ret_resources)
{
    static const char *const keys[] = {"vcpus", "memory_mib", "disk_mib", NULL};
    struct decode_node resources = decode_member(root, "resources");
    if (!decode_object(&resources, keys))
        return;
    struct decode_node vcpus = decode_member(&resources, "vcpus");
    uint64_t count = 0;
    if (decode_integer(&vcpus, 1, smaller(offer->capacity.vcpus, LEASE_VCPUS_MAX), &count))
        ret_resources->vcpus = (uint32_t)count;
    struct decode_node memory = decode_member(&resources, "memory_mib");
    decode_integer(&memory, min_memory_mib, smaller(offer->capacity.memory_mib, LEASE_MEMORY_MIB_MAX),
                   &ret_resources->memory_mib);
    struct decode_node disk = decode_member(&resources, "disk_mib");
    if (decode_present(&disk))
        decode_integer(&disk, 0, smaller(offer->capacity.disk_mib, LEASE_DISK_MIB_MAX), &ret_resources->disk_mib);
    ret_resources->leases = 1;
}

static bool take_key(const struct decode_node *parent, const char *name, uint8_t ret_key[static VMM_KEY_BYTES])
{
    struct decode_node node = decode_member(parent, name);
    const char *text = decode_string(&node, VMM_KEY_TEXT_BYTES - 1, VMM_KEY_TEXT_BYTES - 1);
    if (text == NULL)
        return false;
    if (!vmm_key_parse(text, ret_key))
        return decode_fault(&node, NULL, "must be a WireGuard key: 32 bytes in base64");
    return true;
}

static void take_consumer_keys(const struct decode_node *consumer, struct vmm_tunnel *tunnel)
{
    struct decode_node public_key = decode_member(consumer, "public_key");
    if (take_key(consumer, "public_key", tunnel->consumer_public_key) &&
        !vmm_public_key_valid(tunnel->consumer_public_key))
        decode_fault(&public_key, NULL, "is a key of low order, with which nothing would be secret");
    struct decode_node preshared = decode_member(consumer, "preshared_key");
    if (decode_present(&preshared) && take_key(consumer, "preshared_key", tunnel->preshared_key)) {
        tunnel->has_preshared_key = true;
        if (sodium_is_zero(tunnel->preshared_key, VMM_KEY_BYTES))
            decode_fault(&preshared, NULL, "must not be all zeros, which WireGuard takes for none");
    }
}

static void take_tunnel(const struct decode_node *root, const struct lease_offer *offer, struct vmm_tunnel *tunnel)
{
    static const char *const consumer_keys[] = {"public_key", "endpoint", "tunnel_ip", "preshared_key", NULL};
    static const char *const vm_keys[] = {"tunnel_ip", NULL};
    struct decode_node consumer = decode_member(root, "consumer");
    struct decode_node vm = decode_member(root, "vm");
    struct decode_node endpoint = decode_member(&consumer, "endpoint");
    struct decode_node consumer_ip;
    struct decode_node vm_ip;
    bool has_consumer_ip = false;
    if (decode_object(&consumer, consumer_keys)) {
        take_consumer_keys(&consumer, tunnel);
        lease_endpoint_decode(&endpoint, offer, &tunnel->consumer);
        has_consumer_ip = take_tunnel_ip(&consumer, &consumer_ip, &tunnel->consumer_tunnel_ip);
        if (has_consumer_ip && tunnel->consumer_tunnel_ip == tunnel->consumer.ip)
            decode_fault(&consumer_ip, NULL, "must not be the endpoint's own address");
    }
    if (!decode_object(&vm, vm_keys) || !take_tunnel_ip(&vm, &vm_ip, &tunnel->vm_tunnel_ip))
        return;
    if (tunnel->vm_tunnel_ip == tunnel->consumer.ip)
        decode_fault(&vm_ip, NULL, "must not be the endpoint's own address");
    if (has_consumer_ip && tunnel->vm_tunnel_ip == tunnel->consumer_tunnel_ip)
        decode_fault(&vm_ip, NULL, "must differ from the consumer's tunnel_ip");
}

static bool user_name_valid(const char *name)
{
    if (name[0] != '_' && !(name[0] >= 'a' && name[0] <= 'z'))
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(name);
}

static void take_ssh(const struct decode_node *root, struct lease_request *request)
{
    static const char *const keys[] = {"user", "authorized_keys", NULL};
    struct decode_node ssh = decode_member(root, "ssh");
    if (!decode_object(&ssh, keys))
        return;
    struct decode_node user = decode_member(&ssh, "user");
    const char *name = decode_string(&user, 1, VMM_USER_BYTES - 1);
    if (name != NULL && !user_name_valid(name))
        decode_fault(&user, NULL, "must be a user name: [a-z_][a-z0-9_-]{0,31}");
    else if (name != NULL)
        snprintf(request->ssh_user, sizeof request->ssh_user, "%s", name);

    struct decode_node list = decode_member(&ssh, "authorized_keys");
    size_t count = 0;
    if (!decode_array(&list, 1, VMM_SSH_KEYS_MAX, &count))
        return;
    for (size_t i = 0; i < count; i++) {
        struct decode_node key = decode_element(&list, i);
        /* A comment may make the line longer than the key that is kept. */
        const char *text = decode_string(&key, 1, (size_t)VMM_SSH_KEY_BYTES * 2);
        const char *fault = text == NULL ? NULL : vmm_ssh_key_parse(text, request->ssh_keys[i]);
        if (fault != NULL)
            decode_fault(&key, NULL, "is not a usable SSH public key: %s", fault);
    }
    request->ssh_key_count = count;
}

/* ---- a VM that somebody else runs ------------------------------------------------------------------------------ */

static bool take_attachment(const struct decode_node *root)
{
    struct decode_node node = decode_member(root, "attachment");
    const char *word = decode_present(&node) ? decode_string(&node, 1, ATTACHMENT_BYTES) : NULL;
    if (word == NULL || strcmp(word, "qemu") == 0)
        return false;
    if (strcmp(word, "external") == 0)
        return true;
    return decode_fault(&node, NULL, "must be \"qemu\" or \"external\"");
}

/* What only a VM that is started here can be given. Refused, because it could not be honoured. */
static void refuse_for_external(const struct decode_node *root, const struct lease_request *request)
{
    struct decode_node consumer = decode_member(root, "consumer");
    struct decode_node network = decode_member(root, "network");
    const struct decode_node given[] = {decode_member(root, "image"), decode_member(root, "ssh"),
                                        decode_member(&consumer, "preshared_key"),
                                        decode_member(&network, "boot_isolation")};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        if (decode_present(&given[i]))
            decode_fault(&given[i], NULL,
                         "is not possible with the attachment \"external\": somebody else starts the VM");
    }
    struct decode_node mode = decode_member(&network, "mode");
    struct decode_node attachment = decode_member(root, "attachment");
    if (request->network.mode == MODE_DIRECT)
        decode_fault(
            decode_present(&mode) ? &mode : &attachment, NULL,
            "is not possible: the attachment \"external\" has no mode \"direct\", which has no NAT to attach to");
}

/* ---- whole ----------------------------------------------------------------------------------------------------- */

void lease_request_decode(json_t *tree, const struct lease_offer *offer, struct decode_errors *errors,
                          struct lease_request *ret_request)
{
    static const char *const keys[] = {
        "attachment", "image",        "resources",           "network", "consumer", "vm", "ssh", "ttl_s",
        "labels",     "on_violation", "heartbeat_timeout_s", NULL};
    *ret_request = (struct lease_request){0};
    struct decode_node root = decode_root(tree, errors);
    if (!decode_object(&root, keys))
        return;
    uint32_t min_memory_mib = 1;
    ret_request->external = take_attachment(&root);
    if (!ret_request->external)
        take_image(&root, offer, ret_request, &min_memory_mib);
    take_resources(&root, offer, min_memory_mib, &ret_request->resources);
    network_request_decode(&root, &offer->network, &ret_request->network);
    take_tunnel(&root, offer, &ret_request->tunnel);
    if (ret_request->external)
        refuse_for_external(&root, ret_request);
    else
        take_ssh(&root, ret_request);
    struct decode_node ttl = decode_member(&root, "ttl_s");
    if (decode_present(&ttl))
        decode_integer(&ttl, 1, LEASE_TTL_MAX_S, &ret_request->ttl_s);
    struct decode_node heartbeat = decode_member(&root, "heartbeat_timeout_s");
    if (decode_present(&heartbeat))
        decode_integer(&heartbeat, 1, LEASE_HEARTBEAT_MAX_S, &ret_request->heartbeat_timeout_s);
    take_labels(&root, ret_request);
}

bool lease_renewal_decode(json_t *tree, struct decode_errors *errors, uint64_t *ret_ttl_s)
{
    static const char *const keys[] = {"ttl_s", NULL};
    struct decode_node root = decode_root(tree, errors);
    if (!decode_object(&root, keys))
        return false;
    struct decode_node ttl = decode_member(&root, "ttl_s");
    return decode_integer(&ttl, 1, LEASE_TTL_MAX_S, ret_ttl_s) && errors->count == 0;
}

void lease_request_done(struct lease_request *request)
{
    sodium_memzero(request, sizeof *request);
}

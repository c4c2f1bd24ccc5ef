#include "api/lease/network_request.h"

#include <string.h>

enum { WORD_BYTES = 32 }; /* longer than any word of ours */

static const char *const boot_names[] = {
    [VMM_BOOT_PREBUILT] = "prebuilt",
    [VMM_BOOT_OFFLINE_PACKAGES] = "offline_packages",
    [VMM_BOOT_ONLINE_INSTALL] = "online_install",
};

const char *boot_isolation_name(enum vmm_boot_isolation boot_isolation)
{
    return boot_names[boot_isolation];
}

/* ---- mode and sampling ----------------------------------------------------------------------------------------- */

static void take_mode(const struct decode_node *network, const struct network_offer *offer,
                      struct network_request *request)
{
    struct decode_node node = decode_member(network, "mode");
    const char *name = decode_present(&node) ? decode_string(&node, 1, WORD_BYTES) : NULL;
    if (name == NULL)
        return;
    if (!mode_parse(name, &request->mode)) {
        decode_fault(&node, NULL, "must be \"filtered\", \"conntrack\", \"sampled\" or \"direct\"");
        return;
    }
    if (request->mode != offer->mode && !offer->allow_mode_override)
        decode_fault(&node, "mode-not-allowed", "is not offered here; this provider offers \"%s\"",
                     mode_name(offer->mode));
}

static void take_sampling(const struct decode_node *network, const struct network_offer *offer,
                          struct network_request *request)
{
    struct decode_node node = decode_member(network, "sampling_rate");
    double rate = offer->sampling_rate;
    if (decode_present(&node) && request->mode != MODE_SAMPLED) {
        decode_fault(&node, NULL, "is for the mode \"sampled\" alone; this lease would be \"%s\"",
                     mode_name(request->mode));
        return;
    }
    if (decode_present(&node))
        decode_number(&node, 0.001, 1, &rate);
    if (request->mode == MODE_SAMPLED)
        request->sampling_ppm = sampling_ppm(rate);
}

/* ---- boot isolation -------------------------------------------------------------------------------------------- */

static void check_packages(const struct decode_node *node, const struct network_offer *offer)
{
    struct error err = {0};
    if (offer->packages_dir == NULL || offer->packages_dir[0] == '\0')
        decode_fault(node, "packages-unusable", "needs paths.packages in the provider's configuration");
    else if (vmm_packages_check(offer->packages_dir, &err) < 0)
        decode_fault(node, "packages-unusable", "cannot be had from paths.packages: %.120s", err.message);
}

static void check_online(const struct decode_node *node, const struct network_offer *offer, enum mode mode)
{
    if (mode != MODE_DIRECT)
        decode_fault(node, "online-install-not-allowed", "is for the mode \"direct\" alone; this lease would be \"%s\"",
                     mode_name(mode));
    else if (!offer->allow_online_install)
        decode_fault(node, "online-install-not-allowed",
                     "needs network.allowOnlineInstall in the provider's configuration");
}

static void take_boot_isolation(const struct decode_node *network, const struct network_offer *offer,
                                struct network_request *request)
{
    struct decode_node node = decode_member(network, "boot_isolation");
    const char *name = decode_present(&node) ? decode_string(&node, 1, WORD_BYTES) : NULL;
    if (name == NULL)
        return;
    if (strcmp(name, boot_names[VMM_BOOT_PREBUILT]) == 0) {
        request->boot_isolation = VMM_BOOT_PREBUILT;
    } else if (strcmp(name, boot_names[VMM_BOOT_OFFLINE_PACKAGES]) == 0) {
        request->boot_isolation = VMM_BOOT_OFFLINE_PACKAGES;
        check_packages(&node, offer);
    } else if (strcmp(name, boot_names[VMM_BOOT_ONLINE_INSTALL]) == 0) {
        request->boot_isolation = VMM_BOOT_ONLINE_INSTALL;
        check_online(&node, offer, request->mode);
    } else {
        decode_fault(&node, NULL, "must be \"prebuilt\", \"offline_packages\" or \"online_install\"");
    }
}

/* ---- what only a NAT can hold ---------------------------------------------------------------------------------- */

static void take_require_wireguard(const struct decode_node *network, struct network_request *request)
{
    struct decode_node node = decode_member(network, "require_wireguard");
    if (!decode_present(&node) || !decode_boolean(&node, &request->require_wireguard))
        return;
    if (request->require_wireguard && request->mode == MODE_DIRECT)
        decode_fault(&node, NULL, "is not possible in the mode \"direct\", which looks at no packet");
}

static void take_limits(const struct decode_node *network, struct network_request *request)
{
    static const char *const keys[] = {"egress_bits_per_s", "ingress_bits_per_s", "egress_packets_per_s",
                                       "ingress_packets_per_s", NULL};
    uint64_t *const places[] = {&request->limits.egress_bits_per_s, &request->limits.ingress_bits_per_s,
                                &request->limits.egress_packets_per_s, &request->limits.ingress_packets_per_s};
    struct decode_node limits = decode_member(network, "limits");
    if (!decode_present(&limits) || !decode_object(&limits, keys))
        return;
    for (size_t i = 0; keys[i] != NULL; i++) {
        struct decode_node node = decode_member(&limits, keys[i]);
        if (!decode_present(&node))
            continue;
        if (request->mode == MODE_DIRECT)
            decode_fault(&node, NULL, "is not possible in the mode \"direct\", which has nothing in the data path");
        else if (i < 2)
            decode_integer(&node, NETWORK_BITS_PER_S_MIN, NETWORK_BITS_PER_S_MAX, places[i]);
        else
            decode_integer(&node, NETWORK_PACKETS_PER_S_MIN, NETWORK_PACKETS_PER_S_MAX, places[i]);
    }
}

static void take_on_violation(const struct decode_node *root, struct network_request *request)
{
    struct decode_node node = decode_member(root, "on_violation");
    request->terminate = mode_terminates(request->mode);
    const char *word = decode_present(&node) ? decode_string(&node, 1, WORD_BYTES) : NULL;
    if (word == NULL)
        return;
    bool terminate = strcmp(word, "terminate") == 0;
    if (!terminate && strcmp(word, "drop") != 0)
        decode_fault(&node, NULL, "must be \"drop\" or \"terminate\"");
    else if (request->mode == MODE_DIRECT)
        decode_fault(&node, NULL, "is not possible in the mode \"direct\", which drops nothing");
    else
        request->terminate = terminate;
}

void network_request_decode(const struct decode_node *root, const struct network_offer *offer,
                            struct network_request *ret_request)
{
    static const char *const keys[] = {"mode", "sampling_rate", "boot_isolation", "require_wireguard", "limits", NULL};
    *ret_request = (struct network_request){.mode = offer->mode};
    struct decode_node network = decode_member(root, "network");
    bool given = decode_present(&network) && decode_object(&network, keys);
    if (given)
        take_mode(&network, offer, ret_request);
    if (!given)
        network.value = NULL; /* every member is absent then */
    take_sampling(&network, offer, ret_request);
    take_boot_isolation(&network, offer, ret_request);
    take_require_wireguard(&network, ret_request);
    take_limits(&network, ret_request);
    take_on_violation(root, ret_request);
}

void network_request_decode_policy(const struct decode_node *policy, const struct network_offer *offer,
                                   struct network_request *ret_request)
{
    *ret_request = (struct network_request){.mode = offer->mode};
    take_mode(policy, offer, ret_request);
    take_sampling(policy, offer, ret_request);
    take_require_wireguard(policy, ret_request);
    take_limits(policy, ret_request);
    take_on_violation(policy, ret_request);
}

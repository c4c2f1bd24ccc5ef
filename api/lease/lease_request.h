/* A lease request: decoded from JSON into values, checked against what this provider offers. */
#ifndef API_LEASE_LEASE_REQUEST_H
#define API_LEASE_LEASE_REQUEST_H

#include "api/host/own_address.h"
#include "api/json/decode.h"
#include "api/lease/network_request.h"
#include "store/store.h"
#include "vmm/vmm.h"

enum lease_request_limits {
    LEASE_TTL_MAX_S = 31 * 24 * 3600,      /* a month; longer ones are renewed or asked again */
    LEASE_HEARTBEAT_MAX_S = 24 * 3600,     /* an orchestrator silent for a day is gone by any measure */
    LEASE_LABELS_MAX = 16,                 /* with the next two: fits STORE_LABELS_BYTES as JSON */
    LEASE_LABEL_KEY_BYTES = 127,           /* prefix, slash and name */
    LEASE_LABEL_NAME_BYTES = 63,           /* of a key's last part, and of a value */
    LEASE_VCPUS_MAX = 64,                  /* QEMU's q35 takes more; no provider of ours does */
    LEASE_MEMORY_MIB_MAX = 1024 * 1024,    /* 1 TiB */
    LEASE_DISK_MIB_MAX = 16 * 1024 * 1024, /* 16 TiB */
};

/**
 * struct lease_offer - What requests are checked against
 * @capacity: upper bounds of one lease
 * @own:      the machine's addresses at this moment
 */
struct lease_offer {
    const char *image_dir;
    struct store_resources capacity;
    struct network_offer network;
    bool allow_private_endpoints;
    struct own_addresses own;
};

/** struct lease_request - What was asked, as values. Holds a preshared key: wiped by lease_request_done(). */
struct lease_request {
    bool external; /* attachment "external": somebody else runs the VM; image and ssh_* are empty */
    char image[VMM_NAME_BYTES];
    struct store_resources resources;
    uint64_t image_disk_mib; /* what an overlay of the image's own disk may grow to; 0 without one */
    struct network_request network;
    struct vmm_tunnel tunnel; /* without the VM's own keys */
    char ssh_user[VMM_USER_BYTES];
    size_t ssh_key_count;
    char ssh_keys[VMM_SSH_KEYS_MAX][VMM_SSH_KEY_BYTES];
    uint64_t ttl_s;               /* 0: none */
    uint64_t heartbeat_timeout_s; /* 0: none */
    char labels[STORE_LABELS_BYTES];
    const char *trace_id; /* not of the body: whoever decodes it sets it; "" without one, and NULL before */
};

/**
 * lease_request_decode() - Take a request from a JSON tree
 * @errors:      every fault, with its pointer; the request is good when there is none
 * @ret_request: filled as far as possible; given to lease_request_done() in any case
 * Thread:       any; reads the image's manifest
 */
void lease_request_decode(json_t *tree, const struct lease_offer *offer, struct decode_errors *errors,
                          struct lease_request *ret_request);

/**
 * lease_renewal_decode() - Take a renewal from a JSON tree
 * @errors: every fault, with its pointer
 * Return:  true when it is good, and the new ttl
 * Thread:  any
 */
bool lease_renewal_decode(json_t *tree, struct decode_errors *errors, uint64_t *ret_ttl_s);

/** lease_request_done() - Wipe it. Thread: the owner */
void lease_request_done(struct lease_request *request);

/**
 * lease_endpoint_refusal() - Why a consumer endpoint may not be
 * Return: the rest of a sentence that begins with the address ("is one of ..."), NULL when it may
 * Thread: any
 */
const char *lease_endpoint_refusal(const struct lease_offer *offer, uint32_t ip);

/**
 * lease_endpoint_decode() - Take an endpoint that a consumer may have
 * Return: true; false when a fault was recorded
 * Thread: any
 */
bool lease_endpoint_decode(const struct decode_node *node, const struct lease_offer *offer,
                           struct nat_endpoint *ret_endpoint);

/** lease_label_key_valid() - [prefix/]name of letters, digits, '-', '_' and '.'. Thread: any */
bool lease_label_key_valid(const char *key);

/** lease_label_value_valid() - Empty, or as the name of a key. Thread: any */
bool lease_label_value_valid(const char *value);

#endif

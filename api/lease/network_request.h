/* The network part of a lease request: mode, sampling, boot isolation, limits, and what a violation brings. */
#ifndef API_LEASE_NETWORK_REQUEST_H
#define API_LEASE_NETWORK_REQUEST_H

#include "api/json/decode.h"
#include "api/lease/mode.h"
#include "vmm/vmm.h"

enum network_request_limits {
    NETWORK_BITS_PER_S_MIN = 8000, /* a kilobyte a second; less would not carry a handshake */
    NETWORK_PACKETS_PER_S_MIN = 1,
    NETWORK_PACKETS_PER_S_MAX = 1000000000, /* no machine does that */
};
#define NETWORK_BITS_PER_S_MAX UINT64_C(1000000000000) /* nor that: a terabit */

/**
 * struct network_offer - What requests are checked against; the configuration's
 * @packages_dir: folder of .deb files; NULL or "" when there is none
 */
struct network_offer {
    enum mode mode; /* when the request names none */
    double sampling_rate;
    bool allow_mode_override;
    bool allow_online_install;
    const char *packages_dir;
};

/** struct network_request - What was asked. */
struct network_request {
    enum mode mode;
    uint32_t sampling_ppm; /* 0 unless the mode is sampled */
    bool terminate;        /* on_violation; false in direct mode, which has none */
    bool require_wireguard;
    enum vmm_boot_isolation boot_isolation;
    struct nat_rates limits;
};

/**
 * network_request_decode() - Take `network` and `on_violation` from a request
 * @root:        the request; both members may be absent
 * @ret_request: complete; right when no fault was recorded
 * Thread:       any; looks at the packages' folder when offline_packages is asked
 */
void network_request_decode(const struct decode_node *root, const struct network_offer *offer,
                            struct network_request *ret_request);

/**
 * network_request_decode_policy() - Take what a running lease's filter may be given: all but boot isolation
 * @policy: the object that holds the members, `on_violation` too
 * Thread:  any
 */
void network_request_decode_policy(const struct decode_node *policy, const struct network_offer *offer,
                                   struct network_request *ret_request);

/** boot_isolation_name() - "prebuilt", "offline_packages", "online_install". Thread: any */
const char *boot_isolation_name(enum vmm_boot_isolation boot_isolation);

#endif

/* What is asked about a running lease's policy: another one, or the verdict for a packet. */
#ifndef API_LEASE_POLICY_REQUEST_H
#define API_LEASE_POLICY_REQUEST_H

#include "api/lease/lease_request.h"

/**
 * policy_request_decode() - Take a whole policy; what is left out has the default of a lease request
 * @ret_policy: allowlist, mode, sampling, limits, on_violation, require_wireguard; right when no fault was recorded
 * Thread:      any
 */
void policy_request_decode(json_t *tree, const struct lease_offer *offer, struct decode_errors *errors,
                           struct nat_policy *ret_policy);

/** struct evaluation_request - A frame to judge. */
struct evaluation_request {
    size_t length;
    uint8_t frame[NAT_FRAME_BYTES_MAX];
};

/**
 * evaluation_request_decode() - Take the description of a packet, or the bytes of a frame
 * @link:        whence a described packet comes unless it says otherwise
 * @ret_request: right when no fault was recorded
 * Thread:       any
 */
void evaluation_request_decode(json_t *tree, const struct nat_link *link, struct decode_errors *errors,
                               struct evaluation_request *ret_request);

#endif

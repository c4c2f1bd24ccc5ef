/* What message types and lengths tell of a WireGuard tunnel. Nothing is decrypted; a guest can fake the shapes, so the
 * answer is for the lease's tunnel health, never for a verdict of `filtered`. */
#ifndef NAT_WIREGUARD_H
#define NAT_WIREGUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/nat.h"

/** enum wireguard_message - Message types. Source: WireGuard white paper, section 5.4. */
enum wireguard_message {
    WIREGUARD_NONE = 0, /* not the shape of any */
    WIREGUARD_INITIATION = 1,
    WIREGUARD_RESPONSE = 2,
    WIREGUARD_COOKIE = 3,
    WIREGUARD_TRANSPORT = 4,
};

/*@ predicate wireguard_shape(uint8_t *payload, integer length) =
      length >= 32 && payload[1] == 0 && payload[2] == 0 && payload[3] == 0 &&
      ((payload[0] == 1 && length == 148) || (payload[0] == 2 && length == 92) || (payload[0] == 3 && length == 64) ||
       payload[0] == 4); */

/**
 * wireguard_classify() - The type of a datagram by its first bytes and its length
 * Return: WIREGUARD_NONE unless type, zero reserved bytes and the type's length agree
 * Thread: any
 */
/*@ requires \valid_read(payload + (0 .. length - 1));
    assigns \nothing;
    ensures \result != WIREGUARD_NONE <==> wireguard_shape(payload, length); */
enum wireguard_message wireguard_classify(const uint8_t *payload, size_t length);

enum wireguard_side { WIREGUARD_GUEST, WIREGUARD_CONSUMER };

enum wireguard_limits {
    /* Keys are renewed every 120 s and worth nothing after 180 s (white paper, section 6.1): a consumer that was silent so
     * long has no tunnel any more, whatever the VM sends. */
    WIREGUARD_LOST_MS = 185 * 1000,
};

/** struct wireguard_observer - One lease's tunnel. Owner: its NAT thread. All zeros: nothing seen. */
struct wireguard_observer {
    enum nat_tunnel state;
    bool initiated; /* an initiation stands unanswered or unconfirmed */
    bool answered;
    enum wireguard_side initiator;
    uint64_t heard_ms;          /* newest message from the consumer, 0 never */
    uint64_t established_ms;    /* first time, 0 never */
    uint64_t last_handshake_ms; /* newest time, 0 never */
};

/**
 * wireguard_observe() - Note one message that passed
 * @now_ms: monotonic time
 * Return:  true when @observer->state changed
 * Thread:  the observer's owner
 *
 * A handshake is done when the initiator sends transport data after the other side's response: the responder may
 * not send data before it, so data proves that the response was good.
 */
bool wireguard_observe(struct wireguard_observer *observer, enum wireguard_side from, enum wireguard_message message,
                       uint64_t now_ms);

/**
 * wireguard_expire() - Note that the consumer has been silent for too long
 * Return: true when @observer->state became NAT_TUNNEL_LOST
 * Thread: the observer's owner
 */
bool wireguard_expire(struct wireguard_observer *observer, uint64_t now_ms);

/** wireguard_next_expiry() - When wireguard_expire() may have something to do; UINT64_MAX never. Thread: its owner */
uint64_t wireguard_next_expiry(const struct wireguard_observer *observer);

#endif

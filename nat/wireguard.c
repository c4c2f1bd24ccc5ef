#include "nat/wireguard.h"

enum wireguard_lengths {
    INITIATION_BYTES = 148,
    RESPONSE_BYTES = 92,
    COOKIE_BYTES = 64,
    TRANSPORT_BYTES_MIN = 32, /* header 16 and an empty packet's tag 16 */
};

enum wireguard_message wireguard_classify(const uint8_t *payload, size_t length)
{
    if (length < TRANSPORT_BYTES_MIN || payload[1] != 0 || payload[2] != 0 || payload[3] != 0)
        return WIREGUARD_NONE;
    switch (payload[0]) {
    case WIREGUARD_INITIATION:
        return length == INITIATION_BYTES ? WIREGUARD_INITIATION : WIREGUARD_NONE;
    case WIREGUARD_RESPONSE:
        return length == RESPONSE_BYTES ? WIREGUARD_RESPONSE : WIREGUARD_NONE;
    case WIREGUARD_COOKIE:
        return length == COOKIE_BYTES ? WIREGUARD_COOKIE : WIREGUARD_NONE;
    case WIREGUARD_TRANSPORT:
        return WIREGUARD_TRANSPORT;
    default: /* a byte from a stranger, not an enum */
        return WIREGUARD_NONE;
    }
}

static bool initiation_seen(struct wireguard_observer *observer, enum wireguard_side from)
{
    observer->initiated = true;
    observer->answered = false;
    observer->initiator = from;
    if (observer->state != NAT_TUNNEL_WAITING)
        return false; /* a tunnel that is up renews its keys every two minutes */
    observer->state = NAT_TUNNEL_HANDSHAKING;
    return true;
}

static bool transport_seen(struct wireguard_observer *observer, enum wireguard_side from, uint64_t now_ms)
{
    if (!observer->initiated || !observer->answered || observer->initiator != from)
        return false;
    observer->initiated = false;
    observer->last_handshake_ms = now_ms;
    if (observer->state == NAT_TUNNEL_ESTABLISHED)
        return false;
    observer->state = NAT_TUNNEL_ESTABLISHED;
    observer->established_ms = now_ms;
    return true;
}

bool wireguard_observe(struct wireguard_observer *observer, enum wireguard_side from, enum wireguard_message message,
                       uint64_t now_ms)
{
    if (from == WIREGUARD_CONSUMER && message != WIREGUARD_NONE)
        observer->heard_ms = now_ms;
    switch (message) {
    case WIREGUARD_INITIATION:
        return initiation_seen(observer, from);
    case WIREGUARD_RESPONSE:
        if (observer->initiated && observer->initiator != from)
            observer->answered = true;
        return false;
    case WIREGUARD_TRANSPORT:
        return transport_seen(observer, from, now_ms);
    case WIREGUARD_COOKIE:
    case WIREGUARD_NONE:
        return false;
    }
    return false;
}

uint64_t wireguard_next_expiry(const struct wireguard_observer *observer)
{
    return observer->state == NAT_TUNNEL_ESTABLISHED ? observer->heard_ms + WIREGUARD_LOST_MS : UINT64_MAX;
}

bool wireguard_expire(struct wireguard_observer *observer, uint64_t now_ms)
{
    if (now_ms < wireguard_next_expiry(observer))
        return false;
    observer->state = NAT_TUNNEL_LOST;
    return true;
}

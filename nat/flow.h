/* Flows: VM source port x consumer endpoint = one connected UDP socket of the uplink. A fixed pool; slot numbers are
 * shared with the uplink, which holds the socket of each slot. Pure: time is passed in. */
#ifndef NAT_FLOW_H
#define NAT_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/nat.h"

enum flow_limits {
    FLOW_MAX = 64,             /* WireGuard needs one; a bit each in flow_expire()'s answer */
    FLOW_IDLE_MS = 300 * 1000, /* RFC 4787 section 4.3: five minutes is the recommended default */
    FLOW_EVICT_IDLE_MS = 1000, /* a busier flow is not evicted, so a guest cannot make us churn through sockets */
    FLOW_NONE = -1,
};

enum flow_state { FLOW_FREE, FLOW_OPEN };

/** struct flow - One slot. The pool owns it. */
struct flow {
    enum flow_state state;
    uint16_t guest_port;
    struct nat_endpoint consumer;
    bool listens; /* the allowlist holds @consumer. Where unchecked packets went, nothing comes back from */
    uint64_t opened_ms;
    uint64_t used_ms;
};

/** struct flow_pool - The flows of one VM. Owner: its NAT thread. All zeros is an empty pool. */
struct flow_pool {
    struct flow slots[FLOW_MAX];
    size_t open_count;
    uint32_t limit; /* slots in use at most; 0: FLOW_MAX */
    int newest;     /* slot of the last hit: nearly every packet belongs to the flow of the one before */
};

/**
 * flow_find() - Slot of the flow with these two ends
 * Return: slot, or FLOW_NONE
 * Thread: the pool's owner
 */
int flow_find(struct flow_pool *pool, uint16_t guest_port, struct nat_endpoint consumer);

/**
 * flow_open() - Take a slot for a new flow
 * @now_ms:  monotonic time
 * Return:   a free slot, else the one that was idle longest, if for FLOW_EVICT_IDLE_MS at least (whatever socket the slot
 *           had is the caller's to close), else FLOW_NONE
 * Thread:   the pool's owner
 */
int flow_open(struct flow_pool *pool, uint16_t guest_port, struct nat_endpoint consumer, uint64_t now_ms);

/**
 * flow_touch() - Note that a flow carried something
 * Thread: the pool's owner
 */
void flow_touch(struct flow_pool *pool, int slot, uint64_t now_ms);

/**
 * flow_close() - Give a slot back
 * Thread: the pool's owner
 */
void flow_close(struct flow_pool *pool, int slot);

/**
 * flow_expire() - Close flows idle past their limit
 * @pool:   flows of one VM
 * @now_ms: monotonic time, milliseconds
 * Return:  one bit for each slot that was closed
 * Thread:  the owning NAT thread only
 * Source:  RFC 4787 section 4.3
 */
uint64_t flow_expire(struct flow_pool *pool, uint64_t now_ms);

/**
 * flow_follow() - Lead flows on to where a new policy has what the guest means by them
 *
 * A consumer that has moved keeps its flows, so that the socket of each can keep its local port. Also flows that nothing came
 * back from (listens), and whose endpoint the new policy allows, are taken up.
 *
 * Return: one bit for each slot whose consumer or listens has changed and which needs another socket; others are untouched
 * Thread: the owning NAT thread only
 */
uint64_t flow_follow(struct flow_pool *pool, const struct nat_policy *before, const struct nat_policy *after);

/**
 * flow_retain() - Close flows whose endpoint a policy does not allow
 * Return: one bit for each slot that was closed
 * Thread: the owning NAT thread only
 */
uint64_t flow_retain(struct flow_pool *pool, const struct nat_policy *policy);

/**
 * flow_next_expiry() - When flow_expire() has something to do
 * Return: monotonic time, or UINT64_MAX when no flow is open
 * Thread: the pool's owner
 */
uint64_t flow_next_expiry(const struct flow_pool *pool);

#endif

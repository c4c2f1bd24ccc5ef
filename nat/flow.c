#include "nat/flow.h"

#include "base/error.h"
#include "nat/allowlist.h"

_Static_assert(FLOW_MAX <= 64, "flow_expire() answers with one bit a slot");

static bool flow_is(const struct flow *flow, uint16_t guest_port, struct nat_endpoint consumer)
{
    return flow->state == FLOW_OPEN && flow->guest_port == guest_port && flow->consumer.ip == consumer.ip &&
           flow->consumer.port == consumer.port;
}

int flow_find(struct flow_pool *pool, uint16_t guest_port, struct nat_endpoint consumer)
{
    if (flow_is(&pool->slots[pool->newest], guest_port, consumer))
        return pool->newest;
    for (int slot = 0; slot < FLOW_MAX; slot++) {
        if (flow_is(&pool->slots[slot], guest_port, consumer)) {
            pool->newest = slot;
            return slot;
        }
    }
    return FLOW_NONE;
}

static int find_place(const struct flow_pool *pool, uint64_t now_ms)
{
    const int limit = pool->limit > 0 && pool->limit < FLOW_MAX ? (int)pool->limit : FLOW_MAX;
    int oldest = 0;
    for (int slot = 0; slot < limit; slot++) {
        if (pool->slots[slot].state == FLOW_FREE)
            return slot;
        if (pool->slots[slot].used_ms < pool->slots[oldest].used_ms)
            oldest = slot;
    }
    return now_ms - pool->slots[oldest].used_ms >= FLOW_EVICT_IDLE_MS ? oldest : FLOW_NONE;
}

int flow_open(struct flow_pool *pool, uint16_t guest_port, struct nat_endpoint consumer, uint64_t now_ms)
{
    int slot = find_place(pool, now_ms);
    if (slot == FLOW_NONE)
        return FLOW_NONE;
    if (pool->slots[slot].state == FLOW_OPEN)
        flow_close(pool, slot);
    pool->slots[slot] = (struct flow){
        .state = FLOW_OPEN, .guest_port = guest_port, .consumer = consumer, .opened_ms = now_ms, .used_ms = now_ms};
    pool->open_count++;
    pool->newest = slot;
    return slot;
}

void flow_touch(struct flow_pool *pool, int slot, uint64_t now_ms)
{
    REQUIRE(pool->slots[slot].state == FLOW_OPEN);
    pool->slots[slot].used_ms = now_ms;
}

void flow_close(struct flow_pool *pool, int slot)
{
    REQUIRE(pool->slots[slot].state == FLOW_OPEN);
    pool->slots[slot] = (struct flow){.state = FLOW_FREE};
    pool->open_count--;
}

uint64_t flow_expire(struct flow_pool *pool, uint64_t now_ms)
{
    uint64_t closed = 0;
    for (int slot = 0; slot < FLOW_MAX; slot++) {
        if (pool->slots[slot].state == FLOW_OPEN && now_ms - pool->slots[slot].used_ms >= FLOW_IDLE_MS) {
            flow_close(pool, slot);
            closed |= UINT64_C(1) << slot;
        }
    }
    return closed;
}

uint64_t flow_follow(struct flow_pool *pool, const struct nat_policy *before, const struct nat_policy *after)
{
    uint64_t moved = 0;
    for (int slot = 0; slot < FLOW_MAX; slot++) {
        struct flow *flow = &pool->slots[slot];
        if (flow->state != FLOW_OPEN)
            continue;
        struct nat_endpoint target = allowlist_translate(after, allowlist_name(before, flow->consumer));
        bool same = target.ip == flow->consumer.ip && target.port == flow->consumer.port;
        bool taken = !same && flow_find(pool, flow->guest_port, target) != FLOW_NONE;
        if (taken || (same && flow->listens) || !allowlist_holds(after, target))
            continue;
        flow->consumer = target;
        flow->listens = true;
        moved |= UINT64_C(1) << slot;
    }
    return moved;
}

uint64_t flow_retain(struct flow_pool *pool, const struct nat_policy *policy)
{
    uint64_t closed = 0;
    for (int slot = 0; slot < FLOW_MAX; slot++) {
        if (pool->slots[slot].state == FLOW_OPEN && !allowlist_holds(policy, pool->slots[slot].consumer)) {
            flow_close(pool, slot);
            closed |= UINT64_C(1) << slot;
        }
    }
    return closed;
}

uint64_t flow_next_expiry(const struct flow_pool *pool)
{
    uint64_t next = UINT64_MAX;
    for (int slot = 0; slot < FLOW_MAX; slot++) {
        const struct flow *flow = &pool->slots[slot];
        if (flow->state == FLOW_OPEN && flow->used_ms + FLOW_IDLE_MS < next)
            next = flow->used_ms + FLOW_IDLE_MS;
    }
    return next;
}

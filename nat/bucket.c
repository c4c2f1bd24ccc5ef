#include "nat/bucket.h"

#include "base/error.h"

enum {
    MILLI = 1000,
};

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

struct bucket bucket_make(uint64_t rate_per_s, uint64_t burst, uint64_t now_ms)
{
    /* Above this a second's tokens, in thousandths, would not fit: nothing on a wire is so fast. */
    const uint64_t most = UINT64_MAX / MILLI / MILLI;
    REQUIRE(rate_per_s <= most && burst <= most);
    return (struct bucket){.rate_per_s = rate_per_s, .burst = burst, .level = burst * MILLI, .at_ms = now_ms};
}

struct bucket bucket_for(uint64_t rate_per_s, uint64_t packet_tokens, uint64_t now_ms)
{
    uint64_t burst = larger(rate_per_s / MILLI * BUCKET_BURST_MS, packet_tokens * BUCKET_BURST_PACKETS);
    return bucket_make(rate_per_s, burst, now_ms);
}

bool bucket_holds(struct bucket *bucket, uint64_t tokens, uint64_t now_ms)
{
    if (bucket->rate_per_s == 0)
        return true;
    uint64_t passed_ms = now_ms > bucket->at_ms ? now_ms - bucket->at_ms : 0;
    uint64_t room = bucket->burst * MILLI - bucket->level;
    /* Tokens a second are thousandths a millisecond. Compared by division, so that a long pause cannot overflow. */
    bool fills = passed_ms > room / bucket->rate_per_s;
    bucket->level = fills ? bucket->burst * MILLI : bucket->level + passed_ms * bucket->rate_per_s;
    bucket->at_ms = larger(now_ms, bucket->at_ms);
    return bucket->level / MILLI >= tokens;
}

void bucket_take(struct bucket *bucket, uint64_t tokens)
{
    if (bucket->rate_per_s == 0)
        return;
    REQUIRE(bucket->level / MILLI >= tokens);
    bucket->level -= tokens * MILLI;
}

bool bucket_pass(struct bucket *bits, struct bucket *packets, size_t bytes, uint64_t now_ms)
{
    if (!bucket_holds(bits, (uint64_t)bytes * 8, now_ms) || !bucket_holds(packets, 1, now_ms))
        return false;
    bucket_take(bits, (uint64_t)bytes * 8);
    bucket_take(packets, 1);
    return true;
}

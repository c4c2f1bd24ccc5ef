/* Token buckets: how much of something may pass a second, with a burst. Pure: time is passed in. */
#ifndef NAT_BUCKET_H
#define NAT_BUCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bucket_limits {
    BUCKET_BURST_MS = 100, /* what may pass at once, as time at the full rate; but at least */
    BUCKET_BURST_PACKETS =
        16, /* so many packets, or so many of full size, because a smaller burst stalls every sender */
};

/**
 * struct bucket - Owner: the NAT thread of the VM. All zeros: no limit
 * @level: tokens that are there, in thousandths
 */
struct bucket {
    uint64_t rate_per_s;
    uint64_t burst;
    uint64_t level;
    uint64_t at_ms;
};

/**
 * bucket_make() - A full bucket
 * @rate_per_s: tokens that come in a second; 0: no limit
 * @burst:      tokens that it holds
 * Thread:      any
 */
struct bucket bucket_make(uint64_t rate_per_s, uint64_t burst, uint64_t now_ms);

/**
 * bucket_for() - A full bucket for a rate of packets or bits
 * @packet_tokens: tokens that the largest packet takes
 * Thread:         any
 */
struct bucket bucket_for(uint64_t rate_per_s, uint64_t packet_tokens, uint64_t now_ms);

/**
 * bucket_holds() - Fill up to now and look whether so many tokens are there
 * Thread: the bucket's owner
 */
bool bucket_holds(struct bucket *bucket, uint64_t tokens, uint64_t now_ms);

/** bucket_take() - Take what bucket_holds() has found. Thread: the bucket's owner */
void bucket_take(struct bucket *bucket, uint64_t tokens);

/** bucket_is_open() - Whether there is no limit at all. Thread: the bucket's owner */
static inline bool bucket_is_open(const struct bucket *bucket)
{
    return bucket->rate_per_s == 0;
}

/**
 * bucket_pass() - Whether a packet of so many bytes may pass a bucket of bits and one of packets
 * Return: true with its tokens taken from both, false with none taken
 * Thread: the buckets' owner
 */
bool bucket_pass(struct bucket *bits, struct bucket *packets, size_t bytes, uint64_t now_ms);

#endif

/* Random bytes that a VM can neither predict nor influence, without a system call for each draw.
 *
 * A key from the system's generator makes a ChaCha20 stream; its first bytes become the next key and the old one is gone
 * ("fast key erasure"), so who reads the memory later does not learn what was drawn before. The system's own generator
 * costs eighty nanoseconds a word in small pieces, a third of what a small packet costs altogether; this one two. */
#ifndef NAT_RANDOM_H
#define NAT_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum random_limits {
    RANDOM_KEY_BYTES = 32,
    RANDOM_FILL_MAX_BYTES = 4096, /* with one call */
};

/** struct random_source - Owner: the NAT thread of the VM, once it has its key. */
struct random_source {
    bool keyed;
    uint8_t key[RANDOM_KEY_BYTES];
};

/** random_key() - Begin with a key from the system's generator. Thread: any that may still ask it */
void random_key(struct random_source *source);

/**
 * random_fill() - Fill a buffer
 * @source: has a key
 * @length: at most RANDOM_FILL_MAX_BYTES
 * Thread:  the source's owner
 * Source:  RFC 8439 section 2.4
 */
void random_fill(struct random_source *source, void *ret_bytes, size_t length);

#endif

/* How a run of payloads of one flow is cut into messages for the kernel. Pure.
 *
 * With UDP generic segmentation offload one message carries many datagrams: the kernel cuts it at equal distances, so all
 * have to be of one size but the last, which may be shorter. */
#ifndef NAT_SEGMENT_H
#define NAT_SEGMENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum segment_limits {
    SEGMENT_COUNT_MAX = 128,    /* UDP_MAX_SEGMENTS of Linux 6.9 and later */
    SEGMENT_COUNT_OLD_MAX = 64, /* and before it */
    SEGMENT_BYTES_MAX = 65507,  /* the largest UDP payload over IPv4: 65,535 less the headers */
};

/**
 * segment_count() - How many payloads the next message takes
 * @payloads:      those that are left, in order; their bytes are not looked at
 * @count:         number of them, 1 at least
 * @largest_bytes: payloads above it go one by one; 0: all do
 * @most:          segments that a message may have, 1 at least
 * Return:         1 to @most
 * Thread:         any
 * Source:         udp(7), UDP_SEGMENT
 */
size_t segment_count(const struct iovec *payloads, size_t count, size_t largest_bytes, size_t most);

#endif

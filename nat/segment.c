#include "nat/segment.h"

size_t segment_count(const struct iovec *payloads, size_t count, size_t largest_bytes, size_t most)
{
    const size_t size = payloads[0].iov_len;
    if (size == 0 || size > largest_bytes || size > SEGMENT_BYTES_MAX)
        return 1; /* an empty datagram would vanish between two cuts */
    if (most > SEGMENT_BYTES_MAX / size)
        most = SEGMENT_BYTES_MAX / size;
    if (most > count)
        most = count;
    size_t taken = 1;
    while (taken < most && payloads[taken].iov_len == size)
        taken++;
    if (taken < most && payloads[taken].iov_len > 0 && payloads[taken].iov_len < size)
        taken++; /* the shorter one that ends the message */
    return taken;
}

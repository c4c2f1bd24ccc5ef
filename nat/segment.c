#include "nat/segment.h"

size_t segment_count(const size_t *lengths, size_t count, size_t largest_bytes)
{
    const size_t size = lengths[0];
    if (size == 0 || size > largest_bytes || size > SEGMENT_BYTES_MAX)
        return 1; /* an empty datagram would vanish between two cuts */
    size_t most = SEGMENT_BYTES_MAX / size;
    if (most > SEGMENT_COUNT_MAX)
        most = SEGMENT_COUNT_MAX;
    if (most > count)
        most = count;
    size_t taken = 1;
    while (taken < most && lengths[taken] == size)
        taken++;
    if (taken < most && lengths[taken] > 0 && lengths[taken] < size)
        taken++; /* the shorter one that ends the message */
    return taken;
}

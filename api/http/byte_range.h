/* The Range header of a GET: one range of bytes. */
#ifndef API_HTTP_BYTE_RANGE_H
#define API_HTTP_BYTE_RANGE_H

#include <stdint.h>

/** enum range_kind - What a Range header asks for. */
enum range_kind {
    RANGE_NONE,          /* nothing, or in a unit that is not bytes: all is answered */
    RANGE_MALFORMED,     /* not a range, or several */
    RANGE_UNSATISFIABLE, /* nothing of it is there */
    RANGE_PART,
};

/**
 * byte_range_parse() - One range of what there is
 * @header:    value of Range, or NULL
 * @oldest:    position of the first byte that is there; an earlier part of the range is left out
 * @end:       position behind the last one
 * @ret_first: with RANGE_PART
 * @ret_last:  as above, inclusive
 * Thread:     any
 * Source:     RFC 9110 section 14
 */
enum range_kind byte_range_parse(const char *header, uint64_t oldest, uint64_t end, uint64_t *ret_first,
                                 uint64_t *ret_last);

#endif

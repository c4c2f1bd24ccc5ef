#include "api/http/byte_range.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

/* Decimal digits from *@at on. Return: false when there are none; a number that is too large is the largest. */
static bool take_number(const char **at, uint64_t *ret_number)
{
    const char *text = *at;
    uint64_t number = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        number = number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : number * 10 + digit;
    }
    bool taken = text != *at;
    *at = text;
    *ret_number = number;
    return taken;
}

/* The last @length bytes. */
static enum range_kind take_suffix(uint64_t length, uint64_t oldest, uint64_t end, uint64_t *ret_first,
                                   uint64_t *ret_last)
{
    if (length == 0 || oldest == end)
        return RANGE_UNSATISFIABLE;
    *ret_first = length < end - oldest ? end - length : oldest;
    *ret_last = end - 1;
    return RANGE_PART;
}

enum range_kind byte_range_parse(const char *header, uint64_t oldest, uint64_t end, uint64_t *ret_first,
                                 uint64_t *ret_last)
{
    static const char unit[] = "bytes=";
    uint64_t first = 0;
    uint64_t last = UINT64_MAX;
    if (header == NULL || strncasecmp(header, unit, sizeof unit - 1) != 0)
        return RANGE_NONE;
    const char *at = header + sizeof unit - 1;
    bool has_first = take_number(&at, &first);
    if (*at++ != '-')
        return RANGE_MALFORMED;
    bool has_last = take_number(&at, &last);
    if (*at != '\0' || (!has_first && !has_last) || (has_first && has_last && last < first))
        return RANGE_MALFORMED;
    if (!has_first)
        return take_suffix(last, oldest, end, ret_first, ret_last);
    if (!has_last || last >= end)
        last = end - 1;
    if (first >= end || end == 0 || last < oldest)
        return RANGE_UNSATISFIABLE;
    *ret_first = first < oldest ? oldest : first;
    *ret_last = last;
    return RANGE_PART;
}

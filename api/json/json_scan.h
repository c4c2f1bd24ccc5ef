/* A look over JSON text before it is parsed: how deep it nests, and where in the document a byte stands. It judges
 * nothing else; the parser does. */
#ifndef API_JSON_JSON_SCAN_H
#define API_JSON_JSON_SCAN_H

#include <stddef.h>
#include <stdint.h>

enum json_scan_limits {
    JSON_SCAN_DEPTH = 16, /* levels whose pointer is kept */
};

/**
 * json_scan_depth() - Deepest nesting of arrays and objects
 * @ret_offset: first byte that opens a level beyond @limit; untouched when there is none
 * Return:      the depth, counted up to @limit + 1
 * Thread:      any
 */
size_t json_scan_depth(const uint8_t *bytes, size_t length, size_t limit, size_t *ret_offset);

/**
 * json_scan_pointer() - JSON pointer of the value or key that the byte at @offset belongs to
 * @ret_pointer: filled and terminated; cut when it does not fit
 * Return:       @ret_pointer
 * Thread:       any
 * Source:       RFC 6901
 */
const char *json_scan_pointer(const uint8_t *bytes, size_t length, size_t offset, char *ret_pointer, size_t capacity);

#endif

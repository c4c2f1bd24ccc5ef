/* Identifiers: UUID version 7 (RFC 9562 section 5.7), so that rows sort by the time they were made. */
#ifndef BASE_ID_H
#define BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum id_limits {
    ID_TEXT_BYTES = 37, /* 36 characters and the NUL */
    ID_RANDOM_BYTES = 10,
};

/** struct id - A UUID in its canonical lower-case text. Owner: whoever holds the copy. */
struct id {
    char text[ID_TEXT_BYTES];
};

/**
 * id_make() - Build a UUIDv7 from its parts
 * @unix_ms: wall clock, milliseconds since 1970; 48 bits are used
 * @random:  74 of these 80 bits are used
 * Thread:   any
 * Source:   RFC 9562 section 5.7
 */
struct id id_make(uint64_t unix_ms, const uint8_t random[static ID_RANDOM_BYTES]);

/**
 * id_new() - A fresh UUIDv7 from the wall clock and the kernel's generator
 * Thread: any
 */
struct id id_new(void);

/**
 * id_parse() - Take a UUID from text
 * @text:   any bytes
 * @length: number of them
 * @ret_id: filled on success
 * Return:  true for 36 characters 8-4-4-4-12 in lower-case hexadecimal
 * Thread:  any
 */
bool id_parse(const char *text, size_t length, struct id *ret_id);

#endif

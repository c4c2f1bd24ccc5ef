/* Bytes from a stranger: big-endian types, a reader with a sticky error, checked arithmetic.
 * Readers add shifted bytes: compilers make one load of that, as they do not of b[0] * 256 + b[1]; and provers follow it, as
 * they do not b[0] << 8 | b[1]. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Integers as they stand on the wire. The type keeps them from being used without conversion. */
typedef struct {
    uint8_t b[2];
} be16;
typedef struct {
    uint8_t b[4];
} be32;

static inline uint16_t be16_load(be16 value)
{
    return (uint16_t)(((unsigned)value.b[0] << 8) + value.b[1]);
}

static inline uint32_t be32_load(be32 value)
{
    return ((uint32_t)value.b[0] << 24) + ((uint32_t)value.b[1] << 16) + ((uint32_t)value.b[2] << 8) + value.b[3];
}

static inline be16 be16_make(uint16_t value)
{
    return (be16){{(uint8_t)(value / 256u), (uint8_t)(value % 256u)}};
}

static inline be32 be32_make(uint32_t value)
{
    return (be32){{(uint8_t)(value / 16777216u), (uint8_t)(value / 65536u % 256u), (uint8_t)(value / 256u % 256u),
                   (uint8_t)(value % 256u)}};
}

/**
 * struct cursor - Reads forward through bytes that somebody else wrote
 * @at:     next byte
 * @left:   bytes that remain
 * @failed: set by the first read that did not fit; every later read yields zeros
 *
 * Owner: the function that made it; the bytes stay their owner's.
 */
struct cursor {
    const uint8_t *at;
    size_t left;
    bool failed;
};

/**
 * cursor_make() - Start reading at the first of @length bytes
 * Thread: any
 */
struct cursor cursor_make(const uint8_t *bytes, size_t length);

/**
 * cursor_u8() - Read one byte
 * Return: the byte, 0 once the cursor has failed
 * Thread: the cursor's owner
 */
uint8_t cursor_u8(struct cursor *cursor);

/**
 * cursor_take() - Copy out @length bytes
 * @ret_bytes: filled with the bytes, or with zeros once the cursor has failed
 * Return:     true when the bytes were there
 * Thread:     the cursor's owner
 */
bool cursor_take(struct cursor *cursor, void *ret_bytes, size_t length);

/**
 * cursor_skip() - Pass over @length bytes
 * Return: true when the bytes were there
 * Thread: the cursor's owner
 */
bool cursor_skip(struct cursor *cursor, size_t length);

/**
 * checked_add() - Add two sizes
 * @ret_sum: the sum; untouched on overflow
 * Return:   true when the sum fits
 * Thread:   any
 */
bool checked_add(size_t a, size_t b, size_t *ret_sum);

/**
 * checked_multiply() - Multiply two sizes
 * @ret_product: the product; untouched on overflow
 * Return:       true when the product fits
 * Thread:       any
 */
bool checked_multiply(size_t a, size_t b, size_t *ret_product);

/**
 * hex_byte() - The byte that two hexadecimal digits of either case are
 * @text:  terminated; nothing behind its end is looked at
 * Return: 0 to 255, or -1 when its first two characters are no such digits
 * Thread: any
 */
int hex_byte(const char *text);

#endif

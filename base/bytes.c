#include "base/bytes.h"

#include <string.h>

_Static_assert(sizeof(be16) == 2 && _Alignof(be16) == 1, "be16 is two bytes without alignment");
_Static_assert(sizeof(be32) == 4 && _Alignof(be32) == 1, "be32 is four bytes without alignment");

struct cursor cursor_make(const uint8_t *bytes, size_t length)
{
    return (struct cursor){.at = bytes, .left = length, .failed = false};
}

bool cursor_take(struct cursor *cursor, void *ret_bytes, size_t length)
{
    if (cursor->failed || length > cursor->left) {
        cursor->failed = true;
        memset(ret_bytes, 0, length);
        return false;
    }
    memcpy(ret_bytes, cursor->at, length);
    cursor->at += length;
    cursor->left -= length;
    return true;
}

uint8_t cursor_u8(struct cursor *cursor)
{
    uint8_t value = 0;
    cursor_take(cursor, &value, sizeof value);
    return value;
}

bool cursor_skip(struct cursor *cursor, size_t length)
{
    if (cursor->failed || length > cursor->left) {
        cursor->failed = true;
        return false;
    }
    cursor->at += length;
    cursor->left -= length;
    return true;
}

bool checked_add(size_t a, size_t b, size_t *ret_sum)
{
    if (b > SIZE_MAX - a)
        return false;
    *ret_sum = a + b;
    return true;
}

bool checked_multiply(size_t a, size_t b, size_t *ret_product)
{
    if (a != 0 && b > SIZE_MAX / a)
        return false;
    *ret_product = a * b;
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int hex_byte(const char *text)
{
    int high = hex_digit(text[0]);
    int low = high < 0 ? -1 : hex_digit(text[1]);
    return low < 0 ? -1 : high * 16 + low;
}

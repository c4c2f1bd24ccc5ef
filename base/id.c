#include "base/id.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"

struct id id_make(uint64_t unix_ms, const uint8_t random[static ID_RANDOM_BYTES])
{
    uint8_t b[16];
    for (size_t i = 0; i < 6; i++)
        b[i] = (uint8_t)(unix_ms >> (40 - 8 * i));
    memcpy(b + 6, random, ID_RANDOM_BYTES);
    b[6] = (uint8_t)(0x70 | (b[6] & 0x0f));
    b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));

    struct id id;
    int used =
        snprintf(id.text, sizeof id.text, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
                 b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    REQUIRE(used == ID_TEXT_BYTES - 1);
    return id;
}

struct id id_new(void)
{
    uint8_t random[ID_RANDOM_BYTES];
    /* getentropy fails only for lengths above 256 or on a kernel without a generator. */
    REQUIRE(getentropy(random, sizeof random) == 0);
    return id_make(clock_wall_ms(), random);
}

bool id_parse(const char *text, size_t length, struct id *ret_id)
{
    if (length != ID_TEXT_BYTES - 1)
        return false;
    for (size_t i = 0; i < length; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        bool hex = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
        if (dash ? text[i] != '-' : !hex)
            return false;
    }
    memcpy(ret_id->text, text, length);
    ret_id->text[length] = '\0';
    return true;
}

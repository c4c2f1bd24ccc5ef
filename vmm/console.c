#include "vmm/console.h"

#include <string.h>

#include "base/error.h"

void console_init(struct console *console)
{
    REQUIRE(pthread_mutex_init(&console->lock, NULL) == 0);
    console->total = 0;
}

void console_done(struct console *console)
{
    pthread_mutex_destroy(&console->lock);
}

void console_append(struct console *console, const uint8_t *bytes, size_t length)
{
    if (length == 0)
        return;
    pthread_mutex_lock(&console->lock);
    if (length > VMM_CONSOLE_BYTES) {
        console->total += length - VMM_CONSOLE_BYTES;
        bytes += length - VMM_CONSOLE_BYTES;
        length = VMM_CONSOLE_BYTES;
    }
    size_t at = (size_t)(console->total % VMM_CONSOLE_BYTES);
    size_t until_end = VMM_CONSOLE_BYTES - at;
    size_t first = length < until_end ? length : until_end;
    memcpy(console->bytes + at, bytes, first);
    memcpy(console->bytes, bytes + first, length - first);
    console->total += length;
    pthread_mutex_unlock(&console->lock);
}

size_t console_read(struct console *console, uint8_t *ret_bytes, size_t capacity, uint64_t *ret_offset)
{
    pthread_mutex_lock(&console->lock);
    size_t kept = console->total < VMM_CONSOLE_BYTES ? (size_t)console->total : VMM_CONSOLE_BYTES;
    size_t length = capacity < kept ? capacity : kept;
    uint64_t offset = console->total - length;
    size_t at = (size_t)(offset % VMM_CONSOLE_BYTES);
    size_t until_end = VMM_CONSOLE_BYTES - at;
    size_t first = length < until_end ? length : until_end;
    if (length > 0)
        memcpy(ret_bytes, console->bytes + at, first);
    if (length > first)
        memcpy(ret_bytes + first, console->bytes, length - first);
    pthread_mutex_unlock(&console->lock);
    if (ret_offset != NULL)
        *ret_offset = offset;
    return length;
}

size_t console_line_feed(struct console_line *line, const uint8_t *bytes, size_t length)
{
    if (line->ended)
        line->length = 0;
    line->ended = false;
    size_t taken = 0;
    while (taken < length && !line->ended) {
        uint8_t byte = bytes[taken++];
        line->ended = byte == '\n' || byte == '\r';
        if (!line->ended && byte != '\0' && line->length < CONSOLE_LINE_BYTES - 1)
            line->text[line->length++] = (char)byte;
    }
    line->text[line->length] = '\0';
    return taken;
}

#include "base/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_DEBUG:
        return "debug";
    case LOG_INFO:
        return "info";
    case LOG_WARNING:
        return "warning";
    case LOG_ERROR:
        return "error";
    }
    return "unknown";
}

/* Whether a write would not wait. Between this and the write another process may fill the pipe, which is one line's wait. */
static bool has_room(int fd)
{
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    return poll(&room, 1, 0) > 0;
}

static void put(int fd, const char *line, size_t length)
{
    /* A log that cannot be written must not stop the work; there is nowhere left to say so. */
    ssize_t written = write(fd, line, length);
    (void)written;
}

/* Return: whether there was room for it. */
static bool put_dropped(const struct log *log, const char *when)
{
    unsigned long dropped = log->dropped == NULL ? 0 : atomic_exchange(log->dropped, 0);
    if (dropped == 0)
        return true;
    char line[LOG_LINE_BYTES];
    int length = snprintf(line, sizeof line, "time=%s level=warning event=log.dropped lines=%lu\n", when, dropped);
    put(log->fd, line, (size_t)length);
    return has_room(log->fd);
}

void log_line(const struct log *log, enum log_level level, const char *event, const char *format, ...)
{
    if (log == NULL || level < log->least)
        return;
    char line[LOG_LINE_BYTES];
    char when[CLOCK_TEXT_BYTES];
    int head = snprintf(line, sizeof line, "time=%s level=%s event=%s ", clock_format(clock_wall_ms(), when),
                        level_name(level), event);
    if (head < 0 || (size_t)head >= sizeof line)
        return;
    size_t used = (size_t)head;

    va_list arguments;
    va_start(arguments, format);
    int body = vsnprintf(line + used, sizeof line - used, format, arguments);
    va_end(arguments);
    if (body < 0)
        return;
    used = (size_t)body < sizeof line - used ? used + (size_t)body : sizeof line - 1;
    line[used] = '\n';
    if (has_room(log->fd) && put_dropped(log, when))
        put(log->fd, line, used + 1);
    else if (log->dropped != NULL)
        atomic_fetch_add(log->dropped, 1);
}

const char *log_escape(const char *text, size_t length, char *ret_text, size_t capacity)
{
    REQUIRE(capacity > 0);
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = c >= 0x20 && c <= 0x7e && c != '"' && c != '\\';
        if (capacity - used <= (plain ? 1u : 4u))
            break;
        used += (size_t)snprintf(ret_text + used, capacity - used, plain ? "%c" : "\\x%02x", c);
    }
    ret_text[used] = '\0';
    return ret_text;
}

/* Log lines: `time level event key=value ...`, one write(2) each, to a descriptor that the caller names. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdatomic.h>
#include <stddef.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

enum log_limits {
    LOG_LINE_BYTES = 1024, /* longer lines are cut: a log line is bounded whatever a guest makes us say */
};

/**
 * struct log - Where lines go and which
 * @fd:    not owned
 * @least: lines below this level are left out
 *
 * A pipe or socket that is full takes no line: the line is dropped, counted, and said so with the next one that fits,
 * because a reader that has stopped must not stop the work.
 *
 * Owner: main(); everybody else has a const pointer.
 */
struct log {
    int fd;
    enum log_level least;
    atomic_ulong *dropped; /* lines that a full pipe did not take and that were not told of yet; NULL: not counted */
};

/**
 * log_line() - Write one event
 * @log:    NULL writes nothing
 * @event:  fixed name, as "lease.created"
 * @format: printf format of `key=value` pairs; values that a stranger chose go through log_escape() first
 * Thread:  any; lines do not mix because each is one write
 */
void log_line(const struct log *log, enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/**
 * log_escape() - Make a stranger's bytes safe to stand between double quotes in a line or in JSON-like text
 * @text:     any bytes
 * @length:   number of them
 * @ret_text: filled and terminated; control bytes, quotes, backslashes and bytes above 126 become \\xNN
 * @capacity: size of @ret_text, at least 1; what does not fit is left out
 * Return:    @ret_text
 * Thread:    any
 */
const char *log_escape(const char *text, size_t length, char *ret_text, size_t capacity);

#endif

/* The newest bytes that a machine printed on its console, and the line that it is printing. The guest chooses them; how many
 * are kept is ours. */
#ifndef VMM_CONSOLE_H
#define VMM_CONSOLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/vmm.h"

enum console_limits {
    CONSOLE_LINE_BYTES = 512, /* a line of the kernel's packet log takes 200 */
};

/**
 * struct console - A ring
 * @lock:  guards the rest: the supervisor writes, the API's threads read
 * @total: bytes printed so far; the newest VMM_CONSOLE_BYTES of them are in @bytes, byte n at n % VMM_CONSOLE_BYTES
 *
 * Owner: the machine.
 */
struct console {
    pthread_mutex_t lock;
    uint64_t total;
    uint8_t bytes[VMM_CONSOLE_BYTES];
};

/** console_init() - Begin empty. Thread: the console's owner */
void console_init(struct console *console);

/** console_done() - Give up the lock. Thread: the console's owner, when nobody reads any more */
void console_done(struct console *console);

/** console_append() - Keep @length more bytes. Thread: any */
void console_append(struct console *console, const uint8_t *bytes, size_t length);

/**
 * console_read() - The newest bytes
 * @ret_bytes:  up to @capacity bytes, oldest first
 * @ret_offset: position of the first of them in all that was ever printed; may be NULL
 * Return:      number of bytes
 * Thread:      any
 */
size_t console_read(struct console *console, uint8_t *ret_bytes, size_t capacity, uint64_t *ret_offset);

/**
 * struct console_line - A line as it comes in
 * @length: characters kept; what is beyond CONSOLE_LINE_BYTES - 1 is dropped
 * @ended:  the line is complete, and the next byte begins another
 *
 * Owner: the machine. All zeros is the beginning.
 */
struct console_line {
    size_t length;
    bool ended;
    char text[CONSOLE_LINE_BYTES]; /* terminated; may hold any byte but CR, LF and NUL */
};

/**
 * console_line_feed() - Take in bytes up to the end of the line that they complete
 * CR and LF end a line; NUL is left out.
 * Return: how many of the @length bytes were taken, at least one unless @length is 0; @line->ended says whether the line is
 *         complete
 * Thread: the line's owner
 */
size_t console_line_feed(struct console_line *line, const uint8_t *bytes, size_t length);

#endif

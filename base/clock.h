/* The clocks: monotonic for limits and durations, boot for limits that outlive a process and count a machine's sleep,
 * wall for what people read. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

enum clock_limits {
    CLOCK_TEXT_BYTES = 25, /* 2026-01-31T12:34:56.789Z and the NUL */
};

/**
 * clock_monotonic_ms() - Milliseconds that never run backwards
 * Thread: any
 */
uint64_t clock_monotonic_ms(void);

/** clock_monotonic_us() - As clock_monotonic_ms(), in microseconds. Thread: any */
uint64_t clock_monotonic_us(void);

/**
 * clock_boot_ms() - Milliseconds since the machine was booted, its sleep included; never backwards
 * Two readings compare only within one boot.
 * Thread: any
 */
uint64_t clock_boot_ms(void);

/**
 * clock_wall_ms() - Milliseconds since 1970, as the machine believes
 * Thread: any
 */
uint64_t clock_wall_ms(void);

/**
 * clock_format() - Wall time as RFC 3339 in UTC with milliseconds
 * @unix_ms:  milliseconds since 1970
 * @ret_text: filled and terminated
 * Return:    @ret_text
 * Thread:    any
 */
const char *clock_format(uint64_t unix_ms, char ret_text[static CLOCK_TEXT_BYTES]);

#endif

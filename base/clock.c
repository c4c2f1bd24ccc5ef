#include "base/clock.h"

#include <stdio.h>
#include <time.h>

#include "base/error.h"

static uint64_t read_us(clockid_t which)
{
    struct timespec now;
    REQUIRE(clock_gettime(which, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_monotonic_ms(void)
{
    return read_us(CLOCK_MONOTONIC) / 1000;
}

uint64_t clock_monotonic_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

uint64_t clock_boot_ms(void)
{
#ifdef CLOCK_BOOTTIME
    return read_us(CLOCK_BOOTTIME) / 1000;
#else
    return read_us(CLOCK_MONOTONIC) / 1000; /* macOS: it goes on while the machine sleeps */
#endif
}

uint64_t clock_wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
}

const char *clock_format(uint64_t unix_ms, char ret_text[static CLOCK_TEXT_BYTES])
{
    /* Year 9999 is where RFC 3339 ends; a clock beyond it is shown as its last second. */
    const uint64_t last_second = 253402300799;
    uint64_t seconds = unix_ms / 1000 < last_second ? unix_ms / 1000 : last_second;
    time_t when = (time_t)seconds;
    struct tm parts;
    REQUIRE(gmtime_r(&when, &parts) != NULL);
    char day[20];
    REQUIRE(strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts) == sizeof day - 1);
    snprintf(ret_text, CLOCK_TEXT_BYTES, "%s.%03uZ", day, (unsigned)(unix_ms % 1000));
    return ret_text;
}

#include "vmm/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __APPLE__
#include <ctype.h>
#include <sys/sysctl.h>
#include <sys/time.h>
#endif

#include "base/clock.h"
#include "base/scope.h"
#include "vmm/vmm.h"

enum {
    TICK_MS = 20,    /* how often to look for an end that no descriptor tells of */
    STRAY_MS = 5000, /* a killed process with a lot of memory may take a second */
    STAT_BYTES = 1024,
    STAT_FIELD_STATE = 3,
    STAT_FIELD_START = 22,
};

#ifndef __APPLE__

static ssize_t read_small(const char *path, char *ret_text, size_t capacity)
{
    int fd SCOPED_FD = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, ret_text, capacity - 1);
    ret_text[length < 0 ? 0 : length] = '\0';
    return length;
}

uint64_t process_start_ticks(pid_t pid, bool *ret_ended)
{
    char path[32];
    char text[STAT_BYTES];
    snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", (int64_t)pid);
    /* The second field is the program's name in parentheses; the name may hold spaces and parentheses of its own. */
    char *at = read_small(path, text, sizeof text) > 0 ? strrchr(text, ')') : NULL;
    if (at == NULL || at[1] != ' ' || at[2] == '\0')
        return 0;
    at += 2;
    if (ret_ended != NULL)
        *ret_ended = *at == 'Z' || *at == 'X';
    for (int field = STAT_FIELD_STATE; field < STAT_FIELD_START; field++) {
        at = strchr(at, ' ');
        if (at == NULL)
            return 0;
        at++;
    }
    return strtoull(at, NULL, 10);
}

const char *vmm_boot_id(char ret_text[static ID_TEXT_BYTES])
{
    char text[64];
    struct id id;
    ssize_t length = read_small("/proc/sys/kernel/random/boot_id", text, sizeof text);
    bool known = length >= ID_TEXT_BYTES - 1 && id_parse(text, ID_TEXT_BYTES - 1, &id);
    snprintf(ret_text, ID_TEXT_BYTES, "%s", known ? id.text : "");
    return ret_text;
}

#else

/* Microseconds since 1970: as good as ticks since the start, for nothing but equality is asked of them.
 *
 * Source: sysctl(3), KERN_PROC_PID */
uint64_t process_start_ticks(pid_t pid, bool *ret_ended)
{
    struct kinfo_proc found;
    size_t length = sizeof found;
    int name[] = {CTL_KERN, KERN_PROC, KERN_PROC_PID, pid};
    if (sysctl(name, sizeof name / sizeof *name, &found, &length, NULL, 0) != 0 || length != sizeof found)
        return 0;
    if (ret_ended != NULL)
        *ret_ended = found.kp_proc.p_stat == SZOMB;
    return (uint64_t)found.kp_proc.p_starttime.tv_sec * 1000000u + (uint64_t)found.kp_proc.p_starttime.tv_usec;
}

const char *vmm_boot_id(char ret_text[static ID_TEXT_BYTES])
{
    char text[64] = "";
    size_t length = sizeof text - 1;
    struct id id;
    bool known = sysctlbyname("kern.bootsessionuuid", text, &length, NULL, 0) == 0;
    for (char *at = text; *at != '\0'; at++)
        *at = (char)tolower((unsigned char)*at);
    known = known && id_parse(text, ID_TEXT_BYTES - 1, &id);
    snprintf(ret_text, ID_TEXT_BYTES, "%s", known ? id.text : "");
    return ret_text;
}

#endif

bool process_runs(pid_t pid, uint64_t start_ticks)
{
    bool ended = false;
    return process_start_ticks(pid, &ended) == start_ticks && !ended;
}

int process_await_end(int exit_fd, pid_t pid, uint64_t start_ticks)
{
    struct pollfd ended = {.fd = exit_fd, .events = POLLIN};
    for (uint64_t limit = clock_monotonic_ms() + STRAY_MS; process_runs(pid, start_ticks);) {
        if (clock_monotonic_ms() > limit)
            return -ETIMEDOUT;
        (void)poll(&ended, 1, TICK_MS);
    }
    return 0;
}

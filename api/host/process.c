#include "api/host/process.h"

#include <dirent.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { STATM_BYTES = 160 }; /* seven numbers, in pages */

/* Entries of a folder of /proc, without "." and ".." */
static uint64_t count_entries(const char *path)
{
    DIR *folder = opendir(path);
    if (folder == NULL)
        return 0;
    uint64_t count = 0;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void read_memory(struct process_usage *usage)
{
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return;
    char line[STATM_BYTES];
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (fgets(line, sizeof line, file) != NULL) {
        char *rest;
        usage->virtual_bytes = strtoull(line, &rest, 10) * page;
        usage->resident_bytes = strtoull(rest, NULL, 10) * page;
    }
    fclose(file);
}

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

void process_usage_read(struct process_usage *ret_usage)
{
    *ret_usage = (struct process_usage){0};
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        ret_usage->descriptors_max = limit.rlim_cur;
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        ret_usage->cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    read_memory(ret_usage);
    uint64_t open = count_entries("/proc/self/fd");
    ret_usage->descriptors = open > 0 ? open - 1 : 0; /* without the one that reads */
    ret_usage->threads = count_entries("/proc/self/task");
}

/* What this process takes of the machine. */
#ifndef API_HOST_PROCESS_H
#define API_HOST_PROCESS_H

#include <stdint.h>

/** struct process_usage - As the system tells it; 0 where it does not. */
struct process_usage {
    uint64_t resident_bytes;
    uint64_t virtual_bytes;
    uint64_t descriptors;
    uint64_t descriptors_max;
    uint64_t threads;
    double cpu_s; /* user and system */
};

/** process_usage_read() - Thread: any */
void process_usage_read(struct process_usage *ret_usage);

#endif

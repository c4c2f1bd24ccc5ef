/* What the daemon's own threads and the programs that it starts may do: api/host/confine.c holds the tables. */
#ifndef API_HOST_CONFINE_H
#define API_HOST_CONFINE_H

#include <stddef.h>

#include "base/confine.h"
#include "base/error.h"

/** confine_service_table() - The calls of threads that serve requests and keep records. Thread: any */
const struct confine_rule *confine_service_table(size_t *ret_count);

/** confine_forbidden_table() - What neither the daemon nor a program of it may ever call. Thread: any */
const struct confine_rule *confine_forbidden_table(size_t *ret_count);

/**
 * confine_process() - Take away from this process, and from all programs that it starts, what is forbidden
 * Return: 0 or negative
 * Thread: the only one there is
 */
int confine_process(struct error *err);

/** struct confine_folders - What threads that serve requests reach of the file system; "" for one that there is not. */
struct confine_folders {
    const char *data; /* to be changed; the others are read */
    const char *images;
    const char *packages;
};

/**
 * confine_service() - Call @open with nothing allowed but what the service table holds; threads that it starts stay like that
 * @folders: no other is reached where the kernel has Landlock; one that is made or replaced later is another folder
 * @open:    its result is handed on
 * Return:   that result, or negative when the thread for it cannot be had
 * Thread:   any but a confined one; waits for @open
 */
int confine_service(const struct confine_folders *folders, int (*open)(void *context, struct error *err), void *context,
                    struct error *err);

#endif

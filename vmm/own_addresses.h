/* The IPv4 addresses at which this machine itself answers. A guest must reach none of them. */
#ifndef VMM_OWN_ADDRESSES_H
#define VMM_OWN_ADDRESSES_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/**
 * own_addresses_read() - Ask the system which addresses are its own at this moment
 * @ret_ips:   ascending, each once, host byte order; 127.0.0.1 is among them where the system has it
 * @capacity:  room in @ret_ips
 * @ret_count: at least 1
 * Return:     0; -E2BIG when there are more than fit, because a set that lacks one is worse than none; -ENODATA when
 *             there is not a single one, which can only be a mistake; or what the system said. On failure the outputs
 *             are not to be used
 * Thread:     any
 */
int own_addresses_read(uint32_t *ret_ips, size_t capacity, size_t *ret_count, struct error *err);

/**
 * own_addresses_listen() - A descriptor that is readable after addresses or routes may have changed
 * @ret_fd: non-blocking; owned by the caller; to be emptied by own_addresses_drain() before a look
 * Return:  0; -ENOTSUP where the system does not tell; or what it said
 * Thread:  any
 */
int own_addresses_listen(int *ret_fd, struct error *err);

/** own_addresses_drain() - Take what waits in a socket and forget it. Thread: the descriptor's owner */
void own_addresses_drain(int fd);

#endif

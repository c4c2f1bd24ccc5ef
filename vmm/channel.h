/* Streams to a hypervisor that listens: its control channel and, where it may outlive the daemon, its console. They have
 * names in the machine's folder, which only this user can enter. */
#ifndef VMM_CHANNEL_H
#define VMM_CHANNEL_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/**
 * channel_open() - A socket for a hypervisor to listen on, and the one connection to it
 * @path:          in a folder that only this user can enter
 * @keep_name:     whether another daemon may come and connect. If not, the name is gone again when this returns, because
 *                 the connection is made and nobody else shall make one
 * @ret_listen_fd: for the hypervisor; owned by the caller
 * @ret_fd:        connected and non-blocking; owned by the caller
 * Return:         0; -ENAMETOOLONG with slug "runtime-dir-too-long" when @path does not fit a socket's address
 * Thread:         any
 */
int channel_open(const char *path, bool keep_name, int *ret_listen_fd, int *ret_fd, struct error *err);

/**
 * channel_reopen() - Connect to a hypervisor that an earlier daemon started
 * @ret_fd: connected and non-blocking; owned by the caller
 * Return:  0; -ECONNREFUSED or -ENOENT when nobody listens there; as channel_open()
 * Thread:  any
 */
int channel_reopen(const char *path, int *ret_fd, struct error *err);

/**
 * channel_reaches() - Whether the other end of a connection is a descriptor of a process
 *
 * The credentials of a connection's other end are those of who called listen(2), which was the earlier daemon. So the
 * kernel is asked for the inode of the socket at the other end, and that is looked for among the process's descriptors.
 *
 * @fd:    a connected unix stream that the other side has accepted
 * @pid:   of this user
 * Return: 0; -EPERM when another process has it; -EOPNOTSUPP where the system does not tell
 * Thread: any
 * Source: sock_diag(7), proc(5)
 */
int channel_reaches(int fd, pid_t pid);

#endif

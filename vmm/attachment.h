/* Socket pairs that join the daemon to a hypervisor: the attachment itself, which carries Ethernet frames, and the
 * streams beside it. */
#ifndef VMM_ATTACHMENT_H
#define VMM_ATTACHMENT_H

#include <sys/socket.h>
#include <sys/un.h>

#include "base/error.h"
#include "nat/nat.h"

/* Keeps datagrams apart like SOCK_DGRAM, but Linux queues more than ten of them, and shows when the other end is gone. */
#ifndef OMERTAD_PORTABLE
#define ATTACHMENT_REPORTS SOCK_SEQPACKET
#else
#define ATTACHMENT_REPORTS SOCK_DGRAM
#endif

enum attachment_limits {
    /* A burst of some hundred frames each way. Best effort: the system's own limit may be lower. */
    ATTACHMENT_BUFFER_BYTES = 1024 * 1024,
};

/**
 * struct attachment - A virtual cable
 * @host_fd:  the NAT's end: non-blocking
 * @guest_fd: the hypervisor's end: blocking, as QEMU wants it (it changes that by itself)
 *
 * Owner: the machine. Both ends close on exec; -1 is an end that was handed on.
 */
struct attachment {
    int host_fd;
    int guest_fd;
};

/**
 * attachment_open() - Make a cable
 * @framing:        what it carries: the ends are datagram or stream sockets
 * @ret_attachment: filled on success
 * Return:          0 or negative
 * Thread:          any
 */
int attachment_open(enum nat_framing framing, struct attachment *ret_attachment, struct error *err);

/**
 * attachment_listen() - The host's end of a cable whose other end is somebody else's: a socket at a path
 * @path:   in a folder that only this user can enter; the caller removes the name
 * @ret_fd: SOCK_DGRAM, non-blocking
 * Return:  0; -ENAMETOOLONG with slug "runtime-dir-too-long"; or what the system said
 * Thread:  any
 */
int attachment_listen(const char *path, int *ret_fd, struct error *err);

/**
 * attachment_connect() - Have one end that has a name speak with another name alone
 * @fd:    from attachment_listen()
 * Return: 0; -ECONNREFUSED or -ENOENT when nobody has bound @path
 * Thread: any
 */
int attachment_connect(int fd, const char *path, struct error *err);

/**
 * attachment_address() - A path as a socket's address
 * Return: 0; -ENAMETOOLONG with slug "runtime-dir-too-long"
 * Thread: any
 */
int attachment_address(const char *path, struct sockaddr_un *ret_address, struct error *err);

/** attachment_close() - Close the ends that are still here. Thread: the attachment's owner */
void attachment_close(struct attachment *attachment);

/**
 * attachment_pair() - Two connected sockets that close on exec
 * @type:        SOCK_STREAM, SOCK_DGRAM or ATTACHMENT_REPORTS
 * @ret_near_fd: non-blocking
 * @ret_far_fd:  blocking
 * Return:       0 or negative
 * Thread:       any
 */
int attachment_pair(int type, int *ret_near_fd, int *ret_far_fd, struct error *err);

#endif

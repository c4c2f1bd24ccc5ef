/* The attachment: batches of Ethernet frames over a unix datagram socket, one frame a datagram. */
#ifndef NAT_FRAME_IO_H
#define NAT_FRAME_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/datagrams.h"

enum frame_io_state {
    FRAME_IO_LISTENING, /* bound to a path; the first sender with a name becomes the peer */
    FRAME_IO_ADOPTING,  /* connected to the peer; what others queued before that is still being sorted out */
    FRAME_IO_CONNECTED, /* the kernel lets nobody but the peer send here: unix(7) */
};

/** struct frame_io - One VM's attachment. Owner: its NAT thread, which also closes @fd. */
struct frame_io {
    int fd;
    enum frame_io_state state;
    bool greeting_due;  /* a path's peer may greet with four bytes before its first frame */
    uint64_t strangers; /* datagrams of other senders, thrown away */
};

/** struct frame_batch - Frames as received. @frames point into @bytes. Owner: the NAT thread. */
struct frame_batch {
    size_t count;
    struct datagram frames[DATAGRAMS_MAX];
    uint8_t bytes[DATAGRAMS_MAX][DATAGRAM_BYTES];
};

/**
 * frame_io_init() - Take a socket
 * @fd:         non-blocking unix datagram socket
 * @peer_known: it is connected to its peer
 * Thread:      any, before the NAT thread starts
 */
void frame_io_init(struct frame_io *io, int fd, bool peer_known);

/**
 * frame_io_receive() - Take a batch of frames, without waiting
 * @batch: filled
 * Return: number of frames (0 when only strangers or a greeting came), -EAGAIN when there was nothing, or what the system
 *         said
 * Thread: the owner
 */
int frame_io_receive(struct frame_io *io, struct frame_batch *batch);

/**
 * frame_io_send() - Send frames to the VM in order, without waiting
 * Return: number sent, -EAGAIN when the VM's queue is full, or what the system said (ECONNREFUSED: the VM is gone)
 * Thread: the owner
 */
int frame_io_send(struct frame_io *io, const struct datagram *frames, size_t count);

#endif

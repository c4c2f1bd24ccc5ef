/* The attachment: batches of Ethernet frames over a unix socket, either one frame a datagram or as a stream (frame_stream.h).
 *
 * A datagram costs the kernel most of what the whole frame costs (a buffer of its own, a wake-up of the other end), which no
 * loop of ours can share out: 64 are taken with one call, and that is the limit of that transport. A stream has no such cost. */
#ifndef NAT_FRAME_IO_H
#define NAT_FRAME_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/datagrams.h"
#include "nat/frame_stream.h"
#include "nat/nat.h"

enum frame_io_limits {
    FRAME_ROOM_MIN = 8,
    FRAME_BATCH_MAX = 128, /* of a stream: one message of the uplink takes as many. Of datagrams DATAGRAMS_MAX */
    FRAME_BATCH_BYTES = DATAGRAMS_MAX * DATAGRAM_BYTES, /* a place for each datagram; for a stream one buffer */
};

enum frame_io_state {
    FRAME_IO_LISTENING, /* bound to a path; the first to connect, or of datagrams the first named sender, is the peer.
                           With datagrams it is so again once a send has shown that the peer's socket is gone */
    FRAME_IO_ADOPTING,  /* connected to the peer; what others queued before that is still being sorted out */
    FRAME_IO_CONNECTED, /* the kernel lets nobody but the peer send here: unix(7) */
    FRAME_IO_GONE,      /* the peer has closed its end of the stream */
};

/** struct frame_io - One VM's attachment. Owner: its NAT thread, which also closes @fd. */
struct frame_io {
    int fd;
    enum nat_framing framing;
    enum frame_io_state state;
    bool adopts;        /* a path's peer is whoever is there; a named one stays the only one */
    bool greeting_due;  /* a path's peer may greet with four bytes before its first frame */
    uint64_t strangers; /* datagrams of other senders, thrown away */
    size_t room;        /* of the next batch of datagrams: preparing for many costs a lone frame its time */
    bool has_more;      /* the last batch was full: another look is worth it */
    struct frame_stream stream;
};

/** struct frame_batch - Frames as received. @frames point into @bytes. Owner: the NAT thread. */
struct frame_batch {
    size_t count;
    struct datagram frames[FRAME_BATCH_MAX];
    uint8_t bytes[FRAME_BATCH_BYTES];
};

/**
 * frame_io_init() - Take a socket
 * @fd:         non-blocking unix socket of the framing's type
 * @peer_known: it is connected to its peer; else it is bound, and a stream's listens
 * Thread:      any, before the NAT thread starts
 */
void frame_io_init(struct frame_io *io, int fd, enum nat_framing framing, bool peer_known);

/**
 * frame_io_receive() - Take a batch of frames, without waiting
 * @batch: filled; the same for every call, because a stream's begun frame is kept in it
 * Return: number of frames (0 when only strangers, a greeting or a part of a frame came, or the state changed), -EAGAIN when
 *         there was nothing, -EPROTO when a stream makes no sense, or what the system said
 * Thread: the owner
 */
int frame_io_receive(struct frame_io *io, struct frame_batch *batch);

/** frame_io_has_more() - Whether frame_io_receive() may have frames whatever poll(2) says. Thread: the owner */
bool frame_io_has_more(const struct frame_io *io);

/**
 * frame_io_send() - Send frames to the VM in order, without waiting
 * Return: number sent, -EAGAIN when the VM's queue is full, or what the system said (ECONNREFUSED, EPIPE: the VM is gone;
 *         after the former the next to send at a path is its VM)
 * Thread: the owner
 */
int frame_io_send(struct frame_io *io, const struct datagram_parts *frames, size_t count);

#endif

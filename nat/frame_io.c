#include "nat/frame_io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/scope.h"

/* vfkit's greeting on a datagram path, sent once before the first frame. */
static const uint8_t greeting[4] = {'V', 'F', 'K', 'T'};

void frame_io_init(struct frame_io *io, int fd, enum nat_framing framing, bool peer_known)
{
    *io = (struct frame_io){
        .fd = fd,
        .framing = framing,
        .state = peer_known ? FRAME_IO_CONNECTED : FRAME_IO_LISTENING,
        .room = FRAME_ROOM_MIN,
        .adopts = !peer_known && framing == NAT_FRAMING_DATAGRAM,
        .greeting_due = !peer_known && framing == NAT_FRAMING_DATAGRAM,
    };
}

/* ---- one frame a datagram ----------------------------------------------------------------------------------------- */

static bool names_equal(const struct sockaddr_un *a, socklen_t a_length, const struct sockaddr_un *b,
                        socklen_t b_length)
{
    return a_length == b_length && memcmp(a, b, a_length) == 0;
}

/* Looks who sent the datagram at the head of the queue, without taking it. A sender without a name has an empty one. */
static int peek_sender(int fd, struct sockaddr_un *ret_name, socklen_t *ret_length)
{
    uint8_t byte;
    memset(ret_name, 0, sizeof *ret_name);
    *ret_length = sizeof *ret_name;
    if (recvfrom(fd, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT, (struct sockaddr *)ret_name, ret_length) < 0)
        return -errno;
    return 0;
}

static int throw_away(struct frame_io *io)
{
    uint8_t byte;
    io->strangers++;
    return recv(io->fd, &byte, sizeof byte, MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Connects to the first sender that can be connected to. Others are thrown away, one a call. */
static int adopt_peer(struct frame_io *io)
{
    struct sockaddr_un name;
    socklen_t length;
    int rc = peek_sender(io->fd, &name, &length);
    if (rc < 0)
        return rc;
    bool named = length > offsetof(struct sockaddr_un, sun_path);
    if (!named || connect(io->fd, (const struct sockaddr *)&name, length) < 0)
        return throw_away(io);
    io->state = FRAME_IO_ADOPTING;
    return 0;
}

static bool is_greeting(struct frame_io *io, const struct datagram *frame)
{
    bool due = io->greeting_due;
    io->greeting_due = false;
    return due && frame->length == sizeof greeting && memcmp(frame->bytes, greeting, sizeof greeting) == 0;
}

/* Whether the datagram at the head of the queue is the peer's. What others sent before we connected is still queued;
 * once the queue has been empty the kernel's own check is enough. */
static int head_is_peers(struct frame_io *io)
{
    struct sockaddr_un sender;
    struct sockaddr_un peer = {0};
    socklen_t sender_length;
    socklen_t peer_length = sizeof peer;
    int rc = peek_sender(io->fd, &sender, &sender_length);
    if (rc == -EAGAIN)
        io->state = FRAME_IO_CONNECTED;
    if (rc < 0)
        return rc;
    if (getpeername(io->fd, (struct sockaddr *)&peer, &peer_length) < 0)
        return -errno;
    if (names_equal(&sender, sender_length, &peer, peer_length))
        return 1;
    rc = throw_away(io);
    return rc < 0 ? rc : 0;
}

_Static_assert((int)DATAGRAMS_MAX <= (int)FRAME_BATCH_MAX, "a batch of datagrams fits");

static int receive(struct frame_io *io, struct frame_batch *batch, size_t room)
{
    for (size_t i = 0; i < room; i++)
        batch->frames[i] = (struct datagram){.bytes = batch->bytes + i * DATAGRAM_BYTES, .length = DATAGRAM_BYTES};
    int received = datagrams_receive(io->fd, batch->frames, room);
    batch->count = received > 0 ? (size_t)received : 0;
    return received;
}

/* A full batch is followed by the largest; a near empty one by half of it. */
static void adapt_room(struct frame_io *io, int received)
{
    if (io->has_more)
        io->room = DATAGRAMS_MAX;
    else if (received < (int)io->room / 2 && io->room > FRAME_ROOM_MIN)
        io->room /= 2;
}

static int receive_datagrams(struct frame_io *io, struct frame_batch *batch)
{
    if (io->state == FRAME_IO_CONNECTED) {
        int received = receive(io, batch, io->room);
        io->has_more = received == (int)io->room;
        adapt_room(io, received);
        return received;
    }
    if (io->state == FRAME_IO_LISTENING)
        return adopt_peer(io);

    int rc = head_is_peers(io);
    if (rc <= 0)
        return rc;
    rc = receive(io, batch, 1);
    if (rc == 1 && is_greeting(io, &batch->frames[0])) {
        batch->count = 0;
        return 0;
    }
    return rc;
}

/* A refusal says that the peer's socket is closed; the kernel has dissolved the connection with it, and lets anybody send
 * here (unix_dgram_sendmsg() of Linux). So whoever comes next has to be adopted: a VM that was started again. */
static int send_datagrams(struct frame_io *io, const struct datagram_parts *frames, size_t count)
{
    int sent = datagrams_send(io->fd, frames, count);
    if (sent == -ECONNREFUSED && io->adopts) {
        io->state = FRAME_IO_LISTENING;
        io->greeting_due = true;
        io->has_more = false;
    }
    return sent;
}

/* ---- a stream ----------------------------------------------------------------------------------------------------- */

/* The first to connect is the VM; nobody can after it, because the listening socket goes. */
static int accept_peer(struct frame_io *io)
{
#ifndef OMERTAD_PORTABLE
    int fd SCOPED_FD = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return -errno;
#else
    int fd SCOPED_FD = accept(io->fd, NULL, NULL);
    if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
#endif
    fd_close(&io->fd);
    io->fd = fd_take(&fd);
    io->state = FRAME_IO_CONNECTED;
    return 0;
}

static int receive_stream(struct frame_io *io, struct frame_batch *batch)
{
    if (io->state == FRAME_IO_LISTENING)
        return accept_peer(io);
    int taken = frame_stream_take(&io->stream, batch->bytes, batch->frames, FRAME_BATCH_MAX);
    if (taken == 0) {
        int rc = frame_stream_fill(&io->stream, io->fd, batch->bytes, sizeof batch->bytes);
        if (rc == 0 || rc == -ECONNRESET)
            io->state = FRAME_IO_GONE;
        if (rc <= 0)
            return io->state == FRAME_IO_GONE ? 0 : rc;
        taken = frame_stream_take(&io->stream, batch->bytes, batch->frames, FRAME_BATCH_MAX);
    }
    batch->count = taken > 0 ? (size_t)taken : 0;
    io->has_more = taken == FRAME_BATCH_MAX && frame_stream_has_more(&io->stream);
    return taken;
}

bool frame_io_has_more(const struct frame_io *io)
{
    return io->has_more;
}

/* ---- both --------------------------------------------------------------------------------------------------------- */

int frame_io_receive(struct frame_io *io, struct frame_batch *batch)
{
    batch->count = 0;
    if (io->state == FRAME_IO_GONE)
        return -EAGAIN;
    switch (io->framing) {
    case NAT_FRAMING_DATAGRAM:
        return receive_datagrams(io, batch);
    case NAT_FRAMING_STREAM:
        return receive_stream(io, batch);
    }
    return -EINVAL;
}

int frame_io_send(struct frame_io *io, const struct datagram_parts *frames, size_t count)
{
    if (io->state == FRAME_IO_LISTENING)
        return -ENOTCONN;
    if (io->state == FRAME_IO_GONE)
        return -EPIPE;
    switch (io->framing) {
    case NAT_FRAMING_DATAGRAM:
        return send_datagrams(io, frames, count);
    case NAT_FRAMING_STREAM:
        return frame_stream_send(&io->stream, io->fd, frames, count);
    }
    return -EINVAL;
}

#include "nat/frame_stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/error.h"

enum {
    PREFIX_BYTES = sizeof(be32),
};

_Static_assert((int)PREFIX_BYTES <= (int)DATAGRAM_ROOM, "the length goes into the room before a frame");

static size_t load_length(const uint8_t *at)
{
    be32 length;
    memcpy(&length, at, sizeof length);
    return be32_load(length);
}

static void put_length(uint8_t *at, size_t length)
{
    const be32 prefix = be32_make((uint32_t)length);
    memcpy(at, &prefix, sizeof prefix);
}

/* ---- from the VM -------------------------------------------------------------------------------------------------- */

/* Return: whether nothing is left to skip. */
static bool skip_rest(struct frame_stream *stream)
{
    size_t there = stream->end - stream->start;
    size_t skipped = there < stream->skip ? there : stream->skip;
    stream->start += skipped;
    stream->skip -= skipped;
    return stream->skip == 0;
}

/* Return: 1 with a frame, 0 when the next is not whole, -EPROTO. */
static int take_one(struct frame_stream *stream, uint8_t *bytes, struct datagram *ret_frame)
{
    if (!skip_rest(stream))
        return 0;
    size_t there = stream->end - stream->start;
    if (there < PREFIX_BYTES)
        return 0;
    size_t length = load_length(bytes + stream->start);
    if (length > FRAME_STREAM_LENGTH_MAX)
        return -EPROTO;
    size_t kept = length < DATAGRAM_BYTES ? length : DATAGRAM_BYTES;
    if (there - PREFIX_BYTES < kept)
        return 0;
    *ret_frame = (struct datagram){
        .bytes = bytes + stream->start + PREFIX_BYTES, .length = kept, .truncated = length > DATAGRAM_BYTES};
    stream->start += PREFIX_BYTES + kept;
    stream->skip = length - kept;
    return 1;
}

int frame_stream_take(struct frame_stream *stream, uint8_t *bytes, struct datagram *ret_frames, size_t room)
{
    size_t count = 0;
    int rc = 1;
    while (count < room && (rc = take_one(stream, bytes, &ret_frames[count])) > 0)
        count++;
    return rc < 0 && count == 0 ? rc
                                : (int)count; /* what came before a lie is whole and is judged; the lie stays next */
}

int frame_stream_fill(struct frame_stream *stream, int fd, uint8_t *bytes, size_t capacity)
{
    size_t left = stream->end - stream->start;
    REQUIRE(left < capacity);
    memmove(bytes, bytes + stream->start, left);
    stream->start = 0;
    stream->end = left;
    stream->full = false;
    ssize_t got = recv(fd, bytes + left, capacity - left, MSG_DONTWAIT);
    if (got < 0)
        return -errno;
    stream->end += (size_t)got;
    stream->full = stream->end == capacity;
    return (int)got;
}

bool frame_stream_has_more(const struct frame_stream *stream)
{
    return stream->full || stream->end - stream->start > PREFIX_BYTES;
}

/* ---- to the VM ---------------------------------------------------------------------------------------------------- */

static int send_tail(struct frame_stream *stream, int fd)
{
    while (stream->tail_at < stream->tail_end) {
        ssize_t sent =
            send(fd, stream->tail + stream->tail_at, stream->tail_end - stream->tail_at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0)
            return -errno;
        stream->tail_at += (size_t)sent;
    }
    return 0;
}

/* Keeps what is left of a frame after its first @sent bytes. */
static void keep_tail(struct frame_stream *stream, const struct datagram_parts *frame, size_t sent)
{
    const size_t head = PREFIX_BYTES + frame->head_bytes;
    REQUIRE(head + frame->body_bytes <= sizeof stream->tail);
    memcpy(stream->tail, frame->head - PREFIX_BYTES, head);
    if (frame->body_bytes > 0)
        memcpy(stream->tail + head, frame->body, frame->body_bytes);
    stream->tail_at = sent;
    stream->tail_end = head + frame->body_bytes;
}

/* Return: number of frames that @sent bytes are, the last perhaps in part. */
static int account(struct frame_stream *stream, const struct datagram_parts *frames, size_t sent)
{
    int taken = 0;
    for (; sent > 0; taken++) {
        size_t bytes = PREFIX_BYTES + frames[taken].head_bytes + frames[taken].body_bytes;
        if (sent < bytes)
            keep_tail(stream, &frames[taken], sent);
        sent -= sent < bytes ? sent : bytes;
    }
    return taken;
}

int frame_stream_send(struct frame_stream *stream, int fd, const struct datagram_parts *frames, size_t count)
{
    REQUIRE(count <= DATAGRAMS_MAX);
    int rc = send_tail(stream, fd);
    if (rc < 0)
        return rc;
    struct iovec parts[2 * DATAGRAMS_MAX];
    for (size_t i = 0; i < count; i++) {
        put_length(frames[i].head - PREFIX_BYTES, frames[i].head_bytes + frames[i].body_bytes);
        datagrams_point_at(&frames[i], &parts[2 * i]);
        parts[2 * i].iov_base = frames[i].head - PREFIX_BYTES;
        parts[2 * i].iov_len += PREFIX_BYTES;
    }
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = 2 * count};
    ssize_t sent = sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : account(stream, frames, (size_t)sent);
}

/* Ethernet frames over a unix stream, each behind its length as four bytes, most significant first: QEMU's
 * `-netdev stream`.
 *
 * A read brings as many frames as the buffer holds, so what a system call costs is shared by fifty frames and more, and none
 * of them is copied: they are judged, and their payloads sent on, where the read has put them. The few bytes of a frame that
 * is not whole yet move to the buffer's begin before the next read. */
#ifndef NAT_FRAME_STREAM_H
#define NAT_FRAME_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/datagrams.h"

enum frame_stream_limits {
    /* QEMU's own limit for a frame (NET_BUFSIZE). What claims more is no frame: the two ends have lost each other. */
    FRAME_STREAM_LENGTH_MAX = 4096 + 65536,
};

/**
 * struct frame_stream - Both directions of one stream. Owner: its frame_io. All zeros to begin with
 * @start: of what is buffered and not handed out yet
 * @end:   of what is buffered
 * @full:  the last read filled the buffer, so there may be more where it came from
 * @skip:  bytes still to come of a frame that is longer than any buffer, of which the begin was handed out
 * @tail:  what the stream has not taken of the last frame sent; it goes before any other
 */
struct frame_stream {
    size_t start;
    size_t end;
    bool full;
    size_t skip;
    size_t tail_at;
    size_t tail_end;
    uint8_t tail[DATAGRAM_ROOM + DATAGRAM_BYTES];
};

/**
 * frame_stream_take() - The next whole frames of the buffer
 * @bytes:      the buffer that frame_stream_fill() fills
 * @ret_frames: point into it; one above DATAGRAM_BYTES has its first DATAGRAM_BYTES and is marked as truncated
 * @room:       how many fit
 * Return:      number of frames, 0 when none is whole; -EPROTO for a length that no frame has
 * Thread:      the owner
 */
int frame_stream_take(struct frame_stream *stream, uint8_t *bytes, struct datagram *ret_frames, size_t room);

/**
 * frame_stream_fill() - Read once, without waiting; what was handed out before is gone then
 * @capacity: of @bytes, above DATAGRAM_ROOM + DATAGRAM_BYTES
 * Return:    bytes read; 0 when the other end has closed; -EAGAIN, or what the system said
 * Thread:    the owner
 */
int frame_stream_fill(struct frame_stream *stream, int fd, uint8_t *bytes, size_t capacity);

/** frame_stream_has_more() - Whether another look is worth it whatever poll(2) says. Thread: the owner */
bool frame_stream_has_more(const struct frame_stream *stream);

/**
 * frame_stream_send() - Send frames in order, without waiting
 * @count: at most DATAGRAMS_MAX
 * Return: number taken over, at least 1, of which the last may wait in part to be sent before the next; -EAGAIN, or what the
 *         system said
 * Thread: the owner
 */
int frame_stream_send(struct frame_stream *stream, int fd, const struct datagram_parts *frames, size_t count);

#endif

/* Batches of datagrams on one socket: recvmmsg and sendmmsg where the system has them, one call a datagram where not. */
#ifndef NAT_DATAGRAMS_H
#define NAT_DATAGRAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum datagrams_limits {
    DATAGRAMS_MAX = 64, /* a batch; more gains nothing measurable and costs buffer memory */
    DATAGRAM_ROOM = 4,
    DATAGRAM_BYTES = 1600, /* a buffer: above 14 + NAT_MTU_MAX, so that a longer datagram shows by filling it */
};

/**
 * struct datagram - One message
 * @bytes:     where it is or goes
 * @length:    to send; or received, at most what there was room for
 * @truncated: the message was longer than the room
 *
 * Owner: the batch that it is in.
 */
struct datagram {
    uint8_t *bytes;
    size_t length;
    bool truncated;
};

/**
 * datagrams_receive() - Take what is there, without waiting
 * @fd:       datagram socket
 * @messages: @count of them, with @length as the room at @bytes; the first returned ones are filled
 * @count:    at most DATAGRAMS_MAX
 * Return:    number received, -EAGAIN when there was nothing, or what the system said
 * Thread:    any, one at a time for each socket
 * Source:    recvmmsg(2)
 */
int datagrams_receive(int fd, struct datagram *messages, size_t count);

/**
 * struct datagram_parts - A message to send: a head and a body that lie apart
 * @head: DATAGRAM_ROOM bytes before it belong to whoever sends it (a stream puts the frame's length there)
 *
 * Owner: the caller; the bytes are in its buffers.
 */
struct datagram_parts {
    uint8_t *head;
    size_t head_bytes;
    const uint8_t *body;
    size_t body_bytes;
};

/**
 * datagrams_send() - Send in order, without waiting
 * @fd:       connected datagram socket
 * @count:    at most DATAGRAMS_MAX
 * Return:    number sent, at least 1; or, when not even the first went, -EAGAIN or what the system said
 * Thread:    any, one at a time for each socket
 * Source:    sendmmsg(2)
 */
int datagrams_send(int fd, const struct datagram_parts *messages, size_t count);

/**
 * datagrams_point_at() - The two parts of a message for writev(2) and its like
 * Thread: any
 */
void datagrams_point_at(const struct datagram_parts *message, struct iovec ret_parts[static 2]);

#endif

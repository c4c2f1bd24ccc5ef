/* UDP sockets towards the consumer, one a flow, each connected: the kernel itself refuses datagrams from anybody else.
 *
 * What makes it fast is that the kernel's stack is walked once for many datagrams. Out, payloads of one size leave as one
 * message (UDP_SEGMENT), straight from the buffers that their frames came in. Back, the kernel joins datagrams of one
 * size (UDP_GRO), and they are taken apart in place. Where the kernel or the link refuses that, or the system has not got
 * it (PORTABLE=1), the same functions send and receive one by one. */
#ifndef NAT_UPLINK_H
#define NAT_UPLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/datagrams.h"
#include "nat/flow.h"
#include "nat/marks.h"

enum uplink_limits {
    UPLINK_RUN_MAX = MARKS_MAX,         /* payloads handed over at once: as many as one message takes at best */
    UPLINK_RECEIVE_BYTES = 1024 * 1024, /* bursts of 1,000 full datagrams; the default loses 5 % of them */
    UPLINK_REFUSALS_MAX = 4, /* messages of several datagrams that a socket may be refused; then it sends one by one */
#ifndef OMERTAD_PORTABLE
    UPLINK_MESSAGES = 4, /* a receive call's; more gains nothing measurable, and each may take 64 KiB */
    UPLINK_MESSAGE_BYTES = 64 * 1024,
#else
    UPLINK_MESSAGES = 64,
    UPLINK_MESSAGE_BYTES = DATAGRAM_BYTES,
#endif
};

/**
 * struct uplink - The sockets, by flow slot. Owner: the NAT thread
 * @fds:       -1 where there is none
 * @consumers: whom each is connected to
 * @largest:   largest payload that this socket's messages may carry more than one of, as far as the kernel has told
 * @segments:  payloads that a message may carry, as far as the kernel has told
 * @refusals:  how often it has refused one for another reason
 * @strangers: datagrams that came between the making of a socket and its connection, thrown away
 */
struct uplink {
    int fds[FLOW_MAX];
    struct nat_endpoint consumers[FLOW_MAX];
    size_t largest[FLOW_MAX];
    uint8_t segments[FLOW_MAX];
    uint8_t refusals[FLOW_MAX];
    uint64_t strangers;
};

/** struct uplink_run - Payloads of one flow, in order. Owner: the caller; the bytes are in its buffers, and are only read. */
struct uplink_run {
    size_t count;
    struct iovec payloads[UPLINK_RUN_MAX];
};

/** struct uplink_sent - What became of a run. */
struct uplink_sent {
    size_t done;          /* payloads that need no further thought: sent or refused */
    struct marks refused; /* those of the run that the system will not take, ever */
};

/**
 * struct uplink_message - What the kernel handed over at once: @length bytes, cut every @segment bytes
 * @segment: 0 when @length is
 *
 * Owner: the batch. Only the last segment may be shorter.
 */
struct uplink_message {
    size_t length;
    size_t segment;
    bool truncated; /* there was more than fits a buffer */
    uint8_t bytes[UPLINK_MESSAGE_BYTES];
};

/** struct uplink_batch - Owner: the NAT thread. One for all flows: only one is read at a time. */
struct uplink_batch {
    size_t count;
    struct uplink_message *messages[UPLINK_MESSAGES]; /* those of the consumer, in order */
    struct uplink_message places[UPLINK_MESSAGES];
};

/** uplink_init() - No sockets yet. Thread: the owner */
void uplink_init(struct uplink *uplink);

/**
 * uplink_open() - Make the socket of a slot; one that is there is closed first
 * @listens: false: nothing will be received, so the system keeps next to nothing for it
 * Return: 0 or what the system said
 * Thread: the owner
 * Source: ip(7), IP_MTU_DISCOVER
 */
int uplink_open(struct uplink *uplink, int slot, struct nat_endpoint consumer, bool listens);

/**
 * uplink_move() - Connect a slot to another endpoint, from the local port that it had where that is still free
 *
 * A consumer that has moved keeps sending to the port that it knows. Datagrams that the old socket still holds are gone.
 *
 * Return: 0 or what the system said; the slot has no socket then
 * Thread: the owner
 */
int uplink_move(struct uplink *uplink, int slot, struct nat_endpoint consumer);

/**
 * uplink_resume() - As uplink_open(), from the local port that another socket had before, where that is free
 * Thread: the owner
 */
int uplink_resume(struct uplink *uplink, int slot, struct nat_endpoint consumer, uint16_t local_port);

/** uplink_local_port() - The port that the consumer sees. Return: 0 when the system does not tell. Thread: the owner */
uint16_t uplink_local_port(const struct uplink *uplink, int slot);

/** uplink_close() - Close the sockets of these slots. @slots: one bit a slot. Thread: the owner */
void uplink_close(struct uplink *uplink, uint64_t slots);

/**
 * uplink_send() - Send payloads of one flow in order, without waiting
 * @run:   at least one payload
 * @from:  index of the first payload to send
 * Return: what was done with those from @from on. When it is not all of them the link is busy: the rest is to be offered
 *         again
 * Thread: the owner
 *
 * An ICMP error that an earlier datagram brought is reported by the next send: that send is tried again, once. A message
 * of several datagrams that the kernel or the link does not take is sent one by one, and so are later ones.
 */
struct uplink_sent uplink_send(struct uplink *uplink, int slot, const struct uplink_run *run, size_t from);

/**
 * uplink_receive() - Take what is there for one flow, without waiting
 * @batch: filled
 * Return: number of messages taken from the queue, those of strangers included; 0 when there was nothing. Errors that ICMP
 *         brought count as nothing; else what the system said
 * Thread: the owner
 */
int uplink_receive(struct uplink *uplink, int slot, struct uplink_batch *batch);

#endif

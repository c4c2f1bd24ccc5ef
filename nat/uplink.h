/* UDP sockets towards the consumer, one a flow, each connected: the kernel itself refuses datagrams from anybody else. */
#ifndef NAT_UPLINK_H
#define NAT_UPLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/datagrams.h"
#include "nat/flow.h"

enum uplink_limits {
    UPLINK_RECEIVE_BYTES = 1024 * 1024, /* bursts of 1,000 full datagrams; the default loses 5 % of them */
    UPLINK_SEND_WAIT_MS = 5,            /* when the link is busy; then the datagram is dropped */
};

/** struct uplink - The socket of each flow slot, -1 where there is none. Owner: the NAT thread. */
struct uplink {
    int fds[FLOW_MAX];
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

/** uplink_close() - Close the sockets of these slots. @slots: one bit a slot. Thread: the owner */
void uplink_close(struct uplink *uplink, uint64_t slots);

/** struct uplink_sent - What became of a run of payloads. */
struct uplink_sent {
    uint64_t packets;
    uint64_t payload_bytes;
};

/**
 * uplink_send() - Send payloads of one flow in order
 * Return: how many went; one that the system refuses is left out and the next is tried
 * Thread: the owner
 *
 * An ICMP error that an earlier datagram brought is reported by the next send: that send is tried again, once.
 */
struct uplink_sent uplink_send(struct uplink *uplink, int slot, const struct datagram *payloads, size_t count);

/**
 * uplink_receive() - Take datagrams of one flow, without waiting
 * Return: as datagrams_receive(); errors that ICMP brought count as nothing received
 * Thread: the owner
 */
int uplink_receive(struct uplink *uplink, int slot, struct datagram *payloads, size_t count);

#endif

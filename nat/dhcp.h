/* Local DHCP answers: the leased address, whatever the guest asks for. No DNS server is ever named. */
#ifndef NAT_DHCP_H
#define NAT_DHCP_H

#include <stddef.h>
#include <stdint.h>

#include "nat/nat.h"
#include "nat/packet.h"

enum dhcp_limits {
    DHCP_FRAME_BYTES = 42 + 300, /* RFC 951 section 3: a BOOTP message is 300 bytes at least, and ours fits */
    DHCP_LEASE_S = 86400,
};

enum dhcp_message { DHCP_NONE = 0, DHCP_DISCOVER = 1, DHCP_OFFER = 2, DHCP_REQUEST = 3, DHCP_ACK = 5 };

/**
 * dhcp_message_type() - Walk the options of a request to its message type
 * @options: bytes after the magic cookie
 * @length:  number of them
 * Return:   the value of option 53, DHCP_NONE when it is missing or an option reaches past the end
 * Thread:   any
 * Source:   RFC 2132 sections 2 and 9.6
 */
/*@ requires \valid_read(options + (0 .. length - 1));
    assigns \nothing; */
uint8_t dhcp_message_type(const uint8_t *options, size_t length);

/**
 * dhcp_answer() - Compose the offer or the acknowledgement
 * @packet:    judged NAT_REASON_DHCP
 * @ret_frame: apart from the transaction number and the message type it depends on the link alone
 * Return:     DHCP_FRAME_BYTES, or 0 when there is nothing to say
 * Thread:     any
 * Source:     RFC 2131 section 4.3
 */
size_t dhcp_answer(const struct packet *packet, const struct nat_link *link,
                   uint8_t ret_frame[static DHCP_FRAME_BYTES]);

#endif

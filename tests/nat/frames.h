/* Frames as a guest would send them, for the tests of nat/. */
#ifndef TESTS_NAT_FRAMES_H
#define TESTS_NAT_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#include "nat/nat.h"
#include "nat/packet.h"
#include "nat/verdict.h"

enum frames_limits {
    FRAME_BYTES = 2048,
};

/* Addresses that every test uses. */
extern const struct nat_link test_link;
extern const struct nat_endpoint test_guest;    /* 192.168.64.2:40000 */
extern const struct nat_endpoint test_consumer; /* 198.51.100.2:51900 */
extern const struct nat_policy test_policy;     /* filtered, generation 1, test_consumer alone */

/** struct frame - Bytes and how many. */
struct frame {
    size_t length;
    uint8_t bytes[FRAME_BYTES];
};

/** frame_udp() - A right UDP frame from @from to @to with @payload_bytes of a counting pattern. */
struct frame frame_udp(struct nat_endpoint from, struct nat_endpoint to, size_t payload_bytes);

/** frame_ipv4() - A right IPv4 packet of any protocol; the payload is a counting pattern. */
struct frame frame_ipv4(uint8_t protocol, uint32_t from, uint32_t to, size_t payload_bytes);

/** frame_arp() - An ARP request or reply. */
struct frame frame_arp(uint16_t operation, uint32_t sender_ip, uint32_t target_ip);

/** frame_dhcp() - A DHCP message of one type with @transaction. */
struct frame frame_dhcp(uint8_t type, uint32_t transaction);

/** frame_fix_ipv4() - Make the IPv4 header checksum right again after a change. */
void frame_fix_ipv4(struct frame *frame);

/** frame_fix_udp() - Make the UDP checksum right again after a change. */
void frame_fix_udp(struct frame *frame);

/** frame_parse() - packet_parse() over a copy on the heap of exactly the frame's length, so that a sanitizer sees any
 * read past its end; the payload pointer is moved back into @frame. */
struct packet frame_parse(const struct frame *frame);

/** frame_verdict() - Parse and judge with the test's link, this policy, and a memory of the test's or NULL for a fresh one. */
struct verdict frame_verdict(const struct frame *frame, const struct nat_policy *policy, struct verdict_memory *memory);

/** frame_reason() - Parse and judge with the test's link and policy. */
enum nat_reason frame_reason(const struct frame *frame);

#endif

/* One frame as a pcapng file, for Wireshark and its kind. Pure. */
#ifndef API_RESOURCE_PCAPNG_H
#define API_RESOURCE_PCAPNG_H

#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

#define PCAPNG_MEDIA_TYPE "application/vnd.tcpdump.pcap" /* registered for pcap and used for pcapng too */

enum pcapng_limits {
    PCAPNG_COMMENT_BYTES = 256,
    /* Section header 28, interface description 20, enhanced packet 32 with frame, comment's head 4 and the end of options
     * 4; frame and comment are padded to four bytes. */
    PCAPNG_BYTES = 28 + 20 + 32 + STORE_EVIDENCE_BYTES + 4 + PCAPNG_COMMENT_BYTES + 4,
};

/** struct pcapng_frame - What is known of one frame. */
struct pcapng_frame {
    uint64_t at_ms;          /* since 1970 */
    uint32_t original_bytes; /* of the frame on its wire */
    const uint8_t *bytes;    /* its first ones */
    size_t length;           /* STORE_EVIDENCE_BYTES at most */
    const char *comment;     /* UTF-8; cut at PCAPNG_COMMENT_BYTES */
};

/**
 * pcapng_write() - A whole file: section, Ethernet interface, one packet with its comment
 * Return: number of bytes written
 * Thread: any
 * Source: draft-ietf-opsawg-pcapng sections 4.1 to 4.3; little-endian on every machine
 */
size_t pcapng_write(const struct pcapng_frame *frame, uint8_t ret_bytes[static PCAPNG_BYTES]);

#endif

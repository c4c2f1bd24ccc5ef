#include "api/resource/pcapng.h"

#include <string.h>

#include "base/error.h"

enum {
    BLOCK_SECTION = 0x0a0d0d0a,
    BLOCK_INTERFACE = 1,
    BLOCK_PACKET = 6, /* enhanced packet block */
    BYTE_ORDER = 0x1a2b3c4d,
    LINK_ETHERNET = 1,
    OPTION_COMMENT = 1,
    BLOCK_HEAD = 8, /* type and length */
    BLOCK_TAIL = 4, /* length again, so that a file can be read backwards */
};

_Static_assert(STORE_EVIDENCE_BYTES % 4 == 0 && PCAPNG_COMMENT_BYTES % 4 == 0,
               "padding never adds to the longest ones");

/* What was written so far; it holds the largest file. */
struct writer {
    size_t used;
    uint8_t bytes[PCAPNG_BYTES];
};

static void put_u16(struct writer *writer, uint32_t value)
{
    writer->bytes[writer->used++] = (uint8_t)(value & 0xff);
    writer->bytes[writer->used++] = (uint8_t)(value >> 8 & 0xff);
}

static void put_u32(struct writer *writer, uint32_t value)
{
    put_u16(writer, value & 0xffff);
    put_u16(writer, value >> 16);
}

static void put_padded(struct writer *writer, const void *bytes, size_t length)
{
    if (length > 0)
        memcpy(writer->bytes + writer->used, bytes, length);
    writer->used += length;
    for (; length % 4 != 0; length++)
        writer->bytes[writer->used++] = 0;
}

static void put_section(struct writer *writer)
{
    const uint32_t length = BLOCK_HEAD + 16 + BLOCK_TAIL;
    put_u32(writer, BLOCK_SECTION);
    put_u32(writer, length);
    put_u32(writer, BYTE_ORDER);
    put_u16(writer, 1); /* version 1.0 */
    put_u16(writer, 0);
    put_u32(writer, UINT32_MAX); /* section length: not said */
    put_u32(writer, UINT32_MAX);
    put_u32(writer, length);
}

/* Without options: times are microseconds then. */
static void put_interface(struct writer *writer)
{
    const uint32_t length = BLOCK_HEAD + 8 + BLOCK_TAIL;
    put_u32(writer, BLOCK_INTERFACE);
    put_u32(writer, length);
    put_u16(writer, LINK_ETHERNET);
    put_u16(writer, 0);
    put_u32(writer, STORE_EVIDENCE_BYTES);
    put_u32(writer, length);
}

static uint32_t padded(size_t length)
{
    return (uint32_t)((length + 3) & ~(size_t)3);
}

static void put_packet(struct writer *writer, const struct pcapng_frame *frame)
{
    const uint64_t at_us = frame->at_ms * 1000;
    const size_t comment = strnlen(frame->comment, PCAPNG_COMMENT_BYTES);
    const uint32_t original = frame->original_bytes > frame->length ? frame->original_bytes : (uint32_t)frame->length;
    const uint32_t length = BLOCK_HEAD + 20 + padded(frame->length) + 4 + padded(comment) + 4 + BLOCK_TAIL;
    put_u32(writer, BLOCK_PACKET);
    put_u32(writer, length);
    put_u32(writer, 0); /* the only interface */
    put_u32(writer, (uint32_t)(at_us >> 32));
    put_u32(writer, (uint32_t)(at_us & UINT32_MAX));
    put_u32(writer, (uint32_t)frame->length);
    put_u32(writer, original);
    put_padded(writer, frame->bytes, frame->length);
    put_u16(writer, OPTION_COMMENT);
    put_u16(writer, (uint32_t)comment);
    put_padded(writer, frame->comment, comment);
    put_u32(writer, 0); /* end of options */
    put_u32(writer, length);
}

size_t pcapng_write(const struct pcapng_frame *frame, uint8_t ret_bytes[static PCAPNG_BYTES])
{
    REQUIRE(frame->length <= STORE_EVIDENCE_BYTES);
    struct writer writer = {0};
    put_section(&writer);
    put_interface(&writer);
    put_packet(&writer, frame);
    REQUIRE(writer.used <= PCAPNG_BYTES);
    memcpy(ret_bytes, writer.bytes, writer.used);
    return writer.used;
}

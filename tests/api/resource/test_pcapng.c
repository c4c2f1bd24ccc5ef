#include "api/resource/pcapng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cmocka.h"

/* A second reader of the format, that trusts nothing. */
static uint32_t u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint32_t u16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
}

/* Offset of the block after the one at @at; its two lengths must agree. */
static size_t next_block(const uint8_t *bytes, size_t total, size_t at)
{
    assert_true(at + 12 <= total);
    uint32_t length = u32(bytes + at + 4);
    assert_int_equal(length % 4, 0);
    assert_true(length >= 12 && at + length <= total);
    assert_int_equal(u32(bytes + at + length - 4), length);
    return at + length;
}

static void a_file_of_each_length_reads_back(void **state)
{
    (void)state;
    static const char *const comments[] = {"", "a", "ab", "abc", "abcd", "omertad: fragment"};
    uint8_t frame[STORE_EVIDENCE_BYTES];
    for (size_t i = 0; i < sizeof frame; i++)
        frame[i] = (uint8_t)(i + 1);
    for (size_t length = 0; length <= STORE_EVIDENCE_BYTES; length++) {
        const char *comment = comments[length % 6];
        uint8_t bytes[PCAPNG_BYTES];
        const struct pcapng_frame given = {.at_ms = UINT64_C(1700000000123),
                                           .original_bytes = 1514,
                                           .bytes = frame,
                                           .length = length,
                                           .comment = comment};
        size_t total = pcapng_write(&given, bytes);
        size_t interface = next_block(bytes, total, 0);
        size_t packet = next_block(bytes, total, interface);
        assert_int_equal(next_block(bytes, total, packet), total);
        assert_int_equal(u32(bytes), 0x0a0d0d0a);
        assert_int_equal(u32(bytes + 8), 0x1a2b3c4d);
        assert_int_equal(u32(bytes + interface), 1);
        assert_int_equal(u16(bytes + interface + 8), 1);   /* Ethernet */
        assert_int_equal(u32(bytes + interface + 12), 96); /* snapshot length */
        assert_int_equal(u32(bytes + packet), 6);
        uint64_t at_us = (uint64_t)u32(bytes + packet + 12) << 32 | u32(bytes + packet + 16);
        assert_int_equal(at_us, UINT64_C(1700000000123000));
        assert_int_equal(u32(bytes + packet + 20), length);
        assert_int_equal(u32(bytes + packet + 24), 1514);
        assert_memory_equal(bytes + packet + 28, frame, length);
        const uint8_t *option = bytes + packet + 28 + (length + 3) / 4 * 4;
        assert_int_equal(u16(option), 1);
        assert_int_equal(u16(option + 2), strlen(comment));
        assert_memory_equal(option + 4, comment, strlen(comment));
    }
}

static void the_longest_comment_and_frame_fill_the_buffer_exactly(void **state)
{
    (void)state;
    char comment[PCAPNG_COMMENT_BYTES + 20];
    uint8_t frame[STORE_EVIDENCE_BYTES] = {0};
    uint8_t bytes[PCAPNG_BYTES];
    memset(comment, 'c', sizeof comment - 1);
    comment[sizeof comment - 1] = '\0';
    const struct pcapng_frame given = {.bytes = frame, .length = sizeof frame, .comment = comment};
    assert_int_equal(pcapng_write(&given, bytes), PCAPNG_BYTES);
}

static void an_original_shorter_than_what_was_kept_is_not_believed(void **state)
{
    (void)state;
    uint8_t frame[60] = {0};
    uint8_t bytes[PCAPNG_BYTES];
    const struct pcapng_frame given = {.original_bytes = 10, .bytes = frame, .length = 60, .comment = ""};
    pcapng_write(&given, bytes);
    assert_int_equal(u32(bytes + 48 + 24), 60);
}

/* The first line that a command prints. */
static void run(const char *command, char *ret_line, size_t capacity)
{
    ret_line[0] = '\0';
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    if (fgets(ret_line, (int)capacity, pipe) == NULL)
        ret_line[0] = '\0';
    pclose(pipe);
}

static void wireshark_s_reader_shows_frame_and_comment(void **state)
{
    (void)state;
    /* Ethernet, IPv4 from 192.168.64.2 to 198.51.100.7, UDP 40000 to 53. */
    static const uint8_t frame[] = {2,    0, 0,   0,    0,   1, 2,    0,    0,    0,    0,    2,    8,   0,
                                    0x45, 0, 0,   0x1c, 0,   1, 0,    0,    0x40, 0x11, 0x8b, 0xc9, 192, 168,
                                    64,   2, 198, 51,   100, 7, 0x9c, 0x40, 0,    53,   0,    8,    0,   0};
    char path[] = "/tmp/omertad-pcapng-XXXXXX";
    char line[512];
    uint8_t bytes[PCAPNG_BYTES];
    run("command -v tshark", line, sizeof line);
    if (line[0] == '\0')
        skip();
    const struct pcapng_frame given = {.at_ms = UINT64_C(1700000000123),
                                       .original_bytes = 90,
                                       .bytes = frame,
                                       .length = sizeof frame,
                                       .comment = "omertad: destination_not_allowed"};
    size_t length = pcapng_write(&given, bytes);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), (ssize_t)length);
    close(fd);
    char command[256];
    snprintf(command, sizeof command,
             "TZ=UTC tshark -r %s -T fields -E separator=';' -e frame.comment -e frame.len -e frame.cap_len -e ip.dst"
             " -e udp.dstport -e frame.time_epoch 2>/dev/null",
             path);
    run(command, line, sizeof line);
    unlink(path);
    assert_string_equal(line, "omertad: destination_not_allowed;90;42;198.51.100.7;53;1700000000.123000000\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_of_each_length_reads_back),
        cmocka_unit_test(the_longest_comment_and_frame_fill_the_buffer_exactly),
        cmocka_unit_test(an_original_shorter_than_what_was_kept_is_not_believed),
        cmocka_unit_test(wireshark_s_reader_shows_frame_and_comment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

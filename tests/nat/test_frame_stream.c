#include "tests/cmocka.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/scope.h"
#include "nat/frame_stream.h"

enum { BUFFER_BYTES = 8192, ROOM = 64 };

struct lab {
    int ours;
    int theirs;
    struct frame_stream stream;
    uint8_t *bytes; /* on the heap, so that a sanitizer sees what is read past its end */
    struct datagram frames[ROOM];
};

static void open_lab(struct lab *lab)
{
    int ends[2];
    memset(lab, 0, sizeof *lab);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    lab->ours = ends[0];
    lab->theirs = ends[1];
    assert_int_equal(fcntl(lab->theirs, F_SETFL, O_NONBLOCK), 0);
    lab->bytes = malloc(BUFFER_BYTES);
    assert_non_null(lab->bytes);
}

static void close_lab(struct lab *lab)
{
    fd_close(&lab->ours);
    fd_close(&lab->theirs);
    free(lab->bytes);
}

static size_t put_frame(uint8_t *at, size_t length, uint8_t first)
{
    const uint32_t prefix = htonl((uint32_t)length);
    memcpy(at, &prefix, sizeof prefix);
    for (size_t i = 0; i < length; i++)
        at[sizeof prefix + i] = (uint8_t)(first + i);
    return sizeof prefix + length;
}

static void is_frame(const struct datagram *frame, size_t length, uint8_t first)
{
    assert_int_equal(frame->length, length);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(frame->bytes[i], (uint8_t)(first + i));
}

/* Takes what is there. Return: number of frames, or negative. */
static int next_frames(struct lab *lab)
{
    int rc = frame_stream_fill(&lab->stream, lab->ours, lab->bytes, BUFFER_BYTES);
    return rc < 0 ? rc : frame_stream_take(&lab->stream, lab->bytes, lab->frames, ROOM);
}

static void frames_are_whole_however_the_bytes_come(void **state)
{
    (void)state;
    static const size_t sizes[] = {60, 0, 1514, 1, 1600, 14, 1599};
    uint8_t wire[8192];
    size_t length = 0;
    for (size_t i = 0; i < 7; i++)
        length += put_frame(wire + length, sizes[i], (uint8_t)i);
    for (size_t piece = 1; piece < 1700; piece += piece < 10 ? 1 : 97) {
        struct lab lab;
        open_lab(&lab);
        size_t seen = 0;
        for (size_t at = 0; at < length; at += piece) {
            size_t some = length - at < piece ? length - at : piece;
            assert_int_equal(send(lab.theirs, wire + at, some, 0), some);
            int count = next_frames(&lab);
            assert_true(count >= 0);
            for (int i = 0; i < count; i++, seen++) {
                assert_false(lab.frames[i].truncated);
                is_frame(&lab.frames[i], sizes[seen], (uint8_t)seen);
            }
        }
        assert_int_equal(seen, 7);
        assert_int_equal(lab.stream.start, lab.stream.end);
        close_lab(&lab);
    }
}

static void more_frames_than_there_is_room_for_stay(void **state)
{
    (void)state;
    struct lab lab;
    open_lab(&lab);
    uint8_t wire[8000];
    size_t length = 0;
    for (size_t i = 0; i < 100; i++)
        length += put_frame(wire + length, 20, (uint8_t)i);
    assert_int_equal(send(lab.theirs, wire, length, 0), length);
    assert_int_equal(next_frames(&lab), ROOM);
    is_frame(&lab.frames[63], 20, 63);
    assert_int_equal(frame_stream_take(&lab.stream, lab.bytes, lab.frames, ROOM), 36);
    is_frame(&lab.frames[35], 20, 99);
    assert_int_equal(frame_stream_take(&lab.stream, lab.bytes, lab.frames, ROOM), 0);
    close_lab(&lab);
}

static void a_frame_longer_than_any_buffer_is_passed_over(void **state)
{
    (void)state;
    static const size_t sizes[] = {1601, 9014, 65535, FRAME_STREAM_LENGTH_MAX};
    static uint8_t wire[2 * FRAME_STREAM_LENGTH_MAX];
    for (size_t s = 0; s < 4; s++) {
        struct lab lab;
        open_lab(&lab);
        size_t length = put_frame(wire, sizes[s], 7);
        length += put_frame(wire + length, 60, 9);
        size_t at = 0;
        int long_ones = 0;
        int right_ones = 0;
        while (at < length || right_ones == 0) {
            ssize_t sent = at < length ? send(lab.theirs, wire + at, length - at < 4000 ? length - at : 4000, 0) : 0;
            at += sent > 0 ? (size_t)sent : 0;
            int count = next_frames(&lab);
            assert_true(count >= 0);
            for (int i = 0; i < count; i++) {
                if (lab.frames[i].truncated) {
                    is_frame(&lab.frames[i], DATAGRAM_BYTES, 7);
                    long_ones++;
                } else {
                    is_frame(&lab.frames[i], 60, 9);
                    right_ones++;
                }
            }
        }
        assert_int_equal(long_ones, 1);
        assert_int_equal(right_ones, 1);
        close_lab(&lab);
    }
}

static void a_length_that_no_frame_has_ends_the_stream_after_what_came_before(void **state)
{
    (void)state;
    static const uint32_t lies[] = {FRAME_STREAM_LENGTH_MAX + 1, UINT32_MAX, 0x80000000, 0x56464b54};
    for (size_t i = 0; i < 4; i++) {
        struct lab lab;
        open_lab(&lab);
        uint8_t wire[256];
        size_t length = put_frame(wire, 60, 1);
        const uint32_t prefix = htonl(lies[i]);
        memcpy(wire + length, &prefix, sizeof prefix);
        assert_int_equal(send(lab.theirs, wire, length + 4, 0), length + 4);
        assert_int_equal(next_frames(&lab), 1);
        is_frame(&lab.frames[0], 60, 1);
        assert_int_equal(frame_stream_take(&lab.stream, lab.bytes, lab.frames, ROOM), -EPROTO);
        close_lab(&lab);
    }
}

static void the_end_is_told_from_silence(void **state)
{
    (void)state;
    struct lab lab;
    open_lab(&lab);
    assert_int_equal(frame_stream_fill(&lab.stream, lab.ours, lab.bytes, BUFFER_BYTES), -EAGAIN);
    fd_close(&lab.theirs);
    assert_int_equal(frame_stream_fill(&lab.stream, lab.ours, lab.bytes, BUFFER_BYTES), 0);
    close_lab(&lab);
}

static void frames_for_the_vm_are_whole_whatever_the_stream_takes(void **state)
{
    (void)state;
    struct lab lab;
    open_lab(&lab);
    const int small = 4096; /* the system's smallest is a little more: it takes parts of frames */
    assert_int_equal(setsockopt(lab.ours, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    static uint8_t heads[DATAGRAMS_MAX][DATAGRAM_ROOM + 42];
    static uint8_t body[1472];
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)(i * 5);
    struct datagram_parts frames[DATAGRAMS_MAX];
    for (size_t i = 0; i < DATAGRAMS_MAX; i++) {
        memset(heads[i], (int)i, sizeof heads[i]);
        frames[i] =
            (struct datagram_parts){heads[i] + DATAGRAM_ROOM, 42, i % 5 == 0 ? NULL : body, i % 5 == 0 ? 0 : 1000 + i};
    }
    size_t sent = 0;
    size_t read = 0;
    size_t stuck = 0;
    struct lab reader = {.ours = lab.theirs, .bytes = malloc(BUFFER_BYTES)};
    assert_non_null(reader.bytes);
    while (read < DATAGRAMS_MAX) {
        int rc =
            sent < DATAGRAMS_MAX ? frame_stream_send(&lab.stream, lab.ours, frames + sent, DATAGRAMS_MAX - sent) : 0;
        if (sent == DATAGRAMS_MAX && lab.stream.tail_at < lab.stream.tail_end)
            rc = frame_stream_send(&lab.stream, lab.ours, frames, 0);
        stuck += lab.stream.tail_at < lab.stream.tail_end;
        assert_true(rc >= 0 || rc == -EAGAIN);
        sent += rc > 0 ? (size_t)rc : 0;
        int count = next_frames(&reader);
        for (int i = 0; i < count; i++, read++) {
            const struct datagram *frame = &reader.frames[i];
            assert_int_equal(frame->length, 42 + frames[read].body_bytes);
            for (size_t at = 0; at < 42; at++)
                assert_int_equal(frame->bytes[at], (uint8_t)read);
            if (frames[read].body_bytes > 0)
                assert_memory_equal(frame->bytes + 42, body, frames[read].body_bytes);
        }
    }
    assert_true(stuck > 0);
    free(reader.bytes);
    close_lab(&lab);
}

static void a_vm_that_is_gone_is_told(void **state)
{
    (void)state;
    struct lab lab;
    open_lab(&lab);
    fd_close(&lab.theirs);
    uint8_t head[DATAGRAM_ROOM + 42] = {0};
    struct datagram_parts frame = {.head = head + DATAGRAM_ROOM, .head_bytes = 42};
    assert_int_equal(frame_stream_send(&lab.stream, lab.ours, &frame, 1), -EPIPE);
    close_lab(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_whole_however_the_bytes_come),
        cmocka_unit_test(more_frames_than_there_is_room_for_stay),
        cmocka_unit_test(a_frame_longer_than_any_buffer_is_passed_over),
        cmocka_unit_test(a_length_that_no_frame_has_ends_the_stream_after_what_came_before),
        cmocka_unit_test(the_end_is_told_from_silence),
        cmocka_unit_test(frames_for_the_vm_are_whole_whatever_the_stream_takes),
        cmocka_unit_test(a_vm_that_is_gone_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

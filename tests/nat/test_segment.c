#include "tests/cmocka.h"

#include "nat/segment.h"

enum { MANY = 2 * SEGMENT_COUNT_MAX };

static size_t count_of(const size_t *lengths, size_t count, size_t largest, size_t most)
{
    struct iovec payloads[MANY];
    for (size_t i = 0; i < count; i++)
        payloads[i] = (struct iovec){.iov_len = lengths[i]};
    return segment_count(payloads, count, largest, most);
}

static void runs_are_cut_where_the_kernel_could_not(void **state)
{
    (void)state;
    static const struct {
        size_t lengths[8];
        size_t count;
        size_t largest;
        size_t expected;
    } table[] = {
        {{1400}, 1, SEGMENT_BYTES_MAX, 1},
        {{1400, 1400, 1400}, 3, SEGMENT_BYTES_MAX, 3},
        {{1400, 1400, 1399}, 3, SEGMENT_BYTES_MAX, 3}, /* the last may be shorter, */
        {{1400, 1399, 1400}, 3, SEGMENT_BYTES_MAX, 2}, /* and then it is the last, */
        {{1400, 1399, 1399}, 3, SEGMENT_BYTES_MAX, 2},
        {{1400, 1401, 1400}, 3, SEGMENT_BYTES_MAX, 1}, /* but not longer */
        {{1, 1, 1}, 3, SEGMENT_BYTES_MAX, 3},
        {{1, 0, 1}, 3, SEGMENT_BYTES_MAX, 1}, /* an empty one has no distance */
        {{0, 0, 1}, 3, SEGMENT_BYTES_MAX, 1},
        {{0, 1, 1}, 3, SEGMENT_BYTES_MAX, 1},
        {{32753, 32753, 1}, 3, SEGMENT_BYTES_MAX, 2}, /* 65,506 bytes, and not one segment more */
        {{32754, 32754}, 2, SEGMENT_BYTES_MAX, 1},    /* 65,508 */
        {{65507, 65507}, 2, SEGMENT_BYTES_MAX, 1},
        {{65508, 1}, 2, SEGMENT_BYTES_MAX, 1}, /* no datagram at all: the kernel's to refuse */
        {{65508, 65508}, 2, 70000, 1},         /* whatever the socket says of itself */
        {{1400, 1400}, 2, 1399, 1},            /* above what this socket takes joined */
        {{1399, 1399}, 2, 1399, 2},
        {{1399, 1399}, 2, 0, 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        assert_int_equal(count_of(table[i].lengths, table[i].count, table[i].largest, SEGMENT_COUNT_MAX),
                         table[i].expected);
}

static void no_message_has_more_segments_or_bytes_than_the_kernel_takes(void **state)
{
    (void)state;
    size_t lengths[MANY];
    for (size_t size = 1; size <= 1600; size++) {
        for (size_t i = 0; i < MANY; i++)
            lengths[i] = size;
        for (size_t most = 1; most <= SEGMENT_COUNT_MAX; most *= 2) {
            size_t count = count_of(lengths, MANY, SEGMENT_BYTES_MAX, most);
            assert_true(count <= most);
            assert_true(count * size <= SEGMENT_BYTES_MAX);
            assert_true(count == most || (count + 1) * size > SEGMENT_BYTES_MAX);
        }
    }
}

static void a_shorter_end_does_not_make_a_message_too_large(void **state)
{
    (void)state;
    /* 46 of 1,424 bytes are 65,504: a 47th of four bytes would be 65,508. */
    size_t lengths[47];
    for (size_t i = 0; i < 46; i++)
        lengths[i] = 1424;
    lengths[46] = 4;
    assert_int_equal(count_of(lengths, 47, SEGMENT_BYTES_MAX, SEGMENT_COUNT_MAX), 46);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_are_cut_where_the_kernel_could_not),
        cmocka_unit_test(no_message_has_more_segments_or_bytes_than_the_kernel_takes),
        cmocka_unit_test(a_shorter_end_does_not_make_a_message_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

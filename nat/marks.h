/* A mark for each place of a run. */
#ifndef NAT_MARKS_H
#define NAT_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum marks_limits {
    MARKS_MAX = 128,
    MARKS_WORD_BITS = 64,
};

/** struct marks - All zeros: none is set. Owner: whoever has the run. */
struct marks {
    uint64_t words[MARKS_MAX / MARKS_WORD_BITS];
};

/** marks_set() - @at: below MARKS_MAX. Thread: the owner */
static inline void marks_set(struct marks *marks, size_t at)
{
    marks->words[at / MARKS_WORD_BITS] |= UINT64_C(1) << at % MARKS_WORD_BITS;
}

/** marks_has() - @at: below MARKS_MAX. Thread: the owner */
static inline bool marks_has(const struct marks *marks, size_t at)
{
    return (marks->words[at / MARKS_WORD_BITS] >> at % MARKS_WORD_BITS & 1) != 0;
}

#endif

#include "tests/cmocka.h"

#include <string.h>

#include "nat/random.h"

enum { WORDS = 1024 };

static void no_fill_is_like_another(void **state)
{
    (void)state;
    struct random_source one;
    struct random_source other;
    random_key(&one);
    random_key(&other);
    uint32_t words[3][WORDS] = {{0}};
    random_fill(&one, words[0], sizeof words[0]);
    random_fill(&one, words[1], sizeof words[1]);
    random_fill(&other, words[2], sizeof words[2]);
    for (size_t i = 0; i < WORDS; i++) { /* words that agree by chance: one in four million such tests has two */
        int same = (words[0][i] == words[1][i]) + (words[0][i] == words[2][i]) + (words[1][i] == words[2][i]);
        assert_true(same <= 1);
    }
    assert_memory_not_equal(words[0], words[1], sizeof words[0]);
    assert_memory_not_equal(words[0], words[2], sizeof words[0]);
}

static void the_key_that_made_a_fill_is_gone_after_it(void **state)
{
    (void)state;
    struct random_source source;
    random_key(&source);
    uint8_t bytes[64];
    random_fill(&source, bytes, sizeof bytes);
    struct random_source copy = source;
    random_fill(&source, bytes, sizeof bytes);
    assert_memory_not_equal(source.key, copy.key, sizeof copy.key);
    uint8_t again[64];
    random_fill(&copy, again, sizeof again); /* the same key makes the same bytes: nothing else goes into them */
    assert_memory_equal(again, bytes, sizeof bytes);
    assert_memory_not_equal(source.key, bytes, sizeof source.key);
}

static void every_bit_is_set_half_the_time(void **state)
{
    (void)state;
    struct random_source source;
    random_key(&source);
    unsigned set[32] = {0};
    for (int fills = 0; fills < 64; fills++) {
        uint32_t words[WORDS];
        random_fill(&source, words, sizeof words);
        for (size_t i = 0; i < WORDS; i++) {
            for (unsigned bit = 0; bit < 32; bit++)
                set[bit] += words[i] >> bit & 1;
        }
    }
    for (unsigned bit = 0; bit < 32; bit++) /* 65,536 draws: eight deviations of 128 from the middle */
        assert_in_range(set[bit], 32768 - 1024, 32768 + 1024);
}

static void nothing_past_the_end_is_written(void **state)
{
    (void)state;
    struct random_source source;
    random_key(&source);
    uint8_t bytes[16] = {0};
    random_fill(&source, bytes, 0);
    random_fill(&source, bytes + 4, 5);
    for (size_t i = 0; i < sizeof bytes; i++)
        assert_true((i >= 4 && i < 9) || bytes[i] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_fill_is_like_another),
        cmocka_unit_test(the_key_that_made_a_fill_is_gone_after_it),
        cmocka_unit_test(every_bit_is_set_half_the_time),
        cmocka_unit_test(nothing_past_the_end_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

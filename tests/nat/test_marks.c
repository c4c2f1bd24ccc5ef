#include "tests/cmocka.h"

#include "nat/marks.h"

static void a_mark_is_set_where_it_was_set_and_nowhere_else(void **state)
{
    (void)state;
    for (size_t set = 0; set < MARKS_MAX; set++) {
        struct marks marks = {0};
        marks_set(&marks, set);
        for (size_t at = 0; at < MARKS_MAX; at++)
            assert_int_equal(marks_has(&marks, at), at == set);
    }
}

static void marks_stay_when_others_come(void **state)
{
    (void)state;
    struct marks marks = {0};
    for (size_t set = 0; set < MARKS_MAX; set += 3)
        marks_set(&marks, set);
    for (size_t at = 0; at < MARKS_MAX; at++)
        assert_int_equal(marks_has(&marks, at), at % 3 == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mark_is_set_where_it_was_set_and_nowhere_else),
        cmocka_unit_test(marks_stay_when_others_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

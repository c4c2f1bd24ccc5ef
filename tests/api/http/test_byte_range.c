#include "api/http/byte_range.h"

#include "tests/cmocka.h"

struct row {
    const char *header;
    enum range_kind kind;
    uint64_t first;
    uint64_t last;
};

static void check(const struct row *rows, size_t count, uint64_t oldest, uint64_t end)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t first = 0;
        uint64_t last = 0;
        enum range_kind kind = byte_range_parse(rows[i].header, oldest, end, &first, &last);
        if (kind != rows[i].kind || first != rows[i].first || last != rows[i].last)
            fail_msg("%s: kind %d, %d to %d", rows[i].header, (int)kind, (int)first, (int)last);
    }
}

static void a_range_is_cut_to_what_there_is(void **state)
{
    (void)state;
    const struct row rows[] = {
        {"bytes=100-109", RANGE_PART, 100, 109}, {"bytes=105-105", RANGE_PART, 105, 105},
        {"bytes=0-104", RANGE_PART, 100, 104},   {"bytes=0-", RANGE_PART, 100, 109},
        {"bytes=109-", RANGE_PART, 109, 109},    {"bytes=105-99999999999999999999", RANGE_PART, 105, 109},
        {"bytes=-3", RANGE_PART, 107, 109},      {"bytes=-10", RANGE_PART, 100, 109},
        {"bytes=-1000", RANGE_PART, 100, 109},   {"Bytes=-3", RANGE_PART, 107, 109},
    };
    check(rows, sizeof rows / sizeof rows[0], 100, 110);
}

static void what_is_not_there_is_unsatisfiable(void **state)
{
    (void)state;
    const struct row rows[] = {
        {"bytes=110-", RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=110-200", RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-99", RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-0", RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=99999999999999999999-", RANGE_UNSATISFIABLE, 0, 0},
    };
    check(rows, sizeof rows / sizeof rows[0], 100, 110);
    const struct row nothing[] = {
        {"bytes=0-", RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-5", RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-0", RANGE_UNSATISFIABLE, 0, 0},
    };
    check(nothing, sizeof nothing / sizeof nothing[0], 0, 0);
}

static void what_is_no_single_range_is_malformed(void **state)
{
    (void)state;
    const struct row rows[] = {
        {"bytes=", RANGE_MALFORMED, 0, 0},        {"bytes=-", RANGE_MALFORMED, 0, 0},
        {"bytes=5", RANGE_MALFORMED, 0, 0},       {"bytes=1-2,4-5", RANGE_MALFORMED, 0, 0},
        {"bytes=109-100", RANGE_MALFORMED, 0, 0}, {"bytes=a-b", RANGE_MALFORMED, 0, 0},
        {"bytes= 1-2", RANGE_MALFORMED, 0, 0},    {"bytes=1-2 ", RANGE_MALFORMED, 0, 0},
        {"bytes=--2", RANGE_MALFORMED, 0, 0},     {"bytes=+1-2", RANGE_MALFORMED, 0, 0},
    };
    check(rows, sizeof rows / sizeof rows[0], 100, 110);
    const struct row others[] = {{NULL, RANGE_NONE, 0, 0}, {"lines=1-2", RANGE_NONE, 0, 0}, {"", RANGE_NONE, 0, 0}};
    check(others, sizeof others / sizeof others[0], 100, 110);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_is_cut_to_what_there_is),
        cmocka_unit_test(what_is_not_there_is_unsatisfiable),
        cmocka_unit_test(what_is_no_single_range_is_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/store/store_fixture.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>

#include "store/internal.h"

static void each_sqlite_code_has_its_errno(void **state)
{
    (void)state;
    static const struct {
        int code;
        int expected;
    } cases[] = {
        {SQLITE_FULL, -ENOSPC},
        {SQLITE_BUSY, -EBUSY},
        {SQLITE_BUSY_SNAPSHOT, -EBUSY},
        {SQLITE_LOCKED, -EBUSY},
        {SQLITE_CORRUPT, -EUCLEAN},
        {SQLITE_CORRUPT_INDEX, -EUCLEAN},
        {SQLITE_NOTADB, -EUCLEAN},
        {SQLITE_IOERR, -EIO},
        {SQLITE_IOERR_FSYNC, -EIO},
        {SQLITE_CANTOPEN, -EIO},
        {SQLITE_READONLY, -EROFS},
        {SQLITE_READONLY_DBMOVED, -EROFS},
        {SQLITE_NOMEM, -ENOMEM},
        {SQLITE_IOERR_NOMEM, -ENOMEM},
        {SQLITE_PERM, -EACCES},
        {SQLITE_AUTH, -EACCES},
        {SQLITE_CONSTRAINT_UNIQUE, -EEXIST},
        {SQLITE_CONSTRAINT_PRIMARYKEY, -EEXIST},
        {SQLITE_CONSTRAINT_FOREIGNKEY, -ENOENT},
        {SQLITE_CONSTRAINT_TRIGGER, -EPERM},
        {SQLITE_CONSTRAINT_CHECK, -EINVAL},
        {SQLITE_CONSTRAINT_NOTNULL, -EINVAL},
        {SQLITE_CONSTRAINT_DATATYPE, -EINVAL},
        {SQLITE_TOOBIG, -EINVAL},
        {SQLITE_ERROR, -EINVAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {0};
        assert_int_equal(store_sqlite_error(NULL, cases[i].code, &err, "do it"), cases[i].expected);
        assert_int_equal(err.code, cases[i].expected);
        assert_non_null(strstr(err.message, "cannot do it: "));
    }
}

/* Binds @text and reads it back. Return: the query's code. */
static int there_and_back(struct store_fixture *fixture, const char *text, size_t capacity, char *ret_text)
{
    struct query query SCOPED_QUERY = {0};
    struct error err = {0};
    assert_int_equal(query_open(&query, &fixture->store->writer, "SELECT ?1", &err), 0);
    query_bind_text(&query, text, capacity);
    if (query_step(&query) == 1)
        query_text(&query, ret_text, capacity);
    assert_int_equal(query.code, err.code);
    return query.code;
}

static void texts_are_utf8_or_refused(void **state)
{
    struct store_fixture *fixture = *state;
    static const char *const good[] = {"",
                                       "a",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2(",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xe2\x82",
                                      "\xe2(\x82",
                                      "\xe2\x82(",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "ok\xf0\x9f\x98"};
    char text[32];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(there_and_back(fixture, good[i], sizeof text, text), 0);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(there_and_back(fixture, bad[i], sizeof text, text), -EILSEQ);
}

static void a_text_fits_with_its_nul_or_not_at_all(void **state)
{
    struct store_fixture *fixture = *state;
    static const char unended[4] = {'a', 'b', 'c', 'd'};
    char text[8] = "before";
    assert_int_equal(there_and_back(fixture, "abc", 4, text), 0);
    assert_string_equal(text, "abc");
    assert_int_equal(there_and_back(fixture, unended, sizeof unended, text), -EINVAL);
    assert_string_equal(text, "abc");
    assert_int_equal(there_and_back(fixture, NULL, 4, text), 0);
    assert_string_equal(text, "");
}

static void a_column_fits_with_its_nul_or_is_damage(void **state)
{
    struct store_fixture *fixture = *state;
    static const struct {
        size_t capacity;
        int code;
        const char *expected;
    } cases[] = {{6, 0, "12345"}, {5, -EUCLEAN, "old"}, {4, -EUCLEAN, "old"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {0};
        struct query query SCOPED_QUERY = {0};
        char text[8] = "old";
        assert_int_equal(query_open(&query, &fixture->store->writer, "SELECT '12345'", &err), 0);
        assert_int_equal(query_step(&query), 1);
        query_text(&query, text, cases[i].capacity);
        assert_int_equal(query.code, cases[i].code);
        assert_string_equal(text, cases[i].expected);
    }
}

static void numbers_that_do_not_fit_are_errors(void **state)
{
    struct store_fixture *fixture = *state;
    static const struct {
        const char *sql;
        uint64_t expected;
        int code_u64;
        int code_u32;
    } cases[] = {
        {"SELECT 0", 0, 0, 0},
        {"SELECT 4294967295", UINT32_MAX, 0, 0},
        {"SELECT 4294967296", UINT64_C(4294967296), 0, -EUCLEAN},
        {"SELECT 9223372036854775807", INT64_MAX, 0, -EUCLEAN},
        {"SELECT -1", 0, -EUCLEAN, -EUCLEAN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {0};
        struct query query SCOPED_QUERY = {0};
        assert_int_equal(query_open(&query, &fixture->store->writer, cases[i].sql, &err), 0);
        assert_int_equal(query_step(&query), 1);
        assert_true(query_u64(&query) == cases[i].expected);
        assert_int_equal(query.code, cases[i].code_u64);
        query.code = 0;
        query.column = 0;
        assert_true(query_u32(&query) == (cases[i].code_u32 == 0 ? cases[i].expected : 0));
        assert_int_equal(query.code, cases[i].code_u32);
    }
    struct error err = {0};
    struct query query SCOPED_QUERY = {0};
    assert_int_equal(query_open(&query, &fixture->store->writer, "SELECT ?1", &err), 0);
    query_bind_u64(&query, (uint64_t)INT64_MAX + 1);
    assert_int_equal(query_step(&query), -EINVAL);
}

static void the_first_error_sticks(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct query query SCOPED_QUERY = {0};
    char text[4] = "old";
    assert_int_equal(query_open(&query, &fixture->store->writer, "SELECT ?1, ?2", &err), 0);
    query_bind_text(&query, "\xff", 10);
    query_bind_text(&query, "far too long", 2);
    assert_int_equal(query_step(&query), -EILSEQ);
    query_text(&query, text, sizeof text);
    assert_string_equal(text, "old");
    assert_int_equal(query_u64(&query), 0);
    assert_null(query_view(&query));
    assert_int_equal(err.code, -EILSEQ);
}

static void a_text_with_a_nul_inside_is_damage(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct query query SCOPED_QUERY = {0};
    char text[16] = "old";
    assert_int_equal(query_open(&query, &fixture->store->writer, "SELECT CAST(x'610062' AS TEXT)", &err), 0);
    assert_int_equal(query_step(&query), 1);
    query_text(&query, text, sizeof text);
    assert_int_equal(query.code, -EUCLEAN);
    assert_string_equal(text, "old");
}

static void a_statement_is_prepared_once(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    static const char sql[] = "SELECT ?1";
    size_t before = fixture->store->writer.count;
    sqlite3_stmt *first = NULL;
    for (unsigned i = 0; i < 3; i++) {
        struct query query SCOPED_QUERY = {0};
        assert_int_equal(query_open(&query, &fixture->store->writer, sql, &err), 0);
        first = i == 0 ? query.statement : first;
        assert_ptr_equal(query.statement, first);
        assert_int_equal(query_step(&query), 1);
        assert_int_equal(sqlite3_column_type(query.statement, 0), SQLITE_NULL); /* bindings do not stay */
        query_close(&query);
        assert_int_equal(query_open(&query, &fixture->store->writer, sql, &err), 0);
        query_bind_int(&query, 5);
        assert_int_equal(query_step(&query), 1);
    }
    assert_int_equal(fixture->store->writer.count, before + 1);
}

static void a_statement_that_is_no_sql_is_refused_and_not_kept(void **state)
{
    struct store_fixture *fixture = *state;
    struct error err = {0};
    struct query query SCOPED_QUERY = {0};
    size_t before = fixture->store->writer.count;
    assert_int_equal(query_open(&query, &fixture->store->writer, "SELEKT", &err), -EINVAL);
    assert_non_null(strstr(err.message, "SELEKT"));
    assert_int_equal(fixture->store->writer.count, before);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_sqlite_code_has_its_errno),
        WITH_STORE(texts_are_utf8_or_refused),
        WITH_STORE(a_text_fits_with_its_nul_or_not_at_all),
        WITH_STORE(a_column_fits_with_its_nul_or_is_damage),
        WITH_STORE(numbers_that_do_not_fit_are_errors),
        WITH_STORE(the_first_error_sticks),
        WITH_STORE(a_text_with_a_nul_inside_is_damage),
        WITH_STORE(a_statement_is_prepared_once),
        WITH_STORE(a_statement_that_is_no_sql_is_refused_and_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

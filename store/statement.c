/* The border to SQLite: result codes, prepared statements, parameters and columns. No other file binds or reads. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"
#include "store/internal.h"

static int errno_of(int code)
{
    switch (code) {
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_UNIQUE:
        return -EEXIST;
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return -ENOENT;
    case SQLITE_CONSTRAINT_TRIGGER:
        return -EPERM;
    case SQLITE_IOERR_NOMEM:
        return -ENOMEM;
    }
    switch (code & 0xff) {
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EUCLEAN;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return -EACCES;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_TOOBIG:
    case SQLITE_ERROR:
        return -EINVAL;
    }
    return -EIO; /* SQLITE_IOERR, SQLITE_CANTOPEN and what SQLite may add */
}

int store_sqlite_error(sqlite3 *db, int code, struct error *err, const char *doing)
{
    const char *words = db == NULL ? sqlite3_errstr(code) : sqlite3_errmsg(db);
    return error_set(err, errno_of(code), "cannot %s: %.*s (SQLite code %d)", doing, (int)STORE_MESSAGE_BYTES, words,
                     code);
}

int query_open(struct query *query, struct store_connection *connection, const char *sql, struct error *err)
{
    *query = (struct query){.connection = connection, .err = err};
    for (size_t i = 0; i < connection->count; i++) {
        if (connection->cache[i].sql == sql) {
            query->statement = connection->cache[i].statement;
            return 0;
        }
    }
    REQUIRE(connection->count < STORE_STATEMENTS_MAX);
    int code = sqlite3_prepare_v3(connection->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &query->statement, NULL);
    if (code != SQLITE_OK) {
        query->code = store_sqlite_error(connection->db, code, err, "prepare a statement");
        return query->code;
    }
    connection->cache[connection->count].sql = sql;
    connection->cache[connection->count].statement = query->statement;
    connection->count++;
    return 0;
}

void query_close(struct query *query)
{
    if (query->statement == NULL)
        return;
    /* The result repeats the error of the last step, which has been told already. */
    sqlite3_reset(query->statement);
    sqlite3_clear_bindings(query->statement);
    query->statement = NULL;
}

static void note(struct query *query, int code, const char *doing)
{
    if (code != SQLITE_OK)
        query->code = store_sqlite_error(query->connection->db, code, query->err, doing);
}

/* Length of the UTF-8 sequence that @at begins with (RFC 3629 section 4), 0 when it is none. */
static size_t utf8_sequence(const unsigned char *at, size_t left)
{
    unsigned char first = at[0];
    if (first < 0x80)
        return 1;
    size_t length = first >= 0xc2 && first <= 0xdf   ? 2
                    : first >= 0xe0 && first <= 0xef ? 3
                    : first >= 0xf0 && first <= 0xf4 ? 4
                                                     : 0;
    if (length == 0 || length > left)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    }
    bool overlong = (first == 0xe0 && at[1] < 0xa0) || (first == 0xf0 && at[1] < 0x90);
    bool surrogate = first == 0xed && at[1] > 0x9f;
    bool beyond = first == 0xf4 && at[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : length;
}

/* Overwrites each byte that is not UTF-8 with '?' when @mend; else only looks. Return: whether all was UTF-8. */
static bool utf8_walk(char *text, size_t length, bool mend)
{
    for (size_t i = 0; i < length;) {
        size_t step = utf8_sequence((const unsigned char *)text + i, length - i);
        if (step == 0 && !mend)
            return false;
        if (step == 0) {
            text[i] = '?';
            step = 1;
        }
        i += step;
    }
    return true;
}

static void bind_text(struct query *query, const char *text, size_t capacity, bool mend)
{
    int index = ++query->bound;
    if (query->code < 0 || text == NULL)
        return; /* a parameter that was never bound is NULL */
    size_t length = strnlen(text, capacity);
    if (length == capacity) {
        query->code =
            error_set(query->err, -EINVAL, "a text is longer than the %zu bytes there are for it", capacity - 1);
        return;
    }
    char *copy SCOPED_FREE = strndup(text, length);
    if (copy == NULL) {
        query->code = error_set(query->err, -ENOMEM, "no memory for a text of %zu bytes", length);
        return;
    }
    if (!utf8_walk(copy, length, mend)) {
        query->code = error_set(query->err, -EILSEQ, "a text is not UTF-8");
        return;
    }
    note(query, sqlite3_bind_text64(query->statement, index, copy, length, SQLITE_TRANSIENT, SQLITE_UTF8),
         "bind a text");
}

void query_bind_text(struct query *query, const char *text, size_t capacity)
{
    bind_text(query, text, capacity, false);
}

void query_bind_sentence(struct query *query, const char *text, size_t capacity)
{
    bind_text(query, text, capacity, true);
}

void query_bind_key(struct query *query, const char *text)
{
    int index = ++query->bound;
    if (query->code == 0 && text != NULL)
        note(query, sqlite3_bind_text64(query->statement, index, text, strlen(text), SQLITE_STATIC, SQLITE_UTF8),
             "bind a key");
}

void query_bind_int(struct query *query, int64_t value)
{
    int index = ++query->bound;
    if (query->code == 0)
        note(query, sqlite3_bind_int64(query->statement, index, value), "bind a number");
}

void query_bind_u64(struct query *query, uint64_t value)
{
    if (value > INT64_MAX && query->code == 0)
        query->code =
            error_set(query->err, -EINVAL, "the number %llu is too large to be stored", (unsigned long long)value);
    query_bind_int(query, (int64_t)(value & INT64_MAX));
}

void query_bind_bytes(struct query *query, const uint8_t *bytes, size_t length)
{
    int index = ++query->bound;
    if (query->code < 0)
        return;
    /* sqlite3_bind_blob(NULL) would bind NULL, which is not the same as no bytes. */
    int code = length == 0 ? sqlite3_bind_zeroblob(query->statement, index, 0)
                           : sqlite3_bind_blob64(query->statement, index, bytes, length, SQLITE_STATIC);
    note(query, code, "bind bytes");
}

int query_step(struct query *query)
{
    if (query->code < 0)
        return query->code;
    query->column = 0;
    int code = sqlite3_step(query->statement);
    if (code == SQLITE_ROW)
        return 1;
    if (code == SQLITE_DONE)
        return 0;
    note(query, code, "run a statement");
    return query->code;
}

int query_run(struct query *query)
{
    int code = query_step(query);
    REQUIRE(code <= 0);
    return code;
}

static void damaged(struct query *query, int column, const char *what)
{
    query->code = error_set(query->err, -EUCLEAN, "the database holds %s in column %s", what,
                            sqlite3_column_name(query->statement, column));
}

void query_text(struct query *query, char *ret_text, size_t capacity)
{
    int column = query->column++;
    if (query->code < 0)
        return;
    bool none = sqlite3_column_type(query->statement, column) == SQLITE_NULL;
    const unsigned char *text = sqlite3_column_text(query->statement, column);
    if (text == NULL && !none) {
        query->code = error_set(query->err, -ENOMEM, "no memory for a text");
        return;
    }
    size_t length = (size_t)sqlite3_column_bytes(query->statement, column);
    if (length >= capacity || (!none && memchr(text, '\0', length) != NULL)) {
        damaged(query, column, "a text that does not fit");
        return;
    }
    if (!none)
        memcpy(ret_text, text, length);
    ret_text[none ? 0 : length] = '\0';
}

const char *query_view(struct query *query)
{
    int column = query->column++;
    if (query->code < 0)
        return NULL;
    const unsigned char *text = sqlite3_column_text(query->statement, column);
    if (text == NULL)
        query->code = error_set(query->err, -ENOMEM, "no memory for a text");
    return (const char *)text;
}

int64_t query_int(struct query *query)
{
    int column = query->column++;
    return query->code < 0 ? 0 : sqlite3_column_int64(query->statement, column);
}

uint64_t query_u64(struct query *query)
{
    int64_t value = query_int(query);
    if (value < 0) {
        damaged(query, query->column - 1, "a negative number");
        return 0;
    }
    return (uint64_t)value;
}

uint32_t query_u32(struct query *query)
{
    uint64_t value = query_u64(query);
    if (value > UINT32_MAX) {
        damaged(query, query->column - 1, "too large a number");
        return 0;
    }
    return (uint32_t)value;
}

size_t query_bytes(struct query *query, const uint8_t **ret_bytes)
{
    int column = query->column++;
    if (query->code < 0)
        return 0;
    *ret_bytes = sqlite3_column_blob(query->statement, column);
    return (size_t)sqlite3_column_bytes(query->statement, column);
}

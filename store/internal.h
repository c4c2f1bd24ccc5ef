/* What the files of store/ share: the two connections, the border to SQLite (query_*), transactions, migrations.
 *
 * A query is a prepared statement in use. Binding and reading go from left to right and errors stick, as in
 * base/bytes.h: after the first one every further call does nothing, and query_step() or query_run() returns it. */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "embed.h"
#include "store/store.h"

enum store_internal_limits {
    STORE_STATEMENTS_MAX = 96,         /* per connection; the writer has about 50 */
    STORE_PATH_BYTES = 4096,           /* PATH_MAX of Linux */
    STORE_BUSY_MS = 250,               /* nobody else writes but a backup or a curious sqlite3 shell */
    STORE_WAL_BYTES = 16777216,        /* the log file is cut back to this after a checkpoint */
    STORE_MESSAGE_BYTES = 256,         /* SQLite's own words in an error; the rest of the message is ours */
    STORE_MEMBERS_MAX = 64,            /* transactions in one commit: bounds how long the first of them waits */
    STORE_EVENTS_KEPT = 100000,        /* about 30 MB, and days of history at one event a second */
    STORE_EVENTS_PRUNE = 256,          /* rows removed at once, so that most transactions remove none */
    STORE_EVIDENCE_PRUNE = 64,         /* violations made between two looks for evidence to purge */
    STORE_ENDED_KEPT = 10000,          /* ended leases: at most 640 MB of console tails if every one is full */
    STORE_APPLICATION_ID = 1869443700, /* "omrt"; migrations/0001_first.sql writes it */
};

/**
 * struct store_connection - One SQLite connection, its lock and the statements prepared on it
 *
 * Owner: struct store. A statement is known by the address of its SQL, which therefore is a literal.
 */
struct store_connection {
    sqlite3 *db;
    pthread_mutex_t lock;
    size_t count;
    struct {
        const char *sql;
        sqlite3_stmt *statement;
    } cache[STORE_STATEMENTS_MAX];
};

/** struct store - Owner: whoever called store_open(). */
struct store {
    int lock_fd; /* holds flock(2) on "<path>.lock" as long as the store is open */
    char *path;
    struct store_connection writer;
    struct store_connection reader;
    char epoch[STORE_EPOCH_BYTES]; /* of the log of events */
    atomic_uint wanted;            /* how many wait for the writer */
    pthread_cond_t committed;      /* with the writer's lock; the three below belong to the writer's holder */
    struct store_member *members;  /* whose work stands in the open transaction (transaction.c) */
    unsigned member_count;
    bool event_written;            /* in the open transaction */
    void (*notify)(void *context); /* or NULL; set before there are threads */
    void *notify_context;
    struct histogram commits;
};

/* SQL for a text that has to be a JSON object: NULL when it is another kind, which no such column accepts, and "malformed
 * JSON" when it is none (both -EINVAL). Not json_valid(): that takes a lack of memory for malformed JSON. */
#define STORE_JSON_OBJECT(text) "iif(json_type(" text ") = 'object', " text ", NULL)"

/** struct query - A prepared statement in use. Owner: the function that opened it, under the connection's lock. */
struct query {
    struct store_connection *connection;
    sqlite3_stmt *statement;
    struct error *err;
    int code;   /* 0 or the first failure */
    int bound;  /* parameters bound so far */
    int column; /* next column to read */
};

/**
 * store_sqlite_error() - Translate a SQLite result into the project's error
 * @code:  SQLite's extended result code
 * @doing: what was tried, as "open the database"
 * Return: negative errno
 * Thread: the connection's holder
 */
int store_sqlite_error(sqlite3 *db, int code, struct error *err, const char *doing);

/** query_open() - Take @sql from the connection's cache, or prepare it. Return: 0 or negative. */
int query_open(struct query *query, struct store_connection *connection, const char *sql, struct error *err);

/** query_close() - Make the statement ready for its next use; allowed on {0} */
void query_close(struct query *query);

/* struct query SCOPED_QUERY q = {0}; closes at the end of the block. */
#define SCOPED_QUERY __attribute__((cleanup(query_close)))

/** query_bind_text() - UTF-8 of less than @capacity bytes, as it stands in a field of that size; NULL binds NULL */
void query_bind_text(struct query *query, const char *text, size_t capacity);
#define QUERY_BIND_FIELD(query, field) query_bind_text((query), (field), sizeof(field))

/** query_bind_sentence() - As query_bind_text(), but bytes that are not UTF-8 become '?': it is for people only */
void query_bind_sentence(struct query *query, const char *text, size_t capacity);

/** query_bind_key() - A text that is only compared: what could not be stored is simply not found; NULL binds NULL */
void query_bind_key(struct query *query, const char *text);

void query_bind_u64(struct query *query, uint64_t value);
void query_bind_int(struct query *query, int64_t value);
void query_bind_bytes(struct query *query, const uint8_t *bytes, size_t length);

/** query_step() - Return: 1 for a row, 0 for none, or negative */
int query_step(struct query *query);

/** query_run() - A statement without rows. Return: 0 or negative */
int query_run(struct query *query);

/** query_text() - Next column into a field of @capacity bytes; NULL becomes ""; a longer text is an error */
void query_text(struct query *query, char *ret_text, size_t capacity);
#define QUERY_FIELD(query, field) query_text((query), (field), sizeof(field))

/** query_view() - Next column as a text that is valid until the next step; never NULL when no error was met */
const char *query_view(struct query *query);

uint64_t query_u64(struct query *query);
uint32_t query_u32(struct query *query);
int64_t query_int(struct query *query);

/** query_bytes() - Next column's bytes. Return: number of them; the pointer is valid until the next step */
size_t query_bytes(struct query *query, const uint8_t **ret_bytes);

/**
 * store_begin() - Lock the writer and begin a transaction, or a part of the one that others have left open
 * Return: 0; negative, and nothing is locked then
 * Thread: any that has not begun one
 */
int store_begin(struct store *store, struct error *err);

/**
 * store_finish() - Keep what was written when @result is 0, else undo it; unlock the writer
 * @err:   as filled for @result
 * Return: @result, once all that it may rest on is committed; or why the commit failed
 * Thread: that of store_begin()
 */
int store_finish(struct store *store, int result, struct error *err);

/** store_read() - Lock the reader and open a query on it. @query: store_read_done() ends it, after a failure too */
int store_read(struct store *store, struct query *query, const char *sql, struct error *err);
void store_read_done(struct store *store, struct query *query);

/** connection_open() - Open @path on one connection and set it up. @read_only: for the reader */
int connection_open(struct store_connection *connection, const char *path, bool read_only, struct error *err);

/** connection_close() - Finalise statements and close; allowed on {0} */
void connection_close(struct store_connection *connection);

/** connection_run() - Run statements that take no parameters and yield no rows. @sql: any text, not cached */
int connection_run(struct store_connection *connection, const char *sql, struct error *err);

/**
 * store_migrate() - Bring the schema up to date, each migration in one transaction with its number
 * @files: as embed_files; those under store/migrations/ are used, named NNNN_subject.sql from 0001 without a gap
 * Return: 0; -EPROTO when the schema is newer than @files or the file is another program's
 */
int store_migrate(struct store_connection *connection, const struct embed_file *files, struct error *err);

/** event_write() - Run a bound INSERT INTO events and now and then remove the oldest events */
int event_write(struct store *store, struct query *query);

/** event_epoch_read() - Learn the name of the log of events, once. Return: 0 or negative */
int event_epoch_read(struct store *store, struct error *err);

/**
 * lease_living() - State of a lease that may still change; inside a transaction
 * Return: 0, -ENOENT, -EALREADY when it has ended
 */
int lease_living(struct store *store, const char *id, enum lease_state *ret_state, struct error *err);

/** key_write() - Keep an idempotency key with its answer; inside a transaction */
int key_write(struct store *store, const struct store_once *once, const struct store_lease *lease, struct error *err);

/** lease_tell() - Run an event's INSERT whose parameters are the lease's id and the time; inside a transaction */
int lease_tell(struct store *store, const char *sql, const char *id, uint64_t at_ms, struct error *err);

/**
 * policy_take_over() - Put a proposed policy into the lease's row and its peer's; inside a transaction
 * Return: 1; 0 when none of this generation is proposed
 */
int policy_take_over(struct store *store, const char *id, uint64_t generation, struct error *err);

/** lease_touch() - Raise the generation of a lease of which another table changed; inside a transaction */
int lease_touch(struct store *store, const char *id, struct error *err);

/** drain_check() - Return: 0, -EAGAIN with slug "draining"; inside a transaction */
int drain_check(struct store *store, struct error *err);

/** capacity_sum() - What leases that have not ended take in all. Thread: the connection's holder */
int capacity_sum(struct store_connection *connection, struct store_resources *ret_used, struct error *err);

/** peer_check_free() - Return: 0, -EEXIST when a living lease has the same key and endpoint; inside a transaction */
int peer_check_free(struct store *store, const struct store_lease *lease, struct error *err);

/** peer_write() - Insert the peer of a new lease; inside a transaction */
int peer_write(struct store *store, const struct store_lease *lease, struct error *err);

/* The end of a list's statement: rows past the cursor ?1, in the order of making or backwards. */
#define STORE_OLDEST_FIRST(number, limit) " AND " number " > ?1 ORDER BY " number " LIMIT " limit
#define STORE_NEWEST_FIRST(number, limit) " AND " number " < ?1 ORDER BY " number " DESC LIMIT " limit

/** store_filter_check() - Whether a list's conditions make sense. Return: 0 or -EINVAL */
int store_filter_check(const struct store_filter *filter, struct error *err);

/**
 * cursor_number() - The place in the order of making that a cursor names
 * @sql:    yields that place for the id in its only parameter
 * @ret_at: where the list begins, when @filter has no cursor
 * Return:  0; -EINVAL with slug "cursor-unknown" when the row is not there (any more)
 * Thread:  the reader's holder
 */
int cursor_number(struct store *store, const struct store_filter *filter, const char *sql, uint64_t *ret_at,
                  struct error *err);

#endif

/* One SQLite connection: how it is opened, and reads. Durability is WAL with synchronous=FULL: an answer that was given
 * survives a crash of the machine. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/internal.h"

/* What SQLite sorts or may have to undo stays in memory: rows of tenants do not go to /var/tmp, and no other folder than the
 * database's is needed. fullfsync is for macOS, where fsync(2) stops at the drive's cache; elsewhere it does nothing. */
static const char writer_setup[] = "PRAGMA trusted_schema = OFF;"
                                   "PRAGMA temp_store = MEMORY;"
                                   "PRAGMA foreign_keys = ON;"
                                   "PRAGMA journal_mode = WAL;"
                                   "PRAGMA synchronous = FULL;"
                                   "PRAGMA fullfsync = ON;"
                                   "PRAGMA checkpoint_fullfsync = ON;";
static const char reader_setup[] = "PRAGMA trusted_schema = OFF;"
                                   "PRAGMA temp_store = MEMORY;"
                                   "PRAGMA query_only = ON;";

int connection_run(struct store_connection *connection, const char *sql, struct error *err)
{
    int code = sqlite3_exec(connection->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : store_sqlite_error(connection->db, code, err, "run a statement");
}

/* PRAGMA journal_mode answers with the mode that is in force instead of failing. */
static int require_wal(struct store_connection *connection, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    char mode[STORE_WORD_BYTES] = "";
    if (query_open(&query, connection, "PRAGMA journal_mode", err) < 0)
        return query.code;
    if (query_step(&query) == 1)
        QUERY_FIELD(&query, mode);
    if (query.code == 0 && strcmp(mode, "wal") != 0)
        return error_set(err, -EIO, "the file system does not allow write-ahead logging (journal mode is %s)", mode);
    return query.code;
}

/* SQLite's own choices are for other programs. Every UPDATE of a table with triggers uses a table of its own for a moment:
 * with pages taken one at a time that costs two small allocations instead of 90 KiB to be zeroed. What may have to be undone
 * of a transaction's part stays in memory: a kept console would else make a file in /tmp. Its counting of memory is read by
 * nobody. Changes nothing once a connection is open. */
static void tune(void)
{
    sqlite3_config(SQLITE_CONFIG_PAGECACHE, NULL, 0, 0);
    sqlite3_config(SQLITE_CONFIG_STMTJRNL_SPILL, -1);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

int connection_open(struct store_connection *connection, const char *path, bool read_only, struct error *err)
{
    /* Each connection is used under its own lock, so SQLite need not lock it again; its shared parts must be safe. */
    REQUIRE(sqlite3_threadsafe() != 0);
    tune();
    int flags = SQLITE_OPEN_NOMUTEX | (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
    int code = sqlite3_open_v2(path, &connection->db, flags, NULL);
    if (code != SQLITE_OK) {
        int result = store_sqlite_error(connection->db, code, err, "open the database");
        sqlite3_close(connection->db);
        connection->db = NULL;
        return result;
    }
    REQUIRE(pthread_mutex_init(&connection->lock, NULL) == 0);
    sqlite3_extended_result_codes(connection->db, 1);
    sqlite3_busy_timeout(connection->db, STORE_BUSY_MS);
    sqlite3_db_config(connection->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    int result = connection_run(connection, read_only ? reader_setup : writer_setup, err);
    if (result < 0 || read_only)
        return result;
    char limit[64];
    snprintf(limit, sizeof limit, "PRAGMA journal_size_limit = %d", STORE_WAL_BYTES);
    result = connection_run(connection, limit, err);
    return result < 0 ? result : require_wal(connection, err);
}

void connection_close(struct store_connection *connection)
{
    if (connection->db == NULL)
        return;
    for (size_t i = 0; i < connection->count; i++)
        sqlite3_finalize(connection->cache[i].statement);
    connection->count = 0;
    REQUIRE(sqlite3_close(connection->db) == SQLITE_OK);
    connection->db = NULL;
    pthread_mutex_destroy(&connection->lock);
}

int store_read(struct store *store, struct query *query, const char *sql, struct error *err)
{
    REQUIRE(pthread_mutex_lock(&store->reader.lock) == 0);
    return query_open(query, &store->reader, sql, err);
}

void store_read_done(struct store *store, struct query *query)
{
    query_close(query);
    REQUIRE(pthread_mutex_unlock(&store->reader.lock) == 0);
}

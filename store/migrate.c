/* The schema grows by numbered SQL files that the binary carries. PRAGMA user_version holds the number of the last one
 * that was applied; it is part of the same transaction, so a crash leaves either the old schema or the new one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

static const char folder[] = "store/migrations/";

static bool is_migration(const struct embed_file *file)
{
    return strncmp(file->path, folder, sizeof folder - 1) == 0;
}

static int read_number(struct store_connection *connection, const char *sql, int64_t *ret_number, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, connection, sql, err) < 0)
        return query.code;
    if (query_step(&query) == 1)
        *ret_number = query_int(&query);
    return query.code;
}

static int apply(struct store_connection *connection, const struct embed_file *file, int64_t number, struct error *err)
{
    char version[64];
    snprintf(version, sizeof version, "PRAGMA user_version = %lld", (long long)number);
    int result = connection_run(connection, "BEGIN IMMEDIATE", err);
    if (result == 0)
        result = connection_run(connection, (const char *)file->bytes, err); /* a NUL follows the bytes */
    if (result == 0)
        result = connection_run(connection, version, err);
    if (result == 0)
        result = connection_run(connection, "COMMIT", err);
    if (result < 0) {
        if (sqlite3_get_autocommit(connection->db) == 0)
            connection_run(connection, "ROLLBACK", NULL);
        error_prefix(err, "migration %s", file->path + sizeof folder - 1);
    }
    return result;
}

/* A blank file may be made ours; any other must say that it is. */
static int check_owner(struct store_connection *connection, int64_t version, struct error *err)
{
    int64_t application = 0;
    int64_t objects = 0;
    int result = read_number(connection, "PRAGMA application_id", &application, err);
    if (result == 0)
        result = read_number(connection, "SELECT count(*) FROM sqlite_schema", &objects, err);
    if (result < 0)
        return result;
    bool blank = version == 0 && application == 0 && objects == 0;
    if (!blank && application != STORE_APPLICATION_ID)
        return error_set(err, -EPROTO, "this is another program's database (application id %lld)",
                         (long long)application);
    return 0;
}

int store_migrate(struct store_connection *connection, const struct embed_file *files, struct error *err)
{
    int64_t version = 0;
    int result = read_number(connection, "PRAGMA user_version", &version, err);
    if (result == 0)
        result = check_owner(connection, version, err);
    if (result < 0)
        return result;

    int64_t number = 0;
    for (const struct embed_file *file = files; file->path != NULL; file++) {
        if (!is_migration(file))
            continue;
        number++;
        REQUIRE(strtol(file->path + sizeof folder - 1, NULL, 10) == number);
        if (number <= version)
            continue;
        result = apply(connection, file, number, err);
        if (result < 0)
            return result;
    }
    if (version > number)
        return error_set(err, -EPROTO, "schema %lld was made by a newer omertad; this one knows schemas up to %lld",
                         (long long)version, (long long)number);
    return 0;
}

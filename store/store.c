/* Opening and closing the store, and whether it still answers.
 *
 * "<path>.lock" is taken before the database is touched: SQLite's own locks would let a second daemon share the file,
 * and two daemons must never manage the same machines. flock(2) ends with the process, however it dies. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/scope.h"
#include "store/internal.h"

/* Others who can write to the folder could put another file in the database's place. */
static int check_folder(const char *path, struct error *err)
{
    char folder[STORE_PATH_BYTES] = ".";
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (length >= sizeof folder)
        return error_set(err, -ENAMETOOLONG, "the path of the database is too long");
    if (length > 0) {
        memcpy(folder, path, length);
        folder[length] = '\0';
    }
    struct stat status;
    if (stat(folder, &status) < 0)
        return error_set(err, -errno, "cannot use the folder %s: %s", folder, strerror(errno));
    if (!S_ISDIR(status.st_mode) || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return error_set(err, -EACCES, "others may write to the folder %s (mode %04o); chmod 0700 it", folder,
                         (unsigned)(status.st_mode & 07777));
    return 0;
}

/* Opens or makes a file that is plainly ours: no link, nobody else's, closed to group and others. */
static int open_own_file(const char *path, struct error *err)
{
    /* O_NONBLOCK: a FIFO in its place must not hang us. */
    int fd SCOPED_FD = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
    struct stat status;
    if (fstat(fd, &status) < 0)
        return error_set(err, -errno, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode) || status.st_nlink != 1)
        return error_set(err, -EACCES, "%s is not a plain file of one name", path);
    if (status.st_uid != geteuid())
        return error_set(err, -EACCES, "%s belongs to user %u, not to us", path, (unsigned)status.st_uid);
    if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return error_set(err, -EACCES, "%s is open to others (mode %04o); chmod 0600 it", path,
                         (unsigned)(status.st_mode & 07777));
    return fd_take(&fd);
}

/* The holder's pid stands in the lock file for people; only flock(2) decides. */
static int lock_folder(struct store *store, struct error *err)
{
    char name[STORE_PATH_BYTES];
    int length = snprintf(name, sizeof name, "%s.lock", store->path);
    if (length < 0 || (size_t)length >= sizeof name)
        return error_set(err, -ENAMETOOLONG, "the path of the database is too long");
    store->lock_fd = open_own_file(name, err);
    if (store->lock_fd < 0)
        return store->lock_fd;
    char text[24] = "";
    int locked = lock_take(store->lock_fd);
    if (locked < 0) {
        if (locked != -EWOULDBLOCK)
            return error_set(err, locked, "cannot lock %s: %s", name, strerror(-locked));
        ssize_t got = pread(store->lock_fd, text, sizeof text - 1, 0);
        return error_set(err, -EBUSY, "another omertad (pid %.*s) uses this data folder: it holds %s",
                         got > 0 ? (int)strcspn(text, "\n") : 1, got > 0 ? text : "?", name);
    }
    int used = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(store->lock_fd, 0) < 0 || pwrite(store->lock_fd, text, (size_t)used, 0) != used)
        return error_set(err, errno == 0 ? -EIO : -errno, "cannot write %s: %s", name, strerror(errno));
    return 0;
}

static int check_integrity(struct store_connection *connection, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    char answer[STORE_MESSAGE_BYTES] = "";
    if (query_open(&query, connection, "SELECT substr(quick_check, 1, 200) FROM pragma_quick_check(1)", err) < 0)
        return query.code;
    if (query_step(&query) == 1)
        QUERY_FIELD(&query, answer);
    if (query.code == 0 && strcmp(answer, "ok") != 0)
        return error_set(err, -EUCLEAN, "the database is damaged: %s", answer);
    return query.code;
}

static int open_parts(struct store *store, struct error *err)
{
    int result = check_folder(store->path, err);
    if (result == 0)
        result = lock_folder(store, err);
    if (result < 0)
        return result;
    /* Closed again before SQLite opens it: closing any descriptor of a file drops the process's POSIX locks on it. */
    int fd SCOPED_FD = open_own_file(store->path, err);
    if (fd < 0)
        return fd;
    fd_close(&fd);
    result = connection_open(&store->writer, store->path, false, err);
    if (result == 0)
        result = check_integrity(&store->writer, err);
    if (result == 0)
        result = store_migrate(&store->writer, embed_files, err);
    if (result == 0) /* what was proposed to a daemon that is gone is enforced by nobody */
        result = connection_run(&store->writer, "DELETE FROM policies", err);
    if (result == 0)
        result = connection_open(&store->reader, store->path, true, err);
    if (result == 0)
        result = event_epoch_read(store, err);
    if (result < 0)
        error_prefix(err, "%s", store->path);
    return result;
}

int store_open(const char *path, struct store **ret_store, struct error *err)
{
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return error_set(err, -ENOMEM, "no memory for the store");
    store->lock_fd = -1;
    REQUIRE(pthread_cond_init(&store->committed, NULL) == 0);
    store->path = strdup(path);
    int result = store->path == NULL ? error_set(err, -ENOMEM, "no memory for a path") : open_parts(store, err);
    if (result < 0) {
        store_close(store);
        return result;
    }
    *ret_store = store;
    return 0;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    connection_close(&store->reader);
    connection_close(&store->writer); /* the last one: moves the log into the database */
    REQUIRE(pthread_cond_destroy(&store->committed) == 0);
    fd_close(&store->lock_fd);
    free(store->path);
    free(store);
}

bool store_failure_passes(int code)
{
    return code == -EBUSY || code == -ENOSPC || code == -EIO || code == -EROFS || code == -ENOMEM || code == -EUCLEAN;
}

static int write_one_row(struct store *store, struct error *err)
{
    int moved = 0;
    int code = sqlite3_file_control(store->writer.db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    if (code == SQLITE_OK && moved != 0)
        return error_set(err, -EIO, "%s was moved or removed while it was open", store->path);
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, "INSERT INTO events (at_ms, type, data) VALUES (?1, 'store.checked', '{}')",
                   err) < 0)
        return query.code;
    query_bind_u64(&query, clock_wall_ms());
    return query_run(&query);
}

int store_check(struct store *store, struct error *err)
{
    int result = store_begin(store, err);
    if (result < 0)
        return result;
    result = write_one_row(store, err);
    /* Nothing failed, and yet the row must not stay. */
    int finished = store_finish(store, result == 0 ? -ECANCELED : result, err);
    return finished == -ECANCELED ? 0 : finished;
}

int store_filter_check(const struct store_filter *filter, struct error *err)
{
    enum lease_state state;
    if (filter->limit < 1 || filter->limit > STORE_PAGE_MAX) {
        error_set(err, -EINVAL, "limit is %u, not 1 to %d", filter->limit, STORE_PAGE_MAX);
        error_tag(err, "limit-invalid", "limit");
        return -EINVAL;
    }
    if (filter->state != NULL && !lease_state_parse(filter->state, &state)) {
        error_set(err, -EINVAL, "there is no such lease state");
        error_tag(err, "state-unknown", "state");
        return -EINVAL;
    }
    return 0;
}

int cursor_number(struct store *store, const struct store_filter *filter, const char *sql, uint64_t *ret_at,
                  struct error *err)
{
    *ret_at = filter->newest_first ? INT64_MAX : 0;
    if (filter->after == NULL)
        return 0;
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->reader, sql, err) < 0)
        return query.code;
    query_bind_key(&query, filter->after);
    int found = query_step(&query);
    if (found == 1) {
        *ret_at = query_u64(&query);
        return query.code;
    }
    if (found == 0) {
        error_set(err, -EINVAL, "the row that the cursor names is not there any more");
        error_tag(err, "cursor-unknown", "cursor");
        return -EINVAL;
    }
    return found;
}

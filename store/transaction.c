/* Transactions of the writer, with group commit: one fsync for all who want to write at the same time.
 *
 * A transaction that is left while somebody waits for the writer is not committed but handed on: the next one's work goes
 * into a savepoint of it. Who leaves it with nobody waiting commits for all, and until then every one of them waits, so
 * that nothing is said to anybody that is not on the disk: neither by those who wrote nor by those who were refused for
 * what they saw of others. What one of them undoes takes nothing from the others; a failed commit is told to all. */
#include <errno.h>

#include "base/clock.h"
#include "store/internal.h"

/* struct store_member - Somebody whose work stands in the open transaction. On its own stack until @done. */
struct store_member {
    struct store_member *next;
    int result;        /* its own, or why the commit failed */
    struct error *err; /* its own */
    bool done;
};

static void lock(struct store *store)
{
    REQUIRE(pthread_mutex_lock(&store->writer.lock) == 0);
}

static void unlock(struct store *store)
{
    REQUIRE(pthread_mutex_unlock(&store->writer.lock) == 0);
}

static int run_cached(struct store *store, const char *sql, struct error *err)
{
    struct query query SCOPED_QUERY = {0};
    if (query_open(&query, &store->writer, sql, err) < 0)
        return query.code;
    return query_run(&query);
}

static bool in_transaction(const struct store *store)
{
    return sqlite3_get_autocommit(store->writer.db) == 0;
}

/* The open transaction is over; its members are woken. @result: of its commit; @err: why it failed */
static void release_members(struct store *store, int result, const struct error *err)
{
    for (struct store_member *member = store->members; member != NULL; member = member->next) {
        if (result < 0) {
            member->result = result;
            *member->err = *err;
        }
        member->done = true;
    }
    store->members = NULL;
    store->member_count = 0;
    REQUIRE(pthread_cond_broadcast(&store->committed) == 0);
}

static void commit(struct store *store)
{
    struct error err = {0};
    uint64_t begin_us = clock_monotonic_us();
    int result = run_cached(store, "COMMIT", &err);
    histogram_add(&store->commits, clock_monotonic_us() - begin_us);
    /* A full disk or an I/O error may have rolled back already. What ROLLBACK says adds nothing to the first error;
     * were it ever to fail, the next BEGIN says so. */
    if (result < 0 && in_transaction(store))
        run_cached(store, "ROLLBACK", NULL);
    release_members(store, result, &err);
}

int store_begin(struct store *store, struct error *err)
{
    atomic_fetch_add(&store->wanted, 1);
    lock(store);
    atomic_fetch_sub(&store->wanted, 1);
    if (store->members != NULL) {
        int result = run_cached(store, "SAVEPOINT member", err);
        return result < 0 ? store_finish(store, result, err) : 0;
    }
    store->event_written = false;
    int result = run_cached(store, "BEGIN IMMEDIATE", err);
    if (result < 0)
        unlock(store);
    return result;
}

/* Ends what is @result's own part of the open transaction. Return: @result, or why its part cannot be kept */
static int end_part(struct store *store, int result, struct error *err)
{
    if (store->members == NULL) {
        if (result < 0 && in_transaction(store))
            run_cached(store, "ROLLBACK", NULL);
        return result;
    }
    if (result == 0)
        result = run_cached(store, "RELEASE member", err);
    if (result < 0 && in_transaction(store)) {
        run_cached(store, "ROLLBACK TO member", NULL);
        run_cached(store, "RELEASE member", NULL);
    }
    return result;
}

int store_finish(struct store *store, int result, struct error *err)
{
    struct error own = {0};
    struct store_member self = {.next = store->members, .err = err == NULL ? &own : err};
    self.result = end_part(store, result, self.err);
    if (!in_transaction(store)) { /* undone: by its only member, or by SQLite with all that the others wrote */
        if (self.result == 0)
            self.result = error_set(self.err, -EIO, "the transaction was undone");
        release_members(store, self.result, self.err);
        unlock(store);
        return self.result;
    }
    store->members = &self;
    store->member_count++;
    bool last = atomic_load(&store->wanted) == 0 || store->member_count >= STORE_MEMBERS_MAX;
    if (last)
        commit(store);
    while (!self.done)
        REQUIRE(pthread_cond_wait(&store->committed, &store->writer.lock) == 0);
    bool tell = last && self.result == 0 && store->event_written && store->notify != NULL;
    unlock(store);
    if (tell)
        store->notify(store->notify_context);
    return self.result;
}

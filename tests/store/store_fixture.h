/* What the tests of store/ share: a database in a folder of its own, rows to put into it, and a second look at it that
 * does not go through the code under test. */
#ifndef TESTS_STORE_STORE_FIXTURE_H
#define TESTS_STORE_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "store/store.h"

/** struct store_fixture - Owner: the test, from store_fixture_setup() to store_fixture_teardown(). */
struct store_fixture {
    char folder[256];
    char path[300];
    struct store *store;
};

/* For cmocka_unit_test_setup_teardown(): an open store in a fresh folder; then both are gone. */
int store_fixture_setup(void **state);
int store_fixture_teardown(void **state);

void store_fixture_open(struct store_fixture *fixture);
void store_fixture_close(struct store_fixture *fixture);

/* Room for @leases leases of the size that fixture_lease() makes, and for nothing more. */
struct store_resources fixture_capacity(uint32_t leases);

/* A complete lease; each @n has its own id, consumer key and time. 2 vcpus, 2048 MiB memory, 4096 MiB disk. */
struct store_lease fixture_lease(unsigned n);

/* A complete violation of @lease_id; each @n has its own id and serial. */
struct store_violation fixture_violation(unsigned n, struct id lease_id);

struct store_end fixture_end(void);

/* Reserves fixture_lease(@n) with more than enough capacity. Return: its id. */
struct id fixture_reserve(struct store_fixture *fixture, unsigned n);

/* The same where it may fail. Return: the store's result */
int fixture_try_reserve(struct store_fixture *fixture, unsigned n, struct error *err);

/* Fails the test unless there are @leases leases, each with its peer and its event, nothing else, and the file is whole. */
void fixture_expect_whole(const struct store_fixture *fixture, int64_t leases);

/* Fail the test at the first field that differs (padding is not compared). */
void fixture_assert_same_lease(const struct store_lease *a, const struct store_lease *b);
void fixture_assert_same_violation(const struct store_violation *a, const struct store_violation *b);

/* A disk that is full for a console but not for a violation's row; or no longer. */
void fixture_set_full(const struct store_fixture *fixture, bool full);

/* Runs SQL over a connection of its own. Return: SQLite's result code. */
int fixture_sql(const struct store_fixture *fixture, const char *sql);

/* The number or text that a query yields, over a connection of its own; the text is valid until the next call. */
int64_t fixture_number(const struct store_fixture *fixture, const char *sql);
const char *fixture_text(const struct store_fixture *fixture, const char *sql);

/* Copies a text into a field of a row; the rest of the field stays as it was. */
#define set_text(field, text) snprintf((field), sizeof(field), "%s", (text))

/* Fails the test unless @call returns 0, and shows err.message. */
#define assert_works(call, err)                                                                                        \
    do {                                                                                                               \
        int works_result = (call);                                                                                     \
        if (works_result != 0)                                                                                         \
            fail_msg("%s: %d: %s", #call, works_result, (err).message);                                                \
    } while (0)

#endif

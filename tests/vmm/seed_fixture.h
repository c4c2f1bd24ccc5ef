/* A specification of fixed values, and its documents as trees. */
#ifndef TESTS_VMM_SEED_FIXTURE_H
#define TESTS_VMM_SEED_FIXTURE_H

#include <jansson.h>

#include "vmm/seed.h"

#define SEED_SSH_KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMw+CPfOJvUZ3WmT/lolTdInY3P/tl+rsB3xrLYnQZ5c"

/** seed_make_spec() - Consumer 203.0.113.7:51900, tunnel addresses 10.77.0.1 and 10.77.0.2. Owner: the caller, free().
 *  Thread: the test's */
struct vmm_spec *seed_make_spec(void);

/** seed_make() - Its documents. Thread: the test's */
void seed_make(const struct vmm_spec *spec, struct seed *ret_seed);

/** seed_tree_of() - A document, read. Owner: the caller. Thread: the test's */
json_t *seed_tree_of(const struct seed_document *document);

/** seed_assert_tree() - See that a document is this tree. Thread: the test's */
void seed_assert_tree(const struct seed_document *document, const char *expected_text);

#endif

/* Idempotency-Key: the same request sent twice is done once. What was answered stands in the store; here are the keys of
 * the requests that are being answered at this moment, and the hash by which a request is known again. */
#ifndef API_HTTP_IDEMPOTENCY_H
#define API_HTTP_IDEMPOTENCY_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "store/store.h"

enum idempotency_limits {
    IDEMPOTENCY_IN_FLIGHT_MAX =
        64, /* more than the HTTP threads of all listeners, each of which answers one at a time */
    IDEMPOTENCY_SECRET_BYTES = 32,
};

/**
 * struct idempotency - Keys in flight, and the secret of the hash
 *
 * A request may carry a preshared key. Its hash is keyed with a secret that stands in a file beside the database, so
 * that a copy of the database alone does not even confirm a guess.
 *
 * Owner: main().
 */
struct idempotency {
    uint8_t secret[IDEMPOTENCY_SECRET_BYTES];
    pthread_mutex_t lock;
    size_t count;
    char keys[IDEMPOTENCY_IN_FLIGHT_MAX][STORE_KEY_BYTES];
};

/**
 * idempotency_open() - Begin, with the secret of the data folder's file `idempotency.secret`, made when it is not there
 * Return: 0; negative when the file cannot be read or written, or is not ours alone
 * Thread: the owner, which holds the data folder's lock
 */
int idempotency_open(const char *data_dir, struct idempotency *ret_it, struct error *err);

/** idempotency_done() - Wipe it. Thread: the owner */
void idempotency_done(struct idempotency *it);

/** idempotency_key_valid() - 1 to 255 visible ASCII characters. Thread: any */
bool idempotency_key_valid(const char *key);

/**
 * idempotency_hash() - Keyed BLAKE2b of a request's meaning: neither white space nor the order of members counts
 * Return: 0, -ENOMEM
 * Thread: any
 */
int idempotency_hash(const struct idempotency *it, const json_t *tree,
                     uint8_t ret_hash[static STORE_REQUEST_HASH_BYTES], struct error *err);

/**
 * idempotency_claim() - A request with this key is being answered from now on, until idempotency_release()
 * Return: 0; -EINPROGRESS with slug "request-in-flight" when another one is
 * Thread: any
 */
int idempotency_claim(struct idempotency *it, const char *key, struct error *err);

/** idempotency_release() - It has been answered. @key: was claimed. Thread: any */
void idempotency_release(struct idempotency *it, const char *key);

#endif

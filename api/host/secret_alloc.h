/* An allocator that wipes what is given back. Request bodies carry preshared keys and seeds carry private ones; jansson
 * copies strings as it likes, so all that it frees is cleared.
 *
 * Where there is no memory the process ends. jansson (2.14) does not look everywhere at what it is given: its lexer goes on
 * without the byte for which a string could not grow, its printer without the key. A digit that is missing in an allowlist
 * is another endpoint, so nobody goes on with such a document; machines have no network until the next daemon. */
#ifndef API_HOST_SECRET_ALLOC_H
#define API_HOST_SECRET_ALLOC_H

#include <stddef.h>

/**
 * secret_malloc() - Allocate bytes that secret_free() will wipe
 * Return: never NULL; the process is aborted instead
 * Thread: any
 */
void *secret_malloc(size_t bytes);

/** secret_free() - Wipe and free. @pointer: from secret_malloc(), or NULL. Thread: any */
void secret_free(void *pointer);

#endif

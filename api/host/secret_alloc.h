/* An allocator that wipes what is given back. Request bodies carry preshared keys and seeds carry private ones; jansson
 * copies strings as it likes, so all that it frees is cleared. */
#ifndef API_HOST_SECRET_ALLOC_H
#define API_HOST_SECRET_ALLOC_H

#include <stddef.h>

/**
 * secret_malloc() - Allocate bytes that secret_free() will wipe
 * Return: NULL when there is no memory
 * Thread: any
 */
void *secret_malloc(size_t bytes);

/** secret_free() - Wipe and free. @pointer: from secret_malloc(), or NULL. Thread: any */
void secret_free(void *pointer);

#endif

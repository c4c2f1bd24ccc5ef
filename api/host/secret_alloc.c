#include "api/host/secret_alloc.h"

#include <sodium.h>
#include <stdalign.h>
#include <stdlib.h>

#include "base/bytes.h"

/* Stands before each block; as wide as the strictest alignment, so that the block keeps malloc()'s. */
struct header {
    alignas(max_align_t) size_t bytes;
};

void *secret_malloc(size_t bytes)
{
    size_t whole;
    if (!checked_add(bytes, sizeof(struct header), &whole))
        return NULL;
    struct header *header = malloc(whole);
    if (header == NULL)
        return NULL;
    header->bytes = bytes;
    return header + 1;
}

void secret_free(void *pointer)
{
    if (pointer == NULL)
        return;
    struct header *header = (struct header *)pointer - 1;
    sodium_memzero(pointer, header->bytes);
    free(header);
}

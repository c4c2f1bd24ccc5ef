#include "api/host/secret_alloc.h"

#include <sodium.h>
#include <stdalign.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"

/* Stands before each block; as wide as the strictest alignment, so that the block keeps malloc()'s. */
struct header {
    alignas(max_align_t) size_t bytes;
};

static _Noreturn void give_up(void)
{
    static const char words[] = "omertad: no memory for a JSON document\n";
    ssize_t written = write(STDERR_FILENO, words, sizeof words - 1);
    (void)written; /* there is nobody else to tell */
    abort();
}

void *secret_malloc(size_t bytes)
{
    size_t whole;
    if (!checked_add(bytes, sizeof(struct header), &whole))
        give_up();
    struct header *header = malloc(whole);
    if (header == NULL)
        give_up();
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

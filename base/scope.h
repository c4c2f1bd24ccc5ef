/* Scoped cleanup for local resources: the variable closes itself, fd_take() hands it on. */
#ifndef BASE_SCOPE_H
#define BASE_SCOPE_H

#include <stdlib.h>
#include <unistd.h>

/**
 * fd_close() - Close a descriptor and forget it
 * @fd:    -1 is nothing to close; -1 afterwards
 * Thread: the descriptor's owner
 */
static inline void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/**
 * fd_take() - Hand a descriptor to a new owner
 * @fd:    -1 afterwards, so that its scope no longer closes it
 * Return: the descriptor
 * Thread: the descriptor's owner
 */
static inline int fd_take(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

static inline void scope_free(void *pointer)
{
    free(*(void **)pointer);
}

/* int fd SCOPED_FD = open(...); closes at the end of the block. */
#define SCOPED_FD __attribute__((cleanup(fd_close)))
/* char *text SCOPED_FREE = malloc(...); is freed at the end of the block. */
#define SCOPED_FREE __attribute__((cleanup(scope_free)))

#endif

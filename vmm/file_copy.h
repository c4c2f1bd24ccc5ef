/* A copy of a verified file that a hypervisor finds by its name. */
#ifndef VMM_FILE_COPY_H
#define VMM_FILE_COPY_H

#include <sys/types.h>

#include "base/error.h"

/**
 * file_copy() - Make a file with the bytes of another one, holes where that has zeros; without copying where the file system
 * can share them
 * @from_fd: a regular file; read from its start, its offset stays
 * @path:    must not exist
 * Return:   0; negative, and then there is no file
 * Thread:   any
 */
int file_copy(int from_fd, const char *path, mode_t mode, struct error *err);

#endif

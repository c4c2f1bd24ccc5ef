/* A console that a hypervisor writes into a file, which a guest can make as long as it likes: what was read is cut off. */
#ifndef VMM_CONSOLE_FILE_H
#define VMM_CONSOLE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum console_file_limits {
    CONSOLE_FILE_KEPT_BYTES = 64 * 1024, /* the newest, which are read whatever comes */
    CONSOLE_FILE_CUT_BYTES = 256 * 1024, /* since the last cut: another one is due */
    CONSOLE_FILE_LAG_BYTES =
        512 * 1024, /* more since it became due, and it does not wait for the last byte to be read */
};

/**
 * struct console_file - The reader's end
 * @fd:     -1 while there is no file
 * @offset: of the next byte to read
 * @cut:    up to which the blocks were given back
 * @due:    what is to be read before the next cut; 0: none is due
 *
 * Owner: the machine.
 */
struct console_file {
    int fd;
    off_t offset;
    off_t cut;
    off_t due;
};

/** console_file_init() - There is no file yet. Thread: the owner */
void console_file_init(struct console_file *file);

/**
 * console_file_read() - What was written since
 * @folder_fd, @name: where the hypervisor makes the file, which is opened as soon as it is there
 * Return:            number of bytes; 0 when there is nothing, or no regular file
 * Thread:            the owner
 */
size_t console_file_read(struct console_file *file, int folder_fd, const char *name, uint8_t *ret_bytes,
                         size_t capacity);

/** console_file_close() - Thread: the owner */
void console_file_close(struct console_file *file);

#endif

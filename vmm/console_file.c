/* The writer holds an offset of its own, and when the file is cut to nothing it goes on there: what lies before becomes a hole,
 * which takes no room. A writer that appends begins anew instead. Which of both it is shows in the file's size, once it has
 * written again. */
#include "vmm/console_file.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"

void console_file_init(struct console_file *file)
{
    *file = (struct console_file){.fd = -1};
}

static void open_file(struct console_file *file, int folder_fd, const char *name)
{
    struct stat found;
    int fd SCOPED_FD = openat(folder_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &found) == 0 && S_ISREG(found.st_mode))
        file->fd = fd_take(&fd);
}

/* Enough has come for a cut: what nobody keeps is passed over, the rest is read first. */
static void plan_cut(struct console_file *file, off_t size)
{
    if (file->due != 0 || size - file->cut < CONSOLE_FILE_CUT_BYTES)
        return;
    file->due = size;
    if (size - file->offset > CONSOLE_FILE_KEPT_BYTES)
        file->offset = size - CONSOLE_FILE_KEPT_BYTES;
}

/* All is read, but for what comes in this very moment; or a guest prints faster than it is read, and loses some of it. */
static void cut(struct console_file *file, off_t size)
{
    bool read_all = file->offset == size && file->offset >= file->due;
    if (file->due == 0 || (!read_all && size - file->due < CONSOLE_FILE_LAG_BYTES) || ftruncate(file->fd, 0) != 0)
        return;
    file->offset = file->cut = size;
    file->due = 0;
}

size_t console_file_read(struct console_file *file, int folder_fd, const char *name, uint8_t *ret_bytes,
                         size_t capacity)
{
    struct stat found;
    if (file->fd < 0)
        open_file(file, folder_fd, name);
    if (file->fd < 0 || fstat(file->fd, &found) != 0 || found.st_size == 0)
        return 0;
    if (found.st_size < file->offset)
        file->offset = file->cut = file->due = 0;
    plan_cut(file, found.st_size);
    ssize_t length = pread(file->fd, ret_bytes, capacity, file->offset);
    if (length <= 0)
        return 0;
    file->offset += length;
    cut(file, found.st_size);
    return (size_t)length;
}

void console_file_close(struct console_file *file)
{
    fd_close(&file->fd);
}

#include "vmm/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void command_start(struct command *command, const char *program)
{
    *command = (struct command){0};
    command_add(command, "%s", program);
}

void command_add(struct command *command, const char *format, ...)
{
    if (command->failed)
        return;
    size_t left = sizeof command->text - command->used;
    char *at = command->text + command->used;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(at, left, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= left || command->count == COMMAND_ARGS_MAX) {
        command->failed = true;
        return;
    }
    command->used += (size_t)length + 1;
    command->argv[command->count++] = at;
    command->argv[command->count] = NULL;
}

/* A folder is executable too, so the file type counts. */
static bool is_program(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 && S_ISREG(found.st_mode) && access(path, X_OK) == 0;
}

int command_find(const char *program, char ret_path[static VMM_PATH_BYTES], struct error *err)
{
    const char *folders = strchr(program, '/') != NULL ? NULL : getenv("PATH");
    if (strchr(program, '/') == NULL && folders == NULL)
        folders = "/usr/bin:/bin";
    char path[VMM_PATH_BYTES];
    while (true) {
        size_t folder = folders == NULL ? 0 : strcspn(folders, ":");
        int length = folder == 0 ? snprintf(path, sizeof path, "%s%s", folders == NULL ? "" : "./", program)
                                 : snprintf(path, sizeof path, "%.*s/%s", (int)folder, folders, program);
        if (length < 0 || (size_t)length >= sizeof path)
            return error_set(err, -ENAMETOOLONG, "%.80s...: the path is too long", program);
        if (*program != '\0' && is_program(path)) {
            memcpy(ret_path, path, (size_t)length + 1);
            return 0;
        }
        if (folders == NULL || folders[folder] == '\0')
            return error_set(err, -ENOENT, "%s: no such program", program);
        folders += folder + 1;
    }
}

#include "api/command/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/config/config.h"
#include "base/scope.h"

/* Start a program that prints into a descriptor and is heard nowhere else. Return: 0 or negative errno */
static int start_program(const char *program, const char *const *options, int out, pid_t *ret_pid)
{
    char words[PROGRAM_OPTIONS_MAX + 1][CONFIG_PATH_BYTES];
    snprintf(words[0], sizeof words[0], "%s", program);
    char *arguments[PROGRAM_OPTIONS_MAX + 2] = {words[0], NULL};
    for (size_t i = 0; i < PROGRAM_OPTIONS_MAX && options[i] != NULL; i++) {
        snprintf(words[i + 1], sizeof words[i + 1], "%s", options[i]);
        arguments[i + 1] = words[i + 1];
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t plain;
    sigemptyset(&plain);
    sigaddset(&plain, SIGPIPE); /* ignored here, which a program inherits; pasta does not start then */
    posix_spawnattr_setsigdefault(&attributes, &plain);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    int failed = posix_spawnp(ret_pid, program, &actions, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -failed;
}

int program_says(const char *program, const char *const *options, char ret_line[static PROGRAM_LINE_BYTES])
{
    int pipe_fds[2];
    if (pipe(pipe_fds) != 0)
        return -errno;
    int in SCOPED_FD = pipe_fds[0];
    int out SCOPED_FD = pipe_fds[1];
    (void)fcntl(in, F_SETFD, FD_CLOEXEC); /* not every system has pipe2(2), and this command has one thread */
    (void)fcntl(out, F_SETFD, FD_CLOEXEC);
    pid_t pid;
    int rc = start_program(program, options, out, &pid);
    if (rc != 0)
        return rc;
    fd_close(&out);
    size_t length = 0;
    ssize_t got = 1;
    /* To the end: a program whose output nobody reads would fail. What is over the first line's room is let go. */
    for (char text[PROGRAM_LINE_BYTES]; got > 0;) {
        got = read(in, text, sizeof text);
        size_t taken = got > 0 ? (size_t)got : 0;
        if (taken > PROGRAM_LINE_BYTES - 1 - length)
            taken = PROGRAM_LINE_BYTES - 1 - length;
        memcpy(ret_line + length, text, taken);
        length += taken;
    }
    ret_line[length] = '\0';
    ret_line[strcspn(ret_line, "\n")] = '\0';
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return -EIO;
    return 0;
}

#include "tests/vmm/stall.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cmocka.h"

/* How many filters of system calls stand over a thread; a container's are over all of them. */
static long filters_of(const char *thread)
{
    char path[64];
    char line[256];
    long filters = 0;
    snprintf(path, sizeof path, "/proc/self/task/%.20s/status", thread);
    FILE *status = fopen(path, "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, "Seccomp_filters:", 16) == 0)
            filters = strtol(line + 16, NULL, 10);
    if (status != NULL)
        fclose(status);
    return filters;
}

static pid_t find_confined(void)
{
    char own[24];
    pid_t found = 0;
    snprintf(own, sizeof own, "%ld", (long)getpid());
    const long everywhere = filters_of(own);
    DIR *threads = opendir("/proc/self/task");
    assert_non_null(threads);
    for (const struct dirent *entry; (entry = readdir(threads)) != NULL;)
        if (entry->d_name[0] != '.' && filters_of(entry->d_name) > everywhere)
            found = (pid_t)strtol(entry->d_name, NULL, 10);
    closedir(threads);
    return found;
}

/* The child's part: nothing here that a fork of a process with threads must not do. */
static _Noreturn void trace(pid_t thread, int ready_fd, int release_fd)
{
    char byte = 0;
    int status;
    bool stands = read(release_fd, &byte, 1) == 1 && ptrace(PTRACE_SEIZE, thread, NULL, NULL) == 0 &&
                  ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) == 0 && waitpid(thread, &status, __WALL) == thread;
    byte = stands ? 1 : 0;
    if (write(ready_fd, &byte, 1) == 1)
        (void)!read(release_fd, &byte, 1); /* its end of file */
    _exit(0);
}

bool stall_begin(struct stall *ret_stall)
{
    int ready[2];
    int release[2];
    char byte = 0;
    pid_t thread = find_confined();
    if (thread == 0)
        return false;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(release), 0);
    pid_t tracer = fork();
    assert_true(tracer >= 0);
    if (tracer == 0) {
        close(release[1]);
        trace(thread, ready[1], release[0]);
    }
    close(ready[1]);
    close(release[0]);
    (void)prctl(PR_SET_PTRACER, (unsigned long)tracer, 0, 0, 0); /* where Yama is on */
    assert_int_equal(write(release[1], &byte, 1), 1);
    bool stands = read(ready[0], &byte, 1) == 1 && byte == 1;
    close(ready[0]);
    *ret_stall = (struct stall){.tracer = tracer, .release_fd = release[1]};
    if (!stands)
        stall_end(ret_stall);
    return stands;
}

void stall_end(struct stall *stall)
{
    close(stall->release_fd);
    assert_int_equal(waitpid(stall->tracer, NULL, 0), stall->tracer);
}

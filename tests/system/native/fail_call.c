/* A library that is loaded before the C library (LD_PRELOAD) and has one call of the daemon fail: a file that the tests and it
 * have mapped says which kind of call, and how many of them still succeed. The daemon itself knows nothing of this. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* The numbers stand in test_sweeps.py too. */
enum kind { NOTHING, ALLOCATION, WRITING, SYNCING, SOCKET, OPENING, STARTING };

/**
 * struct order - The mapped file
 * @left:     calls of that kind that still succeed; below zero once one has failed
 * @careless: whether it was a call of libisofs or libseccomp, or of the C library, which they may have asked
 */
struct order {
    atomic_int kind;
    atomic_int left;
    atomic_int error;
    atomic_int careless;
};

static struct order nothing;
static struct order *order = &nothing;
static pid_t (*real_fork)(void);
static int (*real_thread)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static void *find(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void take_orders(void)
{
    void *found = find("fork");
    memcpy(&real_fork, &found, sizeof found);
    found = find("pthread_create");
    memcpy(&real_thread, &found, sizeof found);
    const char *path = getenv("FAIL_CALL_ORDERS");
    if (path == NULL || strcmp(program_invocation_short_name, "omertad") != 0)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        abort();
    void *at = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED)
        abort();
    order = at;
}

/* Whether this call is the one. */
static int fails(enum kind kind)
{
    if (atomic_load(&order->kind) != (int)kind || atomic_fetch_sub(&order->left, 1) != 0)
        return 0;
    errno = atomic_load(&order->error);
    return 1;
}

/* ---- memory ---- */

static int allocation_fails(void *caller)
{
    if (!fails(ALLOCATION))
        return 0;
    static const char *const libraries[] = {"/libisofs.", "/libseccomp.", "/libc."};
    Dl_info info = {0};
    if (dladdr(caller, &info) != 0)
        for (size_t at = 0; at < sizeof libraries / sizeof libraries[0]; at++)
            if (strstr(info.dli_fname, libraries[at]) != NULL)
                atomic_store(&order->careless, 1);
    errno = ENOMEM;
    return 1;
}

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *block, size_t bytes);

void *malloc(size_t bytes)
{
    return allocation_fails(__builtin_return_address(0)) ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    return allocation_fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *block, size_t bytes)
{
    return allocation_fails(__builtin_return_address(0)) ? NULL : __libc_realloc(block, bytes);
}

/* ---- files ---- */

/* Pipes, sockets and counters of events are no disk that is full. */
static int is_on_disk(int fd)
{
    struct stat info;
    int kept = errno;
    int found = atomic_load(&order->kind) == WRITING && fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    errno = kept;
    return found;
}

ssize_t write(int fd, const void *bytes, size_t count)
{
    return is_on_disk(fd) && fails(WRITING) ? -1 : syscall(SYS_write, fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return is_on_disk(fd) && fails(WRITING) ? -1 : syscall(SYS_writev, fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at)
{
    return fails(WRITING) ? -1 : syscall(SYS_pwrite64, fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at)
{
    return pwrite(fd, bytes, count, at);
}

int ftruncate(int fd, off_t length)
{
    return fails(WRITING) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    return ftruncate(fd, length);
}

int fsync(int fd)
{
    return fails(SYNCING) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return fails(SYNCING) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

static int open_at(int dir, const char *path, int flags, va_list rest)
{
    mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
    return fails(OPENING) ? -1 : (int)syscall(SYS_openat, dir, path, flags, mode);
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        int fd = open_at(AT_FDCWD, path, flags, rest);                                                                 \
        va_end(rest);                                                                                                  \
        return fd;                                                                                                     \
    }

#define OPEN_AT(name)                                                                                                  \
    int name(int dir, const char *path, int flags, ...)                                                                \
    {                                                                                                                  \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        int fd = open_at(dir, path, flags, rest);                                                                      \
        va_end(rest);                                                                                                  \
        return fd;                                                                                                     \
    }

OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

int __open_2(const char *path, int flags)
{
    return open(path, flags);
}

int __open64_2(const char *path, int flags)
{
    return open(path, flags);
}

int __openat_2(int dir, const char *path, int flags)
{
    return openat(dir, path, flags);
}

int __openat64_2(int dir, const char *path, int flags)
{
    return openat(dir, path, flags);
}

/* ---- sockets and what is polled beside them ---- */

int socket(int family, int type, int protocol)
{
    return fails(SOCKET) ? -1 : (int)syscall(SYS_socket, family, type, protocol);
}

int socketpair(int family, int type, int protocol, int fds[2])
{
    return fails(SOCKET) ? -1 : (int)syscall(SYS_socketpair, family, type, protocol, fds);
}

int bind(int fd, __CONST_SOCKADDR_ARG name, socklen_t length)
{
    return fails(SOCKET) ? -1 : (int)syscall(SYS_bind, fd, name.__sockaddr__, length);
}

int listen(int fd, int backlog)
{
    return fails(SOCKET) ? -1 : (int)syscall(SYS_listen, fd, backlog);
}

int connect(int fd, __CONST_SOCKADDR_ARG name, socklen_t length)
{
    return fails(SOCKET) ? -1 : (int)syscall(SYS_connect, fd, name.__sockaddr__, length);
}

int accept4(int fd, __SOCKADDR_ARG name, socklen_t *length, int flags)
{
    return fails(SOCKET) ? -1 : (int)syscall(SYS_accept4, fd, name.__sockaddr__, length, flags);
}

int accept(int fd, __SOCKADDR_ARG name, socklen_t *length)
{
    return fails(SOCKET) ? -1 : (int)syscall(SYS_accept, fd, name.__sockaddr__, length);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    return fails(SOCKET) ? -1 : (int)syscall(SYS_setsockopt, fd, level, name, value, length);
}

int eventfd(unsigned int count, int flags)
{
    return fails(SOCKET) ? -1 : (int)syscall(SYS_eventfd2, count, flags);
}

int pipe2(int fds[2], int flags)
{
    return fails(SOCKET) ? -1 : (int)syscall(SYS_pipe2, fds, flags);
}

/* ---- threads and processes ---- */

pid_t fork(void)
{
    return fails(STARTING) ? -1 : real_fork();
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context)
{
    return fails(STARTING) ? errno : real_thread(thread, attributes, run, context);
}

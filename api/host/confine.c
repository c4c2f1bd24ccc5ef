/* The daemon is confined in three rings (the innermost, of NAT threads, is nat/confine.c's):
 *
 * - The process, and with it the hypervisor and all that is started for direct mode: no_new_privs, no core dumps, and a list of
 *   forbidden calls. A list of allowed ones would have to hold what QEMU, pasta and nft of any version call; they have their
 *   own narrower ones (QEMU's -sandbox, pasta's filter).
 * - Threads that read what clients send, or write down what machines do: HTTP, its front door, streams, journal, time limits.
 *   They have a list of allowed calls: they open files and answer sockets, and that is all. None can start a program, make a
 *   socket to anywhere, map executable memory, signal, trace or change a namespace; what starts programs is the supervisor,
 *   which hears from them through a queue of plain values. Where the kernel has Landlock the files that they open are the
 *   provider's data, images and packages: no key of the account, no socket, no program. The supervisor has no such limit: its
 *   programs would inherit it, and pasta could mount nothing then.
 *
 * What is not allowed ends the process (SECCOMP_RET_KILL_PROCESS), because such a thread may hold the store's locks; a daemon
 * that lives on without it would answer nobody. That fails closed: the NAT threads end with the process, so no machine has
 * a network, and the next daemon adopts or ends them. */
#include "api/host/confine.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/landlock.h"
#include "base/scope.h"

#ifdef OMERTAD_CONFINED

#include <linux/netlink.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#define IS(at, what)                                                                                                   \
    {                                                                                                                  \
        .index = (at), .mask = UINT32_MAX, .value = (uint64_t)(what)                                                   \
    }
#define WITH(at, bits)                                                                                                 \
    {                                                                                                                  \
        .index = (at), .mask = (bits), .value = (bits)                                                                 \
    }
#define WITHOUT(at, bits)                                                                                              \
    {                                                                                                                  \
        .index = (at), .mask = (bits), .value = 0                                                                      \
    }

static const char memory[] = "memory";
static const char threads[] = "locks and threads";
static const char times[] = "time";
static const char sockets[] = "clients, and waking other threads";
static const char files[] = "the store, images, the token";
static const char addresses[] = "the provider's own addresses, asked of the kernel";
static const char self[] = "what this process is and uses";

static const struct confine_rule service[] = {
    {.call = "mmap", .reason = memory, .arguments = {WITHOUT(2, PROT_EXEC)}},
    {.call = "mprotect", .reason = memory, .arguments = {WITHOUT(2, PROT_EXEC)}},
    {.call = "munmap", .reason = memory},
    {.call = "mremap", .reason = memory},
    {.call = "brk", .reason = memory},
    {.call = "madvise", .reason = memory},
    {.call = "mlock", .reason = "secrets stay out of the swap"},
    {.call = "munlock", .reason = memory},

    {.call = "futex", .reason = threads},
    {.call = "clone", .reason = "threads, no processes", .arguments = {WITH(0, CLONE_THREAD)}},
    {.call = "clone3",
     .reason = "its arguments cannot be looked at; the C library asks by clone() then",
     .refused = ENOSYS},
    {.call = "set_robust_list", .reason = threads},
    {.call = "rseq", .reason = threads},
    {.call = "rt_sigprocmask", .reason = threads},
    {.call = "rt_sigaction", .reason = "the C library prepares for cancellation with the first thread"},
    {.call = "rt_sigreturn", .reason = threads},
    {.call = "sched_yield", .reason = threads},
    {.call = "sched_getaffinity", .reason = "how many heaps are worth it"},
    {.call = "prctl", .reason = "a thread's name", .arguments = {IS(0, PR_SET_NAME)}},
    {.call = "gettid", .reason = threads},
    {.call = "exit", .reason = threads},

    {.call = "clock_gettime", .reason = times},
    {.call = "clock_nanosleep", .reason = "SQLite waits for another writer"},
    {.call = "nanosleep", .reason = times},
    {.call = "gettimeofday", .reason = times},
    {.call = "time", .reason = times},
    {.call = "restart_syscall", .reason = "the kernel goes on after the process was stopped"},

    {.call = "accept", .reason = sockets},
    {.call = "accept4", .reason = sockets},
    {.call = "recvfrom", .reason = sockets},
    {.call = "recvmsg", .reason = sockets},
    {.call = "sendto", .reason = sockets},
    {.call = "sendmsg", .reason = sockets},
    {.call = "sendfile", .reason = sockets},
    {.call = "writev", .reason = sockets},
    {.call = "getsockopt", .reason = sockets},
    {.call = "setsockopt", .reason = sockets},
    {.call = "getsockname", .reason = sockets},
    {.call = "getpeername", .reason = sockets},
    {.call = "shutdown", .reason = sockets},
    {.call = "poll", .reason = sockets},
    {.call = "ppoll", .reason = sockets},
    {.call = "select", .reason = sockets},
    {.call = "pselect6", .reason = sockets},
    {.call = "eventfd2", .reason = sockets},
    {.call = "pipe", .reason = sockets},
    {.call = "pipe2", .reason = sockets},
    {.call = "socketpair", .reason = sockets, .arguments = {IS(0, AF_UNIX)}},

    {.call = "socket", .reason = addresses, .arguments = {IS(0, AF_NETLINK), IS(2, NETLINK_ROUTE)}},
    {.call = "bind", .reason = addresses},

    {.call = "open", .reason = files},
    {.call = "openat", .reason = files},
    {.call = "close", .reason = files},
    {.call = "read", .reason = files},
    {.call = "write", .reason = files},
    {.call = "pread64", .reason = files},
    {.call = "pwrite64", .reason = files},
    {.call = "lseek", .reason = files},
    {.call = "fcntl", .reason = files},
    {.call = "flock", .reason = files},
    {.call = "fstat", .reason = files},
    {.call = "stat", .reason = files},
    {.call = "lstat", .reason = files},
    {.call = "newfstatat", .reason = files},
    {.call = "statx", .reason = files},
    {.call = "fstatfs", .reason = files},
    {.call = "statfs", .reason = files},
    {.call = "access", .reason = files},
    {.call = "faccessat", .reason = files},
    {.call = "faccessat2", .reason = files},
    {.call = "readlink", .reason = files},
    {.call = "readlinkat", .reason = files},
    {.call = "getdents64", .reason = files},
    {.call = "getcwd", .reason = files},
    {.call = "ftruncate", .reason = files},
    {.call = "fallocate", .reason = files},
    {.call = "fsync", .reason = files},
    {.call = "fdatasync", .reason = files},
    {.call = "unlink", .reason = files},
    {.call = "unlinkat", .reason = files},
    {.call = "rename", .reason = files},
    {.call = "renameat", .reason = files},
    {.call = "mkdir", .reason = files},
    {.call = "mkdirat", .reason = files},
    {.call = "rmdir", .reason = files},
    {.call = "fchmod", .reason = files},
    {.call = "fchown", .reason = "SQLite gives its files to the database's owner"},
    {.call = "getrandom", .reason = "keys, tokens, ids"},

    {.call = "getpid", .reason = self},
    {.call = "getuid", .reason = self},
    {.call = "geteuid", .reason = self},
    {.call = "getrusage", .reason = self},
    {.call = "prlimit64", .reason = self},
    {.call = "sysinfo", .reason = self},
    {.call = "uname", .reason = self},
};

static const char kernel[] = "changes the kernel that all share";
static const char others[] = "reaches into other processes";
static const char wide[] = "wide interfaces of the kernel that no program here needs, and many exploits do";

static const struct confine_rule forbidden[] = {
    {.call = "kexec_load", .reason = kernel},
    {.call = "kexec_file_load", .reason = kernel},
    {.call = "init_module", .reason = kernel},
    {.call = "finit_module", .reason = kernel},
    {.call = "delete_module", .reason = kernel},
    {.call = "reboot", .reason = kernel},
    {.call = "swapon", .reason = kernel},
    {.call = "swapoff", .reason = kernel},
    {.call = "acct", .reason = kernel},
    {.call = "quotactl", .reason = kernel},
    {.call = "syslog", .reason = kernel},
    {.call = "settimeofday", .reason = kernel},
    {.call = "clock_settime", .reason = kernel},
    {.call = "clock_adjtime", .reason = kernel},
    {.call = "adjtimex", .reason = kernel},
    {.call = "iopl", .reason = kernel},
    {.call = "ioperm", .reason = kernel},

    {.call = "ptrace", .reason = others},
    {.call = "process_vm_readv", .reason = others},
    {.call = "process_vm_writev", .reason = others},
    {.call = "process_madvise", .reason = others},
    {.call = "pidfd_getfd", .reason = others},
    {.call = "kcmp", .reason = others},
    {.call = "move_pages", .reason = others},
    {.call = "migrate_pages", .reason = others},

    {.call = "bpf", .reason = wide},
    {.call = "perf_event_open", .reason = wide},
    {.call = "userfaultfd", .reason = wide},
    {.call = "add_key", .reason = wide},
    {.call = "request_key", .reason = wide},
    {.call = "keyctl", .reason = wide},
    {.call = "open_by_handle_at", .reason = "opens files past the folders that lead to them"},
    {.call = "fanotify_init", .reason = wide},
    {.call = "vmsplice", .reason = wide},
    {.call = "personality", .reason = "turns protections of memory off"},
    {.call = "io_uring_setup",
     .reason = "calls that no filter sees; QEMU does without when there is none",
     .refused = ENOSYS},
    {.call = "io_uring_enter", .reason = "the same", .refused = ENOSYS},
    {.call = "io_uring_register", .reason = "the same", .refused = ENOSYS},
};

const struct confine_rule *confine_service_table(size_t *ret_count)
{
    *ret_count = COUNT(service);
    return service;
}

const struct confine_rule *confine_forbidden_table(size_t *ret_count)
{
    *ret_count = COUNT(forbidden);
    return forbidden;
}

#else

const struct confine_rule *confine_service_table(size_t *ret_count)
{
    *ret_count = 0;
    return NULL;
}

const struct confine_rule *confine_forbidden_table(size_t *ret_count)
{
    *ret_count = 0;
    return NULL;
}

#endif

enum { SERVICE_FILES = 6 };

static void list_files(const struct confine_folders *folders, struct landlock_rule ret_rules[static SERVICE_FILES])
{
    const struct landlock_rule rules[SERVICE_FILES] = {
        {.path = folders->data, .reason = "the store, tokens, keys of requests", .access = LANDLOCK_CHANGE},
        {.path = folders->images, .reason = "what there is to lease", .access = LANDLOCK_READ},
        {.path = folders->packages, .reason = "what a guest installs from", .access = LANDLOCK_READ},
        {.path = "/proc/self", .reason = "what this process uses, for its metrics", .access = LANDLOCK_READ},
        {.path = "/proc/sys/kernel/random/boot_id", .reason = "which boot a time is of", .access = LANDLOCK_READ},
        {.path = "/dev/urandom", .reason = "SQLite's random numbers", .access = LANDLOCK_READ},
    };
    memcpy(ret_rules, rules, sizeof rules);
}

int confine_process(struct error *err)
{
    size_t count;
    const struct confine_rule *rules = confine_forbidden_table(&count);
    struct confine_program program;
    int rc = confine_forbid(rules, count, &program, err);
    if (rc == 0 && (rc = confine_enter(&program)) < 0)
        error_set(err, rc, "The process cannot confine itself: %s.", strerror(-rc));
    return rc;
}

/** struct visit - One call of confine_service(). Owner: it, which waits for the thread. */
struct visit {
    const struct confine_folders *folders;
    int (*open)(void *context, struct error *err);
    void *context;
    struct error *err;
    int result;
    struct confine_program program;
};

static void *run(void *context)
{
    struct visit *visit = context;
    struct landlock_rule reached[SERVICE_FILES];
    list_files(visit->folders, reached);
    visit->result = landlock_enter(reached, SERVICE_FILES);
    if (visit->result == 0)
        visit->result = confine_enter(&visit->program);
    if (visit->result < 0)
        error_set(visit->err, visit->result, "A thread cannot confine itself: %s.", strerror(-visit->result));
    else
        visit->result = visit->open(visit->context, visit->err);
    return NULL;
}

int confine_service(const struct confine_folders *folders, int (*open)(void *context, struct error *err), void *context,
                    struct error *err)
{
    size_t count;
    const struct confine_rule *rules = confine_service_table(&count);
    struct visit visit = {.folders = folders, .open = open, .context = context, .err = err};
    pthread_t thread;
    int rc = confine_allow(rules, count, 0, CONFINE_KILL_PROCESS, &visit.program, err);
    if (rc < 0)
        return rc;
    int code = pthread_create(&thread, NULL, run, &visit);
    if (code != 0)
        return error_set(err, -code, "No thread could be started: %s.", strerror(code));
    pthread_join(thread, NULL);
    return visit.result;
}

/* A thread narrows itself: to a table of system calls (seccomp), and to a handful of descriptors of its own.
 *
 * A table is turned into a program where memory can be had; entering it allocates nothing and takes no lock, so that a thread
 * whose table has no room for malloc() can do it. What a thread has entered, the threads and processes that it makes have
 * too, and nobody leaves it.
 *
 * Off Linux, with PORTABLE=1 and in builds with a sanitizer, whose runtime makes calls of its own, nothing is narrowed:
 * confine_is_built() says so. */
#ifndef BASE_CONFINE_H
#define BASE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum confine_limits {
    CONFINE_ARGUMENTS = 2,
    CONFINE_PROGRAM_BYTES = 16384, /* 2,048 instructions; the largest table needs a quarter of them */
};

/** struct confine_argument - What one argument of a call must be: (argument & @mask) == @value. @mask 0: anything. */
struct confine_argument {
    uint8_t index;
    uint64_t mask;
    uint64_t value;
};

/**
 * struct confine_rule - One system call of a table
 * @call:      its name; one that this processor does not have is passed over
 * @reason:    why it is there, for whoever reads the table
 * @ways:      the caller's bits: for which kinds of thread it is there; 0 for all
 * @arguments: all must hold; a call with several rules needs one of them
 * @refused:   an errno that the call answers with, instead of being made; 0: none
 */
struct confine_rule {
    const char *call;
    const char *reason;
    unsigned ways;
    struct confine_argument arguments[CONFINE_ARGUMENTS];
    int refused;
};

/** enum confine_otherwise - What becomes of a call that no rule matches. */
enum confine_otherwise {
    CONFINE_KILL_THREAD,  /* the thread is gone at that instant; nothing of it runs any more */
    CONFINE_KILL_PROCESS, /* all threads are */
};

/** struct confine_program - A table as the kernel takes it. Owner: whoever has it; nothing to free. */
struct confine_program {
    size_t bytes; /* 0: nothing is narrowed in this build */
    _Alignas(8) uint8_t code[CONFINE_PROGRAM_BYTES];
};

/** confine_is_built() - Whether this build narrows anything. Thread: any */
bool confine_is_built(void);

/**
 * confine_allow() - A program that allows what is in a table and nothing else
 * @ways:        bits of the rules that are wanted, beside those for all
 * @ret_program: of no bytes when nothing is narrowed in this build
 * Return:       0 or negative
 * Thread:       any; allocates
 */
int confine_allow(const struct confine_rule *rules, size_t count, unsigned ways, enum confine_otherwise otherwise,
                  struct confine_program *ret_program, struct error *err);

/**
 * confine_forbid() - A program that kills the process that makes a call of a table, and allows all others
 * It is for a process that starts programs of others, whose calls nobody can list.
 * @ret_program: as above
 * Return:       0 or negative
 * Thread:       any; allocates
 */
int confine_forbid(const struct confine_rule *rules, size_t count, struct confine_program *ret_program,
                   struct error *err);

/** confine_count() - How many calls a table has; rules for the same call stand together. Thread: any */
size_t confine_count(const struct confine_rule *rules, size_t count);

/**
 * confine_enter() - Run under a program from here on
 * Return: 0 or negative errno
 * Thread: the one that is narrowed; allocates nothing, takes no lock
 * Source: seccomp(2)
 */
int confine_enter(const struct confine_program *program);

/**
 * confine_end_thread() - End this thread by the one system call for it
 *
 * The C library would make others first, for the thread's signals and its stack, which a table then need not allow. For
 * whoever joins the thread it ends as one that the kernel has killed: the kernel tells, and the stack is freed. Only for a
 * thread that holds no lock and has nothing of its own from the C library: it neither allocates nor has thread-local objects.
 *
 * Return: when nothing is narrowed in this build, and the thread may just return
 * Thread: the one that ends
 * Source: set_tid_address(2), "clear_child_tid"
 */
void confine_end_thread(void);

/**
 * confine_keep_only() - Have these descriptors alone, in a table of this thread's own
 *
 * They keep their numbers. The other threads keep theirs too, and no longer see what this one opens or closes. When the
 * thread ends in whatever way, the kernel closes them: whoever has the other end of one is told.
 *
 * @fds:   at most CONFINE_KEEP_MAX, none negative
 * Return: 0 or negative errno; nothing happens when nothing is narrowed in this build
 * Thread: the one that is narrowed; allocates nothing, takes no lock
 * Source: unshare(2), close_range(2)
 */
int confine_keep_only(const int *fds, size_t count);

enum confine_keep_limits { CONFINE_KEEP_MAX = 8 };

#endif

/* A thread gives up the file system, but for folders that it names (Landlock, Linux from 5.13 on).
 *
 * It stands beside the table of system calls (base/confine.h), which knows calls and numbers but no paths: a thread that has
 * to open files is kept to its own folders, and one that has none to open is kept from all, even if a call should slip into
 * its table. TCP is given up with it where the kernel can do that (6.7): no connect(2), no port.
 *
 * It is as good as the kernel: where there is no Landlock nothing changes, and landlock_version() says so. A folder that is
 * replaced by another one is another folder; what is in it is not reached until the thread begins anew. What a thread has given
 * up, its threads and programs have not either, and a program cannot mount anything then: so it is no thing for a thread that
 * starts hypervisors and namespaces. */
#ifndef BASE_LANDLOCK_H
#define BASE_LANDLOCK_H

#include <stddef.h>

enum landlock_access {
    LANDLOCK_READ,   /* files and lists of them */
    LANDLOCK_CHANGE, /* and write, make and remove files and folders */
};

/** struct landlock_rule - What is left of the file system; several are meant together. */
struct landlock_rule {
    const char *path;   /* a file, or a folder with all in it; one that is not there is passed over */
    const char *reason; /* for whoever reads the table */
    enum landlock_access access;
};

/** landlock_version() - Of the kernel's Landlock; 0: there is none, or this build narrows nothing. Thread: any */
int landlock_version(void);

/**
 * landlock_enter() - Reach nothing of the file system from here on but what the rules say
 *
 * Descriptors that are open stay usable.
 *
 * @count: 0: nothing at all
 * Return: 0, also where there is no Landlock; or negative errno
 * Thread: the one that is narrowed; allocates nothing, takes no lock
 * Source: landlock(7)
 */
int landlock_enter(const struct landlock_rule *rules, size_t count);

#endif

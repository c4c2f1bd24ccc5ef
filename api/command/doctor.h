/* What `omertad doctor` finds: how a finding is told, and the judgements about this machine that need only values. */
#ifndef API_COMMAND_DOCTOR_H
#define API_COMMAND_DOCTOR_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum doctor_limits {
    DOCTOR_DESCRIPTORS_OWN = 256,   /* connections, store, listeners */
    DOCTOR_DESCRIPTORS_LEASE = 100, /* uplinks, attachment, QMP, console, volumes of one lease */
    DOCTOR_THREADS_OWN = 32,
    DOCTOR_THREADS_LEASE = 24, /* the hypervisor's, its virtual processors', the NAT's */
    DOCTOR_DISK_MIB = 256,     /* free space below which the store is in danger */
};

/* A note is something that is missing and that nobody has asked for. */
enum doctor_level { DOCTOR_OK, DOCTOR_NOTE, DOCTOR_WARN, DOCTOR_FAIL };

/** struct doctor_report - What is found: printed at once, or gathered. Owner: the command. */
struct doctor_report {
    json_t *findings; /* NULL: print */
    bool failed;
};

/** struct doctor_finding - One line, but for its sentence. @why and @mend are NULL where nothing is wrong or known. */
struct doctor_finding {
    enum doctor_level level;
    const char *check; /* a word: "port" */
    const char *why;   /* what does not work because of it */
    const char *mend;  /* a command, or what to change */
};

/** doctor_find() - Tell one finding; @format is its sentence. Thread: the owner */
void doctor_find(struct doctor_report *report, const struct doctor_finding *finding, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** doctor_ok() - Tell that something is well. Thread: the owner */
void doctor_ok(struct doctor_report *report, const char *check, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** doctor_print_json() - The gathered findings as one document on stdout. Thread: the owner */
void doctor_print_json(struct doctor_report *report);

/** doctor_judge_descriptors() - Whether @soft descriptors are enough for so many leases. Thread: any */
void doctor_judge_descriptors(struct doctor_report *report, uint64_t soft, uint64_t hard, uint32_t leases);

/** doctor_judge_threads() - Whether this user may have the threads of so many leases. Thread: any */
void doctor_judge_threads(struct doctor_report *report, uint64_t soft, uint32_t leases);

/** doctor_judge_memory() - Whether the machine has the memory that the capacity promises. Thread: any */
void doctor_judge_memory(struct doctor_report *report, uint64_t total_mib, uint64_t promised_mib);

/** doctor_judge_disk() - Whether the data folder's disk has what it needs. Thread: any */
void doctor_judge_disk(struct doctor_report *report, const char *path, uint64_t free_mib, uint64_t promised_mib);

/**
 * doctor_judge_clock() - Whether the wall clock can be believed
 * @wall_ms:      now
 * @least_ms:     a moment that has certainly passed
 * @synchronised: 1 it is, 0 it is not, -1 the system does not say
 * Thread:        any
 */
void doctor_judge_clock(struct doctor_report *report, uint64_t wall_ms, uint64_t least_ms, int synchronised);

/**
 * doctor_judge_namespaces() - Whether an ordinary user may make namespaces
 * @error:          errno of the attempt, 0 when it succeeded
 * @max:            user.max_user_namespaces, @clone: kernel.unprivileged_userns_clone, @apparmor:
 *                  kernel.apparmor_restrict_unprivileged_userns; -1 for one that this kernel does not have
 * @level:          of what is wrong: how much direct mode is wanted
 * Thread:          any
 */
void doctor_judge_namespaces(struct doctor_report *report, enum doctor_level level, int error, long max, long clone,
                             long apparmor);

/** doctor_judge_tun() - Whether /dev/net/tun opens; @error is errno of the attempt, 0 when it did. Thread: any */
void doctor_judge_tun(struct doctor_report *report, enum doctor_level level, int error);

/** struct doctor_calls - How many system calls the daemon's own threads have, how many nobody has; 0: they are not confined. */
struct doctor_calls {
    size_t nat;
    size_t service;
    size_t forbidden;
};

/**
 * doctor_judge_sandbox() - What confines this process and the hypervisor
 * @no_new_privs: whether it is set
 * @seccomp:      whether the hypervisor starts with its filter
 * @landlock:     version of the kernel's Landlock, 0 for none
 * @own:          of the daemon's own threads
 * Thread:        any
 */
void doctor_judge_sandbox(struct doctor_report *report, bool no_new_privs, bool seccomp, int landlock,
                          const struct doctor_calls *own);

#endif

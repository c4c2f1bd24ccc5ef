#include "api/command/doctor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    TEXT_BYTES = 480, /* a sentence with a path and a system's message */
    MEND_BYTES = 160,
    FILES_BYTES = 96,
};

static const char *const level_names[] = {
    [DOCTOR_OK] = "ok", [DOCTOR_NOTE] = "note", [DOCTOR_WARN] = "warn", [DOCTOR_FAIL] = "fail"};

/* ---- telling --------------------------------------------------------------------------------------------------- */

static void tell(struct doctor_report *report, const struct doctor_finding *finding, const char *text)
{
    report->failed = report->failed || finding->level == DOCTOR_FAIL;
    if (report->findings != NULL) {
        json_array_append_new(report->findings, json_pack("{s:s, s:s, s:s, s:s?, s:s?}", "check", finding->check,
                                                          "level", level_names[finding->level], "finding", text, "why",
                                                          finding->why, "mend", finding->mend));
        return;
    }
    printf("%-4s  %-12s %s\n", level_names[finding->level], finding->check, text);
    if (finding->why != NULL)
        printf("      %12s %s\n", "why:", finding->why);
    if (finding->mend != NULL)
        printf("      %12s %s\n", "mend:", finding->mend);
}

void doctor_find(struct doctor_report *report, const struct doctor_finding *finding, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    tell(report, finding, text);
}

void doctor_ok(struct doctor_report *report, const char *check, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    tell(report, &(const struct doctor_finding){.check = check}, text);
}

void doctor_print_json(struct doctor_report *report)
{
    json_t *json = json_pack("{s:b, s:O}", "ok", (int)!report->failed, "findings", report->findings);
    if (json_dumpf(json, stdout, JSON_INDENT(2)) == 0)
        putchar('\n');
    json_decref(json);
}

/* ---- limits ---------------------------------------------------------------------------------------------------- */

void doctor_judge_descriptors(struct doctor_report *report, uint64_t soft, uint64_t hard, uint32_t leases)
{
    uint64_t wanted = DOCTOR_DESCRIPTORS_OWN + (uint64_t)DOCTOR_DESCRIPTORS_LEASE * leases;
    char mend[MEND_BYTES];
    if (soft >= wanted) {
        doctor_ok(report, "descriptors", "%" PRIu64 " for %u leases", soft, (unsigned)leases);
        return;
    }
    if (hard >= wanted)
        snprintf(mend, sizeof mend, "ulimit -n %" PRIu64 ", or LimitNOFILE=%" PRIu64 " in the service", wanted, wanted);
    else
        snprintf(mend, sizeof mend, "echo \"$USER hard nofile %" PRIu64 "\" | sudo tee -a /etc/security/limits.conf",
                 wanted);
    const struct doctor_finding finding = {.level = DOCTOR_WARN,
                                           .check = "descriptors",
                                           .why = "they are shared out, and a guest can hold fewer flows at a time",
                                           .mend = mend};
    doctor_find(report, &finding, "%" PRIu64 " may be open; %u leases may need %" PRIu64, soft, (unsigned)leases,
                wanted);
}

void doctor_judge_threads(struct doctor_report *report, uint64_t soft, uint32_t leases)
{
    uint64_t wanted = DOCTOR_THREADS_OWN + (uint64_t)DOCTOR_THREADS_LEASE * leases;
    char mend[MEND_BYTES];
    snprintf(mend, sizeof mend, "ulimit -u %" PRIu64 ", or TasksMax= and LimitNPROC= in the service", wanted);
    const struct doctor_finding finding = {.level = DOCTOR_WARN,
                                           .check = "threads",
                                           .why = "a hypervisor that cannot have its threads ends its lease",
                                           .mend = mend};
    if (soft >= wanted)
        doctor_ok(report, "threads", "enough for %u leases", (unsigned)leases);
    else
        doctor_find(report, &finding, "this user may have %" PRIu64 "; %u leases may need %" PRIu64, soft,
                    (unsigned)leases, wanted);
}

void doctor_judge_memory(struct doctor_report *report, uint64_t total_mib, uint64_t promised_mib)
{
    static const struct doctor_finding finding = {
        .level = DOCTOR_WARN,
        .check = "memory",
        .why = "the kernel ends hypervisors, or the daemon, when guests use what they were promised",
        .mend = "lower capacity.memoryMib"};
    if (promised_mib <= total_mib)
        doctor_ok(report, "memory", "%" PRIu64 " MiB for guests of %" PRIu64 " MiB", promised_mib, total_mib);
    else
        doctor_find(report, &finding, "%" PRIu64 " MiB are promised to guests, and the machine has %" PRIu64 " MiB",
                    promised_mib, total_mib);
}

void doctor_judge_disk(struct doctor_report *report, const char *path, uint64_t free_mib, uint64_t promised_mib)
{
    struct doctor_finding finding = {.level = DOCTOR_FAIL,
                                     .check = "disk",
                                     .why = "on a full disk no lease can be written down, so none is given",
                                     .mend = "make room, or move paths.data"};
    if (free_mib < DOCTOR_DISK_MIB) {
        doctor_find(report, &finding, "%" PRIu64 " MiB are free at %s, and the store wants %d", free_mib, path,
                    DOCTOR_DISK_MIB);
        return;
    }
    if (free_mib >= promised_mib) {
        doctor_ok(report, "disk", "%" PRIu64 " MiB free at %s", free_mib, path);
        return;
    }
    finding.level = DOCTOR_WARN;
    finding.why = "guests whose disks cannot grow see write errors, and so does the store";
    finding.mend = "lower capacity.diskMib, or make room";
    doctor_find(report, &finding, "%" PRIu64 " MiB are promised to guests, and %" PRIu64 " MiB are free at %s",
                promised_mib, free_mib, path);
}

/* ---- clock ----------------------------------------------------------------------------------------------------- */

void doctor_judge_clock(struct doctor_report *report, uint64_t wall_ms, uint64_t least_ms, int synchronised)
{
    struct doctor_finding finding = {
        .level = DOCTOR_FAIL,
        .check = "clock",
        .why = "a guest takes its time from here, and WireGuard refuses handshakes that are older than the last one",
        .mend = "sudo timedatectl set-ntp true"};
    if (wall_ms < least_ms) {
        doctor_find(report, &finding, "the clock is before this program was built");
        return;
    }
    if (synchronised != 0) {
        doctor_ok(report, "clock", "%s", synchronised > 0 ? "synchronised" : "plausible");
        return;
    }
    finding.level = DOCTOR_WARN;
    finding.why = "times of leases and violations cannot be compared with other machines'";
    doctor_find(report, &finding, "the kernel says that its clock is not synchronised");
}

/* ---- direct mode ----------------------------------------------------------------------------------------------- */

void doctor_judge_namespaces(struct doctor_report *report, enum doctor_level level, int error, long max, long clone,
                             long apparmor)
{
    if (error == 0) {
        doctor_ok(report, "namespaces", "an ordinary user may make them");
        return;
    }
    struct doctor_finding finding = {.level = level,
                                     .check = "namespaces",
                                     .why = "direct mode keeps its machines in one; the other modes need none",
                                     .mend = "allow unprivileged user namespaces in this machine or container"};
    if (max == 0)
        finding.mend = "sudo sysctl user.max_user_namespaces=15000";
    else if (clone == 0)
        finding.mend = "sudo sysctl kernel.unprivileged_userns_clone=1";
    else if (apparmor == 1)
        finding.mend = "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a profile for omertad and pasta";
    doctor_find(report, &finding, "this user may not make a user and a network namespace: %s", strerror(error));
}

void doctor_judge_tun(struct doctor_report *report, enum doctor_level level, int error)
{
    const struct doctor_finding finding = {.level = level,
                                           .check = "tun",
                                           .why = "direct mode gives its machines a tap; the other modes need none",
                                           .mend =
                                               error == ENOENT ? "sudo modprobe tun" : "sudo chmod 0666 /dev/net/tun"};
    if (error == 0)
        doctor_ok(report, "tun", "/dev/net/tun opens");
    else
        doctor_find(report, &finding, "/dev/net/tun does not open: %s", strerror(error));
}

/* ---- sandbox --------------------------------------------------------------------------------------------------- */

void doctor_judge_sandbox(struct doctor_report *report, bool no_new_privs, bool seccomp, int landlock,
                          const struct doctor_calls *own)
{
    static const struct doctor_finding no_privs = {
        .level = DOCTOR_FAIL,
        .check = "sandbox",
        .why = "a program with a set-user-id bit could gain rights that leases must not have",
        .mend = "use a kernel from 3.5 on"};
    static const struct doctor_finding no_filter = {
        .level = DOCTOR_FAIL,
        .check = "sandbox",
        .why = "every machine is started with it: a guest that breaks out of QEMU must not start programs",
        .mend = "apt install qemu-system-x86 (a QEMU that is built with seccomp, on a kernel that has it)"};
    static const struct doctor_finding open_threads = {
        .level = DOCTOR_WARN,
        .check = "sandbox",
        .why = "a flaw in what reads a guest's frames or a client's requests would have more to reach for",
        .mend = "make, without SANITIZE and PORTABLE, on Linux"};
    if (!no_new_privs) {
        doctor_find(report, &no_privs, "no_new_privs cannot be set");
        return;
    }
    if (!seccomp) {
        doctor_find(report, &no_filter, "QEMU does not start with its seccomp filter");
        return;
    }
    char files[FILES_BYTES] = "no thread is kept from files, for this kernel has no Landlock";
    if (landlock > 0)
        snprintf(files, sizeof files, "NAT threads reach no file, service threads their folders alone (Landlock %d)",
                 landlock);
    if (own->nat == 0) {
        doctor_find(report, &open_threads, "threads of the daemon are not confined in this build");
        return;
    }
    doctor_ok(report, "sandbox",
              "no_new_privs is set, QEMU has its seccomp filter, NAT threads %zu system calls, service threads %zu, "
              "and %zu are forbidden to all; %s",
              own->nat, own->service, own->forbidden, files);
}

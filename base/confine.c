#include "base/confine.h"

#include <errno.h>
#include <string.h>

size_t confine_count(const struct confine_rule *rules, size_t count)
{
    size_t calls = 0;
    for (size_t at = 0; at < count; at++)
        calls += at == 0 || strcmp(rules[at].call, rules[at - 1].call) != 0;
    return calls;
}

#ifdef OMERTAD_CONFINED

#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/scope.h"

bool confine_is_built(void)
{
    return true;
}

/* ---- a table becomes a program --------------------------------------------------------------------------------- */

static void release(scmp_filter_ctx *filter)
{
    if (*filter != NULL)
        seccomp_release(*filter);
}

static int add_rule(scmp_filter_ctx filter, const struct confine_rule *rule, uint32_t action)
{
    struct scmp_arg_cmp compares[CONFINE_ARGUMENTS];
    unsigned count = 0;
    int call = seccomp_syscall_resolve_name(rule->call);
    if (call == __NR_SCMP_ERROR)
        return -ENOSYS; /* misspelt: a table that means something else than it says */
    if (call < 0)
        return 0; /* a call of other processors */
    for (size_t at = 0; at < CONFINE_ARGUMENTS; at++) {
        const struct confine_argument *argument = &rule->arguments[at];
        if (argument->mask != 0)
            compares[count++] = (struct scmp_arg_cmp){.arg = argument->index,
                                                      .op = SCMP_CMP_MASKED_EQ,
                                                      .datum_a = argument->mask,
                                                      .datum_b = argument->value};
    }
    return seccomp_rule_add_array(filter, rule->refused != 0 ? SCMP_ACT_ERRNO((uint32_t)rule->refused) : action, call,
                                  count, compares);
}

/* libseccomp 2.5 writes a program into a file only. */
static int export_program(scmp_filter_ctx filter, struct confine_program *ret_program)
{
    int fd SCOPED_FD = memfd_create("seccomp", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = seccomp_export_bpf(filter, fd);
    if (rc < 0)
        return rc;
    ssize_t length = pread(fd, ret_program->code, sizeof ret_program->code, 0);
    if (length <= 0 || (size_t)length == sizeof ret_program->code)
        return length < 0 ? -errno : -E2BIG;
    ret_program->bytes = (size_t)length;
    return 0;
}

/** struct plan - What becomes of calls. */
struct plan {
    uint32_t listed;
    uint32_t others;
    uint32_t foreign; /* of another processor's numbering: 32 bit programs */
};

static int build(const struct confine_rule *rules, size_t count, unsigned ways, const struct plan *plan,
                 struct confine_program *ret_program, struct error *err)
{
    scmp_filter_ctx filter __attribute__((cleanup(release))) = seccomp_init(plan->others);
    if (filter == NULL)
        return error_set(err, -ENOMEM, "no memory for a table of system calls");
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, plan->foreign);
    for (size_t at = 0; rc == 0 && at < count; at++) {
        if (rules[at].ways != 0 && (rules[at].ways & ways) == 0)
            continue;
        rc = add_rule(filter, &rules[at], plan->listed);
        if (rc < 0)
            return error_set(err, rc, "system call %s: %s", rules[at].call, strerror(-rc));
    }
    if (rc == 0)
        rc = export_program(filter, ret_program);
    return rc < 0 ? error_set(err, rc, "table of system calls: %s", strerror(-rc)) : 0;
}

int confine_allow(const struct confine_rule *rules, size_t count, unsigned ways, enum confine_otherwise otherwise,
                  struct confine_program *ret_program, struct error *err)
{
    const uint32_t action = otherwise == CONFINE_KILL_THREAD ? SCMP_ACT_KILL_THREAD : SCMP_ACT_KILL_PROCESS;
    const struct plan plan = {.listed = SCMP_ACT_ALLOW, .others = action, .foreign = action};
    return build(rules, count, ways, &plan, ret_program, err);
}

int confine_forbid(const struct confine_rule *rules, size_t count, struct confine_program *ret_program,
                   struct error *err)
{
    const struct plan plan = {
        .listed = SCMP_ACT_KILL_PROCESS, .others = SCMP_ACT_ALLOW, .foreign = SCMP_ACT_KILL_PROCESS};
    return build(rules, count, 0, &plan, ret_program, err);
}

/* ---- entering -------------------------------------------------------------------------------------------------- */

int confine_enter(const struct confine_program *program)
{
    /* The kernel takes what it only reads as non-const. */
    const struct sock_fprog code = {.len = (unsigned short)(program->bytes / sizeof(struct sock_filter)),
                                    .filter = (struct sock_filter *)(uintptr_t)program->code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &code) != 0 ? -errno : 0;
}

void confine_end_thread(void)
{
    syscall(SYS_exit, 0);
}

static void sort(int *fds, size_t count)
{
    for (size_t at = 1; at < count; at++)
        for (size_t back = at; back > 0 && fds[back - 1] > fds[back]; back--) {
            int other = fds[back];
            fds[back] = fds[back - 1];
            fds[back - 1] = other;
        }
}

/* The first and the last that go. By number: older C libraries do not know the call. */
static int close_from_to(unsigned first, unsigned last)
{
    return first <= last && syscall(SYS_close_range, first, last, 0) != 0 ? -errno : 0;
}

int confine_keep_only(const int *fds, size_t count)
{
    int kept[CONFINE_KEEP_MAX];
    REQUIRE(count <= CONFINE_KEEP_MAX);
    memcpy(kept, fds, count * sizeof *fds);
    sort(kept, count);
    if (unshare(CLONE_FILES) != 0)
        return -errno;
    unsigned first = 0;
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < count; at++) {
        const unsigned keep = (unsigned)kept[at];
        if (keep > first)
            rc = close_from_to(first, keep - 1);
        first = keep + 1;
    }
    return rc == 0 ? close_from_to(first, INT_MAX) : rc;
}

#else

bool confine_is_built(void)
{
    return false;
}

int confine_allow(const struct confine_rule *rules, size_t count, unsigned ways, enum confine_otherwise otherwise,
                  struct confine_program *ret_program, struct error *err)
{
    (void)rules;
    (void)count;
    (void)ways;
    (void)otherwise;
    (void)err;
    ret_program->bytes = 0;
    return 0;
}

int confine_forbid(const struct confine_rule *rules, size_t count, struct confine_program *ret_program,
                   struct error *err)
{
    (void)rules;
    (void)count;
    (void)err;
    ret_program->bytes = 0;
    return 0;
}

int confine_enter(const struct confine_program *program)
{
    (void)program;
    return 0;
}

void confine_end_thread(void)
{
}

int confine_keep_only(const int *fds, size_t count)
{
    (void)fds;
    (void)count;
    return 0;
}

#endif

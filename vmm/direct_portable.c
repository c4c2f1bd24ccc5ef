/* A build for other systems: direct mode, as it is done here, takes Linux's namespaces. It is refused, never weakened. */
#include "vmm/direct.h"

#ifdef OMERTAD_PORTABLE

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "vmm/direct_keeper.h"
#include "vmm/vmm.h"

static int refuse(struct error *err)
{
    error_set(err, -ENOTSUP, "direct mode takes Linux's namespaces, which a portable build does without");
    error_tag(err, "direct-unavailable", "system");
    return -ENOTSUP;
}

int vmm_direct_check(struct error *err)
{
    return refuse(err);
}

int launcher_run(int argc, char **argv)
{
    (void)argc;
    fprintf(stderr, "omertad %s: not in a portable build\n", argv[0]);
    return 1;
}

void direct_init(struct direct *direct)
{
    *direct = (struct direct){.line_fd = -1, .pidfd = -1};
}

int direct_spawn(const struct direct_spec *spec, struct direct *ret_direct, struct child *ret_guard, struct error *err)
{
    (void)spec;
    (void)ret_direct;
    (void)ret_guard;
    return refuse(err);
}

int direct_receive(struct direct *direct, struct error *err)
{
    (void)direct;
    return refuse(err);
}

void direct_kill(const struct child *guard)
{
    (void)child_signal(guard, SIGTERM);
}

void direct_close(struct direct *direct, struct child *guard)
{
    (void)direct;
    child_close(guard);
}

int direct_find_tool(const char *name, char ret_path[static VMM_PATH_BYTES], struct error *err)
{
    (void)name;
    ret_path[0] = '\0';
    return refuse(err);
}

int direct_keeper_open(struct direct_keeper **ret_keeper, struct error *err)
{
    (void)ret_keeper;
    return refuse(err);
}

void direct_keeper_close(struct direct_keeper *keeper)
{
    (void)keeper;
}

int direct_keeper_add(struct direct_keeper *keeper, const struct id *id, const struct direct *direct, struct error *err)
{
    (void)keeper;
    (void)id;
    (void)direct;
    return refuse(err);
}

int direct_keeper_remove(struct direct_keeper *keeper, const struct id *id, struct error *err)
{
    (void)keeper;
    (void)id;
    (void)err;
    return 0;
}

#endif

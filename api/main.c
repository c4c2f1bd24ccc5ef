/* omertad: what every subcommand has in common, and which one is meant. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "api/command/command.h"
#include "api/host/secret_alloc.h"

static const char usage[] =
    "usage: omertad [serve] [OPTION...]       run the daemon\n"
    "       omertad doctor [--json]           check this machine and the configuration\n"
    "       omertad run LEASE.json            lease a VM, and stay until the lease ends\n"
    "       omertad image list|show|verify    look at guest images\n"
    "       omertad token list|add|revoke     tokens of the TCP listener\n"
    "       omertad nat [OPTION...]           run one NAT by itself\n"
    "       omertad --version\n"
    "\n"
    "`omertad COMMAND --help` says more about a command.\n"
    "Exit code: 0 all went well, 1 it failed, 2 the command line or the configuration is wrong.\n";

enum {
    DESCRIPTORS_MOST = 524288, /* systemd's hard limit; more than any capacity can use */
    LARGE_BLOCK_BYTES = 64 * 1024,
};

static const char launcher[] = "direct-launch";

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"serve", command_serve}, {"doctor", command_doctor}, {"run", command_run},       {"image", command_image},
    {"nat", command_nat},     {"token", command_token},   {launcher, command_launch}, /* vmm's own, and not in the usage */
};

/* Descriptors 0, 1 and 2 must be taken, lest a socket of ours becomes somebody's standard output. */
static int fill_standard_fds(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    return fd < 0 ? -1 : close(fd);
}

/* A lease takes dozens of descriptors, and the usual soft limit is for programs that still use select(2). */
static int raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return -errno;
    limit.rlim_cur = limit.rlim_max < DESCRIPTORS_MOST ? limit.rlim_max : DESCRIPTORS_MOST;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0 : -errno;
}

/* Narrow what this process and its children may do and leave behind. */
static int narrow(void)
{
    const struct rlimit no_core = {0};
    umask(077);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD,
           SIG_DFL); /* were it ignored, as a parent may have left it, no exit of a child could be waited for */
#ifdef __GLIBC__
    /* A machine and its NAT are large and mostly never touched. Blocks of their size come zeroed from the system and go back to
     * it, instead of being written over at each use as glibc's adaptive threshold has it. */
    mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES);
#endif
    if (fill_standard_fds() != 0 || setrlimit(RLIMIT_CORE, &no_core) != 0)
        return -errno;
    int raised = raise_descriptors();
    if (raised != 0)
        return raised;
#ifdef __linux__
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
#endif
    return 0;
}

/* No process of the same account traces this one or reads its memory, descriptors or environment; and there is no core where a
 * program takes it either, which the limit does not stop (core(5)). Programs that this one starts are as any other again
 * (execve(2)). The launcher is left out: the daemon opens its namespaces by its folder in /proc. */
static int hide(const char *name)
{
#ifdef __linux__
    if (strcmp(name, launcher) != 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return -errno;
#else
    (void)name;
#endif
    return 0;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "serve";
    int narrowed = narrow();
    if (narrowed == 0)
        narrowed = hide(name);
    if (narrowed != 0 || sodium_init() < 0) {
        fprintf(stderr, "omertad: the process cannot be set up: %s\n", strerror(-narrowed));
        return COMMAND_FAILED;
    }
    json_set_alloc_funcs(secret_malloc, secret_free);
    json_object_seed(0); /* before there are threads */

    if (strcmp(name, "--version") == 0) {
        puts("omertad " OMERTAD_VERSION);
        return COMMAND_OK;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        fputs(usage, stdout);
        return COMMAND_OK;
    }
    if (name[0] == '-' || argc < 2)
        return command_serve(argc, argv);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "omertad: there is no command \"%s\"\n\n%s", name, usage);
    return COMMAND_USAGE;
}

/* `omertad doctor`: what this machine lacks, why it matters, and the command that mends it. Here the machine is asked;
 * doctor.c judges what it says. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#include <sys/timex.h>
#endif

#include "api/command/client.h"
#include "api/command/command.h"
#include "api/command/doctor.h"
#include "api/command/options.h"
#include "api/command/program.h"
#include "api/config/machines.h"
#include "api/host/confine.h"
#include "base/clock.h"
#include "base/landlock.h"
#include "base/scope.h"
#include "nat/nat.h"
#include "vmm/vmm.h"

static const char usage[] =
    "usage: omertad doctor [--json] [--config FILE] [--data DIR] [--runtime DIR] [--images DIR] [--listen ADDR:PORT]\n"
    "\n"
    "Checks the hypervisor, the accelerator, the sandbox, direct mode, guest images, folders, limits, the clock and "
    "the\n"
    "port. Changes nothing but its cache.\n"
    "Exit code: 0 the daemon can serve, 1 something has failed, 2 the command line or the configuration is wrong.\n";

enum {
    NUMBER_BYTES = 32,
    IMAGES_MAX = 64,
    ANSWER_MS = 2000, /* for a running daemon to answer */
    MIB = 1048576,
};

/* When this program cannot have been built later; a clock before it is wrong. */
static const uint64_t CLOCK_LEAST_MS = UINT64_C(1704067200000); /* 2024-01-01 */

/* ---- hypervisor ------------------------------------------------------------------------------------------------ */

/* A device that opens and boots nothing is not mended by a group. */
static const char *mend_accel(const struct config *config)
{
    return access(config->hypervisor.kvm_device, R_OK | W_OK) == 0
               ? "enable nested virtualisation for this machine, or use one whose KVM boots a guest"
               : "sudo usermod -aG kvm \"$USER\" (then log in again)";
}

static void check_accelerator(struct doctor_report *report, const struct config *config)
{
    struct vmm_accel accel;
    struct error err = {0};
    const struct vmm_config machines = machines_config(config);
    const struct doctor_finding slow = {.level = DOCTOR_WARN,
                                        .check = "accelerator",
                                        .why = "without KVM machines run ten times slower",
                                        .mend = mend_accel(config)};
    const struct doctor_finding broken = {.level = DOCTOR_FAIL,
                                          .check = "accelerator",
                                          .why = "a hypervisor that cannot run the trial cannot run a guest",
                                          .mend = "apt install qemu-system-x86"};
    if (vmm_probe_accel(&machines, true, &accel, &err) < 0)
        doctor_find(report, &broken, "the trial could not run: %s", err.message);
    else if (strcmp(accel.name, "kvm") == 0)
        doctor_ok(report, "accelerator", "kvm (-cpu %s): %s", accel.cpu, accel.reason);
    else
        doctor_find(report, &slow, "%s: %s", accel.name, accel.reason);
}

static void check_sandbox(struct doctor_report *report, const struct config *config)
{
#ifdef __linux__
    /* A QEMU that was built without the filter refuses the option before it tells its version. */
    static const char *const options[] = {"-sandbox", "on", "-version", NULL};
    char version[PROGRAM_LINE_BYTES] = "";
    size_t service;
    size_t forbidden;
    const struct confine_rule *service_rules = confine_service_table(&service);
    const struct confine_rule *forbidden_rules = confine_forbidden_table(&forbidden);
    const struct doctor_calls own = {.nat = nat_confined_calls(),
                                     .service = confine_count(service_rules, service),
                                     .forbidden = confine_count(forbidden_rules, forbidden)};
    bool seccomp =
        prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0 && program_says(config->hypervisor.qemu, options, version) == 0;
    doctor_judge_sandbox(report, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, seccomp, landlock_version(), &own);
#else
    (void)config;
    doctor_ok(report, "sandbox", "this system has neither seccomp nor Landlock; the hypervisor confines itself");
#endif
}

/* What it has besides its guests' network is its own: neither an accelerator is tried nor a filter asked for. */
static void check_vfkit(struct doctor_report *report)
{
    static const struct doctor_finding no_sandbox = {
        .level = DOCTOR_NOTE, .check = "sandbox", .why = "vfkit is started as an ordinary program of this user"};
    doctor_ok(report, "accelerator", "vz: Virtualization.framework, which vfkit is an interface to");
    doctor_find(report, &no_sandbox, "there is no sandbox of ours around vfkit");
}

static void check_hypervisor(struct doctor_report *report, const struct config *config)
{
    static const char *const options[] = {"--version", NULL};
    const char *program = machines_program(config);
    const struct doctor_finding none = {.level = DOCTOR_FAIL,
                                        .check = "hypervisor",
                                        .why = "without it there are no machines",
                                        .mend = vmm_hypervisor_install(config->hypervisor.kind)};
    char version[PROGRAM_LINE_BYTES] = "";
    int result = program_says(program, options, version);
    if (result < 0) {
        doctor_find(report, &none, "%s does not run: %s", program, strerror(-result));
        return;
    }
    doctor_ok(report, "hypervisor", "%s", version);
    switch (config->hypervisor.kind) {
    case VMM_HYPERVISOR_QEMU:
        check_accelerator(report, config);
        check_sandbox(report, config);
        return;
    case VMM_HYPERVISOR_VFKIT:
        check_vfkit(report);
        return;
    }
}

/* ---- direct mode ------------------------------------------------------------------------------------------------ */

/* A number of a file in /proc/sys. Return: -1 when this kernel has it not */
static long read_number(const char *path)
{
    char text[NUMBER_BYTES] = "";
    int fd SCOPED_FD = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        return -1;
    return strtol(text, NULL, 10);
}

/* Make a user and a network namespace in a child. Return: 0 or the errno of the attempt */
static int try_namespaces(void)
{
#ifdef __linux__
    pid_t pid = fork();
    if (pid < 0)
        return errno;
    if (pid == 0)
        _exit(unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 ? 0 : errno);
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return EIO;
    return WEXITSTATUS(status);
#else
    return ENOSYS;
#endif
}

static int try_tun(void)
{
    int fd SCOPED_FD = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    return fd < 0 ? errno : 0;
}

static void check_direct(struct doctor_report *report, const struct config *config)
{
    struct error err = {0};
    bool offered = config->network.mode == MODE_DIRECT || config->network.allow_mode_override;
    enum doctor_level level = config->network.mode == MODE_DIRECT ? DOCTOR_FAIL : offered ? DOCTOR_WARN : DOCTOR_NOTE;
    static const char *const options[] = {"--version", NULL};
    struct doctor_finding no_pasta = {.level = level,
                                      .check = "pasta",
                                      .why = "direct mode carries its machines' traffic with it",
                                      .mend = "apt install passt"};
    const struct doctor_finding refused = {.level = level,
                                           .check = "direct",
                                           .why = offered
                                                      ? "the configuration offers it, and every such lease is refused"
                                                      : "no matter: the configuration does not offer it"};
    char version[PROGRAM_LINE_BYTES] = "";
    int rc = program_says("pasta", options, version);
    if (rc == -EIO)
        no_pasta.mend = "pasta --version says why";
    if (rc < 0)
        doctor_find(report, &no_pasta, "pasta %s", rc == -EIO ? "does not run" : "is not installed");
    else
        doctor_ok(report, "pasta", "%s", version);
    doctor_judge_namespaces(report, level, try_namespaces(), read_number("/proc/sys/user/max_user_namespaces"),
                            read_number("/proc/sys/kernel/unprivileged_userns_clone"),
                            read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"));
    doctor_judge_tun(report, level, try_tun());
    if (vmm_direct_check(&err) == 0)
        doctor_ok(report, "direct", "a whole namespace of direct mode was made%s",
                  offered ? "" : ", though the configuration does not offer it");
    else
        doctor_find(report, &refused, "leases in direct mode are refused: %s", err.message);
}

static void tell_no_direct(struct doctor_report *report)
{
    static const struct doctor_finding none = {.level = DOCTOR_NOTE,
                                               .check = "direct",
                                               .why = "a weaker mode of the same name would be no direct mode",
                                               .mend = "QEMU on Linux has it (hypervisor.kind)"};
    struct error err = {0};
    (void)vmm_direct_none(&err);
    doctor_find(report, &none, "leases in direct mode are refused: %s", err.message);
}

static void check_packages(struct doctor_report *report, const struct config *config)
{
    static const struct doctor_finding broken = {.level = DOCTOR_WARN,
                                                 .check = "packages",
                                                 .why = "leases with offline packages are refused",
                                                 .mend = "put the .deb files there, or leave paths.packages out"};
    struct error err = {0};
    if (config->paths.packages[0] == '\0')
        return;
    if (vmm_packages_check(config->paths.packages, &err) < 0)
        doctor_find(report, &broken, "%s: %s", config->paths.packages, err.message);
    else
        doctor_ok(report, "packages", "%s", config->paths.packages);
}

/* ---- images ---------------------------------------------------------------------------------------------------- */

static void check_images(struct doctor_report *report, const char *dir)
{
    char mend[CONFIG_PATH_BYTES + 96];
    char names[IMAGES_MAX][VMM_NAME_BYTES];
    struct error err = {0};
    snprintf(mend, sizeof mend, "make image, or build-micro.sh %s/micro", dir);
    const struct doctor_finding broken = {
        .level = DOCTOR_WARN, .check = "image", .why = "leases that ask for it are refused", .mend = mend};
    const struct doctor_finding none = {
        .level = DOCTOR_FAIL, .check = "image", .why = "a lease needs one to start from", .mend = mend};
    int count = vmm_image_list(dir, names, IMAGES_MAX, &err);
    int good = 0;
    for (int i = 0; i < count; i++) {
        struct vmm_image image;
        if (vmm_image_load(dir, names[i], &image, &err) < 0 || vmm_image_verify(dir, &image, &err) < 0) {
            doctor_find(report, &broken, "%s cannot be used: %s", names[i], err.message);
            continue;
        }
        good++;
        doctor_ok(report, "image", "%s is as its manifest says", names[i]);
    }
    if (good == 0)
        doctor_find(report, &none, "there is no usable guest image in %s", dir);
}

/* ---- folders ---------------------------------------------------------------------------------------------------- */

static void check_dir(struct doctor_report *report, const char *check, const char *path)
{
    struct stat status;
    char mend[2 * CONFIG_PATH_BYTES];
    struct doctor_finding finding = {.level = DOCTOR_FAIL,
                                     .check = check,
                                     .why = "the daemon keeps tokens, keys and sockets there, and does not start",
                                     .mend = mend};
    snprintf(mend, sizeof mend, "choose another folder: --%s", check);
    if (stat(path, &status) != 0 && errno == ENOENT) {
        doctor_ok(report, check, "%s will be made at the first start", path);
    } else if (stat(path, &status) != 0) {
        doctor_find(report, &finding, "%s cannot be examined: %s", path, strerror(errno));
    } else if (!S_ISDIR(status.st_mode)) {
        doctor_find(report, &finding, "%s is not a folder", path);
    } else if (status.st_uid != geteuid()) {
        doctor_find(report, &finding, "%s belongs to another user", path);
    } else if ((status.st_mode & 077) != 0) {
        snprintf(mend, sizeof mend, "chmod 700 %s", path);
        finding.why = "others could read tokens and keys, so the daemon does not start";
        doctor_find(report, &finding, "%s has mode %03o", path, (unsigned)(status.st_mode & 0777));
    } else {
        doctor_ok(report, check, "%s", path);
    }
}

/* The folder, or the nearest above it that is there. */
static void check_disk(struct doctor_report *report, const struct config *config)
{
    char path[CONFIG_PATH_BYTES];
    struct statvfs disk;
    snprintf(path, sizeof path, "%s", config->paths.data);
    while (statvfs(path, &disk) != 0) {
        char *slash = strrchr(path, '/');
        if (slash == NULL || slash == path) {
            snprintf(path, sizeof path, "/");
            if (statvfs(path, &disk) != 0)
                return;
            break;
        }
        *slash = '\0';
    }
    doctor_judge_disk(report, path, (uint64_t)disk.f_bavail * disk.f_frsize / MIB, config->capacity.disk_mib);
}

/* ---- limits and clock ------------------------------------------------------------------------------------------ */

static void check_limits(struct doctor_report *report, const struct config *config)
{
    static const struct doctor_finding too_few = {.level = DOCTOR_FAIL,
                                                  .check = "descriptors",
                                                  .why = "the daemon does not start with a promise that it cannot keep",
                                                  .mend = "lower capacity.leases, or LimitNOFILE= in the service"};
    struct rlimit limit;
    struct config shared = *config;
    struct error err = {0};
    if (config_share_descriptors(&shared, &err) < 0)
        doctor_find(report, &too_few, "%s", err.message);
    else if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        doctor_judge_descriptors(report, limit.rlim_cur, limit.rlim_max, config->capacity.leases);
    if (getrlimit(RLIMIT_NPROC, &limit) == 0)
        doctor_judge_threads(report, limit.rlim_cur, config->capacity.leases);
    doctor_judge_memory(report, (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / MIB,
                        config->capacity.memory_mib);
    check_disk(report, config);
}

static void check_clock(struct doctor_report *report)
{
    int synchronised = -1;
#ifdef __linux__
    struct timex clock = {0};
    if (adjtimex(&clock) >= 0)
        synchronised = (clock.status & STA_UNSYNC) == 0;
#endif
    doctor_judge_clock(report, clock_wall_ms(), CLOCK_LEAST_MS, synchronised);
}

/* ---- the daemon and its port ------------------------------------------------------------------------------------ */

/* Whether a daemon of this configuration serves already. */
static bool check_daemon(struct doctor_report *report, const struct config *config)
{
    static const struct client_request request = {.method = "GET", .path = "/readyz"};
    static const struct doctor_finding unready = {
        .level = DOCTOR_WARN, .check = "daemon", .why = "it refuses leases until it is", .mend = "see its log"};
    char path[CONFIG_PATH_BYTES + 16];
    struct client_answer answer = {0};
    struct error err = {0};
    snprintf(path, sizeof path, "%s/omertad.sock", config->paths.runtime);
    if (client_send(path, &request, ANSWER_MS, &answer, &err) < 0) {
        doctor_ok(report, "daemon", "none serves at %s", path);
        return false;
    }
    const json_t *detail = json_object_get(answer.json, "detail");
    if (answer.status == 200)
        doctor_ok(report, "daemon", "serves at %s", path);
    else
        doctor_find(report, &unready, "serves at %s and is not ready: %s", path,
                    json_is_string(detail) ? json_string_value(detail) : "no reason given");
    client_answer_done(&answer);
    return true;
}

static void check_port(struct doctor_report *report, const struct config *config, bool serving)
{
    static const struct doctor_finding taken = {.level = DOCTOR_FAIL,
                                                .check = "port",
                                                .why = "the daemon does not start without the port it was told to open",
                                                .mend = "another listen.tcp, or omertad serve --listen 127.0.0.1:0"};
    if (!config->listen.tcp_enabled) {
        doctor_ok(report, "port", "off; the unix socket alone");
        return;
    }
    struct listen_address address = config->listen.tcp;
    struct error err = {0};
    int fd SCOPED_FD = listen_tcp(&address, &err);
    if (fd >= 0)
        doctor_ok(report, "port", "%u on loopback is free", (unsigned)address.port);
    else if (serving)
        doctor_ok(report, "port", "%u is the running daemon's", (unsigned)address.port);
    else
        doctor_find(report, &taken, "%s", err.message);
}

static void check_user(struct doctor_report *report)
{
    static const struct doctor_finding root = {.level = DOCTOR_WARN,
                                               .check = "user",
                                               .why = "the daemon refuses to run as root: nothing here needs it",
                                               .mend = "run as an ordinary user"};
    if (geteuid() == 0)
        doctor_find(report, &root, "this is root");
    else
        doctor_ok(report, "user", "uid %u, not root", (unsigned)geteuid());
}

/* ---- the command ----------------------------------------------------------------------------------------------- */

static void check_all(struct doctor_report *report, const struct config *config)
{
    doctor_ok(report, "config", "%s", config->file[0] == '\0' ? "defaults; no file" : config->file);
    check_user(report);
    check_hypervisor(report, config);
    if (vmm_hypervisor_abilities(config->hypervisor.kind).direct)
        check_direct(report, config);
    else
        tell_no_direct(report);
    check_packages(report, config);
    check_images(report, config->paths.images);
    check_dir(report, "data", config->paths.data);
    check_dir(report, "runtime", config->paths.runtime);
    check_limits(report, config);
    check_clock(report);
    check_port(report, config, check_daemon(report, config));
}

int command_doctor(int argc, char **argv)
{
    struct options options;
    struct config config;
    int code;
    if (!options_begin(argc, argv, "cdrilj", usage, &options, &config, &code))
        return code;
    if (options.operand_count > 0) {
        fputs(usage, stderr);
        return COMMAND_USAGE;
    }
    struct doctor_report report = {.findings = options.json ? json_array() : NULL};
    check_all(&report, &config);
    if (options.json)
        doctor_print_json(&report);
    json_decref(report.findings);
    return report.failed ? COMMAND_FAILED : COMMAND_OK;
}

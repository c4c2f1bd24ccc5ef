/* `omertad doctor`: what this machine lacks, why it matters, and the command that mends it. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/command.h"
#include "api/machines.h"
#include "api/options.h"
#include "api/packages.h"
#include "base/scope.h"
#include "vmm/vmm.h"

static const char usage[] =
    "usage: omertad doctor [--json] [--config FILE] [--data DIR] [--runtime DIR] [--images DIR] [--listen ADDR:PORT]\n"
    "\n"
    "Checks the hypervisor, the accelerator, direct mode, guest images, folders and the port. Changes nothing but its "
    "cache.\n"
    "Exit code: 0 the daemon can serve, 1 something has failed, 2 the command line or the configuration is wrong.\n";

enum {
    FINDING_BYTES = 400,
    VERSION_BYTES = 160,
    IMAGES_MAX = 64,
};

enum level { LEVEL_OK, LEVEL_WARN, LEVEL_FAIL };

static const char *const level_names[] = {[LEVEL_OK] = "ok", [LEVEL_WARN] = "warn", [LEVEL_FAIL] = "fail"};

/* What is found, printed at once or gathered for --json. */
struct report {
    json_t *findings; /* NULL: print */
    bool failed;
};

static void find(struct report *report, enum level level, const char *check, const char *mend, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* @mend: the command that mends it, or NULL. */
static void find(struct report *report, enum level level, const char *check, const char *mend, const char *format, ...)
{
    char text[FINDING_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    report->failed = report->failed || level == LEVEL_FAIL;
    if (report->findings != NULL) {
        json_array_append_new(report->findings, json_pack("{s:s, s:s, s:s, s:s?}", "check", check, "level",
                                                          level_names[level], "finding", text, "mend", mend));
        return;
    }
    printf("%-4s  %-12s %s\n", level_names[level], check, text);
    if (mend != NULL)
        printf("      %-12s mend: %s\n", "", mend);
}

/* ---- hypervisor ------------------------------------------------------------------------------------------------ */

/* First line of `PROGRAM --version`. Return: 0 or negative. */
static int program_version(const char *program, char ret_line[static VERSION_BYTES])
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return -errno;
    int in SCOPED_FD = pipe_fds[0];
    int out SCOPED_FD = pipe_fds[1];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    char option[] = "--version";
    char name[CONFIG_PATH_BYTES];
    snprintf(name, sizeof name, "%s", program);
    char *const arguments[] = {name, option, NULL};
    pid_t pid;
    int failed = posix_spawnp(&pid, program, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0)
        return -failed;
    fd_close(&out);
    ssize_t got = read(in, ret_line, VERSION_BYTES - 1);
    ret_line[got > 0 ? got : 0] = '\0';
    ret_line[strcspn(ret_line, "\n")] = '\0';
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return -EIO;
    return 0;
}

/* A device that opens and boots nothing is not mended by a group. */
static const char *mend_accel(const struct config *config)
{
    return access(config->hypervisor.kvm_device, R_OK | W_OK) == 0
               ? "enable nested virtualisation for this machine, or use one whose KVM boots a guest"
               : "sudo usermod -aG kvm \"$USER\" (then log in again)";
}

static void check_hypervisor(struct report *report, const struct config *config)
{
    char version[VERSION_BYTES] = "";
    int result = program_version(config->hypervisor.qemu, version);
    if (result < 0) {
        find(report, LEVEL_FAIL, "hypervisor", "apt install qemu-system-x86",
             "%s does not run (%s): without it there are no machines", config->hypervisor.qemu, strerror(-result));
        return;
    }
    find(report, LEVEL_OK, "hypervisor", NULL, "%s", version);

    struct vmm_accel accel;
    struct error err = {0};
    const struct vmm_config machines = machines_config(config);
    if (vmm_probe_accel(&machines, true, &accel, &err) < 0)
        find(report, LEVEL_FAIL, "accelerator", NULL, "the probe could not run: %s", err.message);
    else if (strcmp(accel.name, "kvm") == 0)
        find(report, LEVEL_OK, "accelerator", NULL, "kvm (-cpu %s): %s", accel.cpu, accel.reason);
    else
        find(report, LEVEL_WARN, "accelerator", mend_accel(config), "%s: %s; machines run ten times slower without KVM",
             accel.name, accel.reason);
}

/* ---- modes ----------------------------------------------------------------------------------------------------- */

static void check_direct(struct report *report, const struct config *config)
{
    struct error err = {0};
    bool offered = config->network.mode == MODE_DIRECT || config->network.allow_mode_override;
    if (vmm_direct_check(&err) == 0)
        find(report, LEVEL_OK, "direct", NULL, "leases in direct mode are possible%s",
             offered ? "" : ", though the configuration does not offer it");
    else if (config->network.mode == MODE_DIRECT)
        find(report, LEVEL_FAIL, "direct", NULL, "direct is the configuration's mode, and cannot be done: %s",
             err.message);
    else
        find(report, offered ? LEVEL_WARN : LEVEL_OK, "direct", NULL, "leases in direct mode are refused: %s",
             err.message);
}

static void check_packages(struct report *report, const struct config *config)
{
    struct error err = {0};
    if (config->paths.packages[0] == '\0')
        return;
    if (packages_check(config->paths.packages, &err) < 0)
        find(report, LEVEL_WARN, "packages", NULL, "leases with offline packages are refused: %s: %s",
             config->paths.packages, err.message);
    else
        find(report, LEVEL_OK, "packages", NULL, "%s", config->paths.packages);
}

/* ---- images ---------------------------------------------------------------------------------------------------- */

static void check_images(struct report *report, const char *dir)
{
    static const char build[] = "make image, or deploy/guest/build-micro.sh";
    char names[IMAGES_MAX][VMM_NAME_BYTES];
    struct error err = {0};
    int count = vmm_image_list(dir, names, IMAGES_MAX, &err);
    int good = 0;
    for (int i = 0; i < count; i++) {
        struct vmm_image image;
        if (vmm_image_load(dir, names[i], &image, &err) < 0 || vmm_image_verify(dir, &image, &err) < 0) {
            find(report, LEVEL_WARN, "image", build, "%s cannot be used: %s", names[i], err.message);
            continue;
        }
        good++;
        find(report, LEVEL_OK, "image", NULL, "%s is as its manifest says", names[i]);
    }
    if (good == 0)
        find(report, LEVEL_FAIL, "image", build, "there is no usable guest image in %s: no lease can be made", dir);
}

/* ---- folders and ports ----------------------------------------------------------------------------------------- */

static void check_dir(struct report *report, const char *check, const char *path)
{
    struct stat status;
    char mend[CONFIG_PATH_BYTES + 16];
    snprintf(mend, sizeof mend, "chmod 700 %s", path);
    if (stat(path, &status) != 0 && errno == ENOENT)
        find(report, LEVEL_OK, check, NULL, "%s will be made at the first start", path);
    else if (stat(path, &status) != 0)
        find(report, LEVEL_FAIL, check, NULL, "%s cannot be examined: %s", path, strerror(errno));
    else if (!S_ISDIR(status.st_mode))
        find(report, LEVEL_FAIL, check, NULL, "%s is not a folder", path);
    else if (status.st_uid != geteuid())
        find(report, LEVEL_FAIL, check, NULL, "%s belongs to another user: the daemon keeps tokens and keys there",
             path);
    else if ((status.st_mode & 077) != 0)
        find(report, LEVEL_FAIL, check, mend, "%s has mode %03o: others could read tokens and keys", path,
             (unsigned)(status.st_mode & 0777));
    else
        find(report, LEVEL_OK, check, NULL, "%s", path);
}

static void check_port(struct report *report, const struct config *config)
{
    if (!config->listen.tcp_enabled) {
        find(report, LEVEL_OK, "port", NULL, "off; the unix socket alone");
        return;
    }
    struct listen_address address = config->listen.tcp;
    struct error err = {0};
    int fd SCOPED_FD = listen_tcp(&address, &err);
    if (fd < 0)
        find(report, LEVEL_WARN, "port", "omertad serve --listen 127.0.0.1:0",
             "%s If this is a running omertad, all is well", err.message);
    else
        find(report, LEVEL_OK, "port", NULL, "%u on loopback is free", (unsigned)address.port);
}

static void check_user(struct report *report)
{
    if (geteuid() == 0)
        find(report, LEVEL_WARN, "user", "run as an ordinary user",
             "this is root: the daemon refuses to run as root, and nothing here needs it");
    else
        find(report, LEVEL_OK, "user", NULL, "uid %u, not root", (unsigned)geteuid());
}

/* ---- the command ----------------------------------------------------------------------------------------------- */

static void print_json(struct report *report)
{
    json_t *json = json_pack("{s:b, s:o}", "ok", (int)!report->failed, "findings", report->findings);
    if (json_dumpf(json, stdout, JSON_INDENT(2)) == 0)
        putchar('\n');
    json_decref(json);
}

int command_doctor(int argc, char **argv)
{
    struct options options;
    struct config config;
    struct error err = {0};
    if (!options_read(argc, argv, "cdrilj", &options) || options.operand_count > 0) {
        fputs(usage, stderr);
        return COMMAND_USAGE;
    }
    if (options.help) {
        fputs(usage, stdout);
        return COMMAND_OK;
    }
    if (config_load(&options.overrides, &config, &err) < 0) {
        fprintf(stderr, "omertad: %s\n", err.message);
        return COMMAND_USAGE;
    }
    struct report report = {.findings = options.json ? json_array() : NULL};
    find(&report, LEVEL_OK, "config", NULL, "%s", config.file[0] == '\0' ? "defaults; no file" : config.file);
    check_user(&report);
    check_hypervisor(&report, &config);
    check_direct(&report, &config);
    check_packages(&report, &config);
    check_images(&report, config.paths.images);
    check_dir(&report, "data", config.paths.data);
    check_dir(&report, "runtime", config.paths.runtime);
    check_port(&report, &config);
    if (options.json)
        print_json(&report);
    return report.failed ? COMMAND_FAILED : COMMAND_OK;
}

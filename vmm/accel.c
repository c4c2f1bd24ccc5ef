/* Whether kvm is used is decided by a guest, not by a device that opens: hosts were seen whose /dev/kvm opens, creates
 * processors, and then aborts QEMU or runs the guest nowhere at 100 % CPU.
 *
 * The trial is QEMU with the -cpu planned for real machines and a ROM (accel_rom.S) that ends QEMU with one exit code
 * after it got through long mode and two exceptions. Only that code means kvm; anything else means tcg, with a reason
 * that says what was seen.
 *
 * A finding holds until the machine is booted again or QEMU is replaced. That the device cannot be opened is not kept:
 * it costs nothing to ask again, and the operator may just have mended it. */
#include "vmm/accel.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "vmm/accel_rom.h"
#include "vmm/child.h"
#include "vmm/command.h"

enum accel_internal_limits {
    BIOS_BYTES = 65536, /* QEMU takes multiples of 64 KiB */
    TRIAL_FD = 3,       /* where the trial finds its ROM */
    TRIAL_TICK_MS = 20, /* how often to look for the end of the trial */
    CACHE_BYTES = 4096, /* a finding takes 500 */
};

#define CACHE_FILE "accelerator.json"
#define CACHE_TEMPORARY "accelerator.json.new"

static void conclude(struct vmm_accel *ret_accel, const char *name, const char *cpu)
{
    ret_accel->known = true;
    snprintf(ret_accel->name, sizeof ret_accel->name, "%s", name);
    snprintf(ret_accel->cpu, sizeof ret_accel->cpu, "%s", cpu);
}

/* Return: true when the device opens; else @ret_accel is tcg and says what is in the way. */
static bool kvm_opens(const char *kvm_device, struct vmm_accel *ret_accel)
{
    int fd SCOPED_FD = open(kvm_device, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        return true;
    int code = errno;
    const char *advice = code == EACCES   ? "; add this user to group kvm"
                         : code == ENOENT ? "; load kvm_intel or kvm_amd, or turn virtualization on in the firmware"
                                          : "";
    conclude(ret_accel, "tcg", ACCEL_CPU_TCG);
    snprintf(ret_accel->reason, sizeof ret_accel->reason, "%.60s: %s%s", kvm_device, strerror(code), advice);
    return false;
}

/* A file without a name, so that nothing is left behind. */
static int nameless_file(void)
{
#if defined(__linux__) && !defined(OMERTAD_PORTABLE)
    return memfd_create("bios", MFD_CLOEXEC);
#else
    FILE *file = tmpfile();
    if (file == NULL)
        return -1;
    int fd = fcntl(fileno(file), F_DUPFD_CLOEXEC, 0);
    fclose(file);
    return fd;
#endif
}

static int bios_open(int *ret_fd, struct error *err)
{
    int fd SCOPED_FD = nameless_file();
    if (fd < 0)
        return error_set(err, -errno, "a file for the trial's ROM: %s", strerror(errno));
    uint8_t bios[BIOS_BYTES];
    memset(bios, 0xf4, sizeof bios); /* HLT */
    memcpy(bios + sizeof bios - sizeof accel_rom, accel_rom, sizeof accel_rom);
    if (pwrite(fd, bios, sizeof bios, 0) != (ssize_t)sizeof bios)
        return error_set(err, -EIO, "the trial's ROM cannot be written");
    *ret_fd = fd_take(&fd);
    return 0;
}

static void trial_command(const char *qemu, struct command *ret_command)
{
    command_start(ret_command, qemu);
    static const char *const arguments[] = {
        "-machine",
        "q35,usb=off,vmport=off",
        "-accel",
        "kvm",
        "-cpu",
        ACCEL_CPU_KVM,
        "-smp",
        "1",
        "-m",
        "16",
        "-no-user-config",
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    };
    for (size_t i = 0; i < sizeof arguments / sizeof arguments[0]; i++)
        command_add(ret_command, "%s", arguments[i]);
    command_add(ret_command, "-device");
    command_add(ret_command, "isa-debug-exit,iobase=%#x,iosize=4", ACCEL_ROM_EXIT_PORT);
    command_add(ret_command, "-bios");
    command_add(ret_command, "/dev/fd/%d", TRIAL_FD);
}

/* Wait for the trial's end. Return: true when it ended by itself. */
static bool trial_wait(struct child *child, uint32_t limit_ms, struct child_exit *ret_exit)
{
    uint64_t start_ms = clock_monotonic_ms();
    while (!child_reap(child, ret_exit)) {
        if (clock_monotonic_ms() - start_ms >= limit_ms)
            return false;
        struct pollfd waits[] = {{.fd = child->exit_fd, .events = POLLIN}, {.fd = child->output_fd, .events = POLLIN}};
        poll(waits, 2, TRIAL_TICK_MS);
        child_read_output(child);
    }
    child_read_output(child);
    return true;
}

static void trial_conclude(const struct child *child, bool ended, struct child_exit end, uint64_t took_ms,
                           struct vmm_accel *ret_accel)
{
    char *reason = ret_accel->reason;
    size_t capacity = sizeof ret_accel->reason;
    if (ended && end.signal == 0 && end.code == ACCEL_ROM_EXIT_CODE) {
        conclude(ret_accel, "kvm", ACCEL_CPU_KVM);
        snprintf(reason, capacity, "kvm took a trial guest through long mode in %" PRIu64 " ms", took_ms);
        return;
    }
    conclude(ret_accel, "tcg", ACCEL_CPU_TCG);
    char output[CHILD_OUTPUT_BYTES];
    child_format_output(child, output, sizeof output);
    const char *colon = output[0] == '\0' ? "" : ": ";
    if (!ended)
        snprintf(reason, capacity,
                 "kvm opened but a trial guest hung on its way through long mode for %" PRIu64 ".%" PRIu64 " s",
                 took_ms / 1000, took_ms % 1000 / 100);
    else if (end.signal != 0)
        snprintf(reason, capacity, "kvm opened but QEMU ended with signal %d%s%.100s", end.signal, colon, output);
    else
        snprintf(reason, capacity, "kvm opened but QEMU ended with code %d%s%.100s", end.code, colon, output);
}

/* Run the trial guest. */
static int trial(const char *path, uint32_t limit_ms, struct vmm_accel *ret_accel, struct error *err)
{
    int bios SCOPED_FD = -1;
    int rc = bios_open(&bios, err);
    if (rc != 0)
        return rc;
    struct command command;
    trial_command(path, &command);
    REQUIRE(!command.failed);
    struct child child;
    child_init(&child);
    uint64_t start_ms = clock_monotonic_ms();
    rc = child_spawn(path, command.argv, &(struct child_fd){.from = bios, .to = TRIAL_FD}, 1, &child, err);
    if (rc != 0)
        return rc;
    struct child_exit end = {.code = -1};
    bool ended = trial_wait(&child, limit_ms, &end);
    trial_conclude(&child, ended, end, clock_monotonic_ms() - start_ms, ret_accel);
    child_close(&child);
    return 0;
}

static int find_qemu(const char *qemu, char ret_path[static VMM_PATH_BYTES], struct error *err)
{
    int rc = command_find(qemu, ret_path, err);
    if (rc == -ENOENT)
        error_set(err, rc, "%.200s: no such program; on Debian: apt install qemu-system-x86", qemu);
    return rc;
}

int accel_probe(const char *qemu, const char *kvm_device, uint32_t limit_ms, struct vmm_accel *ret_accel,
                struct error *err)
{
    char path[VMM_PATH_BYTES];
    struct vmm_accel accel = {0};
    int rc = find_qemu(qemu, path, err);
    if (rc == 0 && kvm_opens(kvm_device, &accel))
        rc = trial(path, limit_ms, &accel, err);
    if (rc == 0)
        *ret_accel = accel;
    return rc;
}

/* What a finding depends on. Return: NULL when that cannot be told, so that nothing is kept. */
static json_t *cache_key(const char *qemu, const char *kvm_device)
{
    char path[VMM_PATH_BYTES];
    char boot_id[ID_TEXT_BYTES];
    struct stat found;
    struct error ignored = {0};
    if (command_find(qemu, path, &ignored) != 0 || stat(path, &found) != 0 || vmm_boot_id(boot_id)[0] == '\0')
        return NULL;
#ifdef __APPLE__
    json_int_t modified_ns = (json_int_t)found.st_mtimespec.tv_sec * 1000000000 + found.st_mtimespec.tv_nsec;
#else
    json_int_t modified_ns = (json_int_t)found.st_mtim.tv_sec * 1000000000 + found.st_mtim.tv_nsec;
#endif
    return json_pack("{s:s, s:s, s:I, s:I, s:s, s:s}", "boot_id", boot_id, "qemu", path, "qemu_bytes",
                     (json_int_t)found.st_size, "qemu_modified_ns", modified_ns, "kvm_device", kvm_device, "cpu",
                     ACCEL_CPU_KVM);
}

static json_t *cache_load(const char *cache_dir)
{
    int directory SCOPED_FD = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd SCOPED_FD =
        directory < 0 ? -1 : openat(directory, CACHE_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    char text[CACHE_BYTES];
    ssize_t length = read(fd, text, sizeof text);
    return length <= 0 ? NULL : json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, NULL);
}

/* Return: true when the cache holds a sound finding for this key. */
static bool cache_read(const char *cache_dir, const json_t *key, struct vmm_accel *ret_accel)
{
    json_t *cache = cache_load(cache_dir);
    const char *name = NULL;
    const char *cpu = NULL;
    const char *reason = NULL;
    bool good =
        cache != NULL && json_equal(json_object_get(cache, "for"), key) &&
        json_unpack(cache, "{s:{s:s, s:s, s:s}}", "finding", "name", &name, "cpu", &cpu, "reason", &reason) == 0 &&
        ((strcmp(name, "kvm") == 0 && strcmp(cpu, ACCEL_CPU_KVM) == 0) ||
         (strcmp(name, "tcg") == 0 && strcmp(cpu, ACCEL_CPU_TCG) == 0));
    if (good) {
        struct vmm_accel accel = {0};
        conclude(&accel, name, cpu);
        snprintf(accel.reason, sizeof accel.reason, "%s", reason);
        *ret_accel = accel;
    }
    json_decref(cache);
    return good;
}

/* Replace the cache as a whole: a reader sees the old one or the new one. */
static int cache_write(const char *cache_dir, const json_t *cache, struct error *err)
{
    int directory SCOPED_FD = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return error_set(err, -errno, "%.200s: %s", cache_dir, strerror(errno));
    unlinkat(directory, CACHE_TEMPORARY, 0);
    errno = 0; /* stays so after a short write */
    int fd SCOPED_FD = openat(directory, CACHE_TEMPORARY, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0 && json_dumpfd(cache, fd, JSON_INDENT(2)) == 0 &&
        renameat(directory, CACHE_TEMPORARY, directory, CACHE_FILE) == 0)
        return 0;
    int code = errno == 0 ? EIO : errno;
    unlinkat(directory, CACHE_TEMPORARY, 0);
    return error_set(err, -code, "%.200s/%s: %s", cache_dir, CACHE_FILE, strerror(code));
}

int accel_remember(const char *qemu, const char *kvm_device, const char *cache_dir, const struct vmm_accel *accel,
                   struct error *err)
{
    REQUIRE(accel->known);
    json_t *key = cache_key(qemu, kvm_device);
    if (key == NULL)
        return error_set(err, -ENOTSUP, "without a boot id and QEMU's file a finding cannot be kept");
    json_t *cache = json_pack("{s:o, s:{s:s, s:s, s:s}}", "for", key, "finding", "name", accel->name, "cpu", accel->cpu,
                              "reason", accel->reason);
    if (cache == NULL)
        return error_set(err, -ENOMEM, "out of memory");
    int rc = cache_write(cache_dir, cache, err);
    json_decref(cache);
    return rc;
}

int accel_find(const char *qemu, const char *kvm_device, const char *cache_dir, bool fresh, struct vmm_accel *ret_accel,
               struct error *err)
{
    char path[VMM_PATH_BYTES];
    struct vmm_accel accel = {0};
    int rc = find_qemu(qemu, path, err);
    if (rc != 0)
        return rc;
    if (kvm_opens(kvm_device, &accel)) {
        json_t *key = fresh || cache_dir == NULL ? NULL : cache_key(qemu, kvm_device);
        bool cached = key != NULL && cache_read(cache_dir, key, &accel);
        json_decref(key);
        if (!cached) {
            rc = trial(path, ACCEL_PROBE_MS, &accel, err);
            if (rc != 0)
                return rc;
            if (cache_dir != NULL)
                accel_remember(qemu, kvm_device, cache_dir, &accel, NULL);
        }
    }
    *ret_accel = accel;
    return 0;
}

int vmm_probe_accel(const struct vmm_config *config, bool fresh, struct vmm_accel *ret_accel, struct error *err)
{
    return accel_find(config->program, config->kvm_device, config->cache_dir, fresh, ret_accel, err);
}

/* vfkit's arguments.
 *
 * Its devices are options whose values end at a comma, and of the boot loader's also at a quotation mark; it has no way to
 * write either into a path. So every path is checked here against its own alphabet, whatever has been checked before. The
 * kernel's command line stands within quotation marks and may hold everything else.
 *
 * Disks and kernel are names, because vfkit takes nothing else. The network is a descriptor: a name could be bound by
 * somebody else, and the far end of a descriptor is known. */
#include "vmm/command_vfkit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

enum command_vfkit_limits {
    KERNEL_COMMAND_LINE_BYTES_MAX = 2047, /* as of the other hypervisor */
    VCPUS_MAX = 255,
};

static bool is_path(const char *text, size_t length_max)
{
    static const char unwanted[] = ",\"\\%?#[]{}|^`<> ";
    size_t length = text == NULL ? 0 : strlen(text);
    for (size_t at = 0; at < length; at++)
        if (text[at] < ' ' || text[at] > '~' || strchr(unwanted, text[at]) != NULL)
            return false;
    return length > 0 && length <= length_max && text[0] == '/';
}

static bool is_command_line(const char *text)
{
    size_t length = 0;
    for (; text[length] != '\0'; length++)
        if (text[length] < ' ' || text[length] > '~' || text[length] == '"' || length == KERNEL_COMMAND_LINE_BYTES_MAX)
            return false;
    return true;
}

static int refuse(struct error *err, const char *field, const char *why)
{
    error_set(err, -EINVAL, "vfkit %s: %s", field, why);
    error_tag(err, NULL, field);
    return -EINVAL;
}

static int check_paths(const struct command_vfkit *vfkit, struct error *err)
{
    const struct {
        const char *field;
        const char *path;
        bool may_lack;
    } table[] = {
        {"kernel", vfkit->kernel, false}, {"initrd", vfkit->initrd, false}, {"root", vfkit->root, true},
        {"seed", vfkit->seed, false},     {"disk", vfkit->disk, true},      {"console", vfkit->console, false},
    };
    struct sockaddr_un address;
    if (!is_path(vfkit->control_socket, sizeof address.sun_path - 1))
        return refuse(err, "control_socket", "not an absolute path that fits an URI and a socket's name");
    for (size_t at = 0; at < sizeof table / sizeof *table; at++)
        if (!(table[at].may_lack && table[at].path == NULL) && !is_path(table[at].path, VMM_PATH_BYTES))
            return refuse(err, table[at].field, "not an absolute path without spaces, commas and quotation marks");
    return 0;
}

static int check(const struct command_vfkit *vfkit, struct error *err)
{
    if (vfkit->program[0] == '\0')
        return refuse(err, "program", "is empty");
    if (vfkit->vcpus == 0 || vfkit->vcpus > VCPUS_MAX)
        return refuse(err, "vcpus", "not within 1 to 255");
    if (vfkit->memory_mib == 0)
        return refuse(err, "memory_mib", "is zero");
    if ((vfkit->guest_mac.b[0] & 1) != 0)
        return refuse(err, "guest_mac", "is a group address");
    if (!is_command_line(vfkit->kernel_command_line))
        return refuse(err, "kernel_command_line", "not up to 2047 printable ASCII characters without a quotation mark");
    return check_paths(vfkit, err);
}

static void add_disk(struct command *command, const char *path)
{
    if (path == NULL)
        return;
    command_add(command, "--device");
    command_add(command, "virtio-blk,path=%s", path);
}

static void add_devices(struct command *command, const struct command_vfkit *vfkit)
{
    struct nat_mac mac = vfkit->guest_mac;
    add_disk(command, vfkit->root);
    add_disk(command, vfkit->seed);
    add_disk(command, vfkit->disk);
    command_add(command, "--device");
    command_add(command, "virtio-net,fd=%d,mac=%02x:%02x:%02x:%02x:%02x:%02x", COMMAND_FD_NET, mac.b[0], mac.b[1],
                mac.b[2], mac.b[3], mac.b[4], mac.b[5]);
    command_add(command, "--device");
    command_add(command, "virtio-serial,logFilePath=%s", vfkit->console);
    command_add(command, "--device");
    command_add(command, "virtio-rng");
}

int command_vfkit_build(const struct command_vfkit *vfkit, struct command *ret_command, struct error *err)
{
    *ret_command = (struct command){0};
    int rc = check(vfkit, err);
    if (rc != 0)
        return rc;
    command_start(ret_command, vfkit->program);
    command_add(ret_command, "--log-level");
    command_add(ret_command, "error");
    command_add(ret_command, "--restful-uri");
    command_add(ret_command, "unix://%s", vfkit->control_socket);
    command_add(ret_command, "--cpus");
    command_add(ret_command, "%" PRIu32, vfkit->vcpus);
    command_add(ret_command, "--memory");
    command_add(ret_command, "%" PRIu32, vfkit->memory_mib);
    command_add(ret_command, "--bootloader");
    command_add(ret_command, "linux,kernel=%s,initrd=%s,cmdline=\"%s\"", vfkit->kernel, vfkit->initrd,
                vfkit->kernel_command_line);
    add_devices(ret_command, vfkit);
    if (!ret_command->failed)
        return 0;
    *ret_command = (struct command){0};
    return error_set(err, -E2BIG, "the hypervisor's arguments take more than %d bytes", COMMAND_TEXT_BYTES);
}

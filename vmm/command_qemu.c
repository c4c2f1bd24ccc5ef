/* QEMU's arguments.
 *
 * Option strings are parsed by QEMU at commas and equals signs, so every word that ends up in one is checked here
 * against its own small alphabet, whatever has been checked before. The exception is the kernel command line, which
 * QEMU takes as a whole.
 *
 * Everything that QEMU uses is a descriptor from enum command_fd. Files go in as fdsets (-add-fd), because -blockdev has
 * no other way to take a descriptor; kernel and initrd go in as /dev/fd/N, which QEMU opens again for reading. */
#include "vmm/command_qemu.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

enum command_qemu_limits {
    WORD_BYTES_MAX = 64,
    KERNEL_COMMAND_LINE_BYTES_MAX = 2047, /* x86 boot protocol: COMMAND_LINE_SIZE less the NUL */
    VCPUS_MAX = 255,                      /* q35 without an interrupt remapping device */
    TCG_CACHE_MIB = 64,                   /* left alone, QEMU translates into up to 1 GiB of the host's memory */
    SET_SEED = 1,
    SET_DISK = 2,
    SET_BASE = 3,
    SET_OVERLAY = 4,
};

static bool is_word(const char *text)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strspn(text, alphabet);
    return length > 0 && length <= WORD_BYTES_MAX && text[length] == '\0' && text[0] != '-';
}

static bool is_command_line(const char *text)
{
    size_t length = 0;
    for (; text[length] != '\0'; length++)
        if (text[length] < ' ' || text[length] > '~' || length == KERNEL_COMMAND_LINE_BYTES_MAX)
            return false;
    return true;
}

/* QEMU takes a comma within a value only when it stands twice; no path of ours needs one. */
static bool is_path(const char *text)
{
    struct sockaddr_un address;
    size_t length = text == NULL ? 0 : strlen(text);
    for (size_t at = 0; at < length; at++)
        if (text[at] < ' ' || text[at] > '~' || text[at] == ',')
            return false;
    return length > 0 && length < sizeof address.sun_path && text[0] == '/';
}

static int refuse(struct error *err, const char *field, const char *why)
{
    error_set(err, -EINVAL, "QEMU %s: %s", field, why);
    error_tag(err, NULL, field);
    return -EINVAL;
}

static int check(const struct command_qemu *qemu, struct error *err)
{
    if (qemu->program[0] == '\0')
        return refuse(err, "program", "is empty");
    if (strcmp(qemu->accel, "kvm") != 0 && strcmp(qemu->accel, "tcg") != 0)
        return refuse(err, "accel", "neither kvm nor tcg");
    if (!is_word(qemu->cpu))
        return refuse(err, "cpu", "not a model name");
    if (!is_word(qemu->name))
        return refuse(err, "name", "not a word");
    if (qemu->vcpus == 0 || qemu->vcpus > VCPUS_MAX)
        return refuse(err, "vcpus", "not within 1 to 255");
    if (qemu->memory_mib == 0)
        return refuse(err, "memory_mib", "is zero");
    if (qemu->net == COMMAND_NET_NAMED && (!is_path(qemu->vm_socket) || !is_path(qemu->host_socket)))
        return refuse(err, "socket",
                      "not an absolute path of printable ASCII without commas that fits a socket's name");
    if ((qemu->guest_mac.b[0] & 1) != 0)
        return refuse(err, "guest_mac", "is a group address");
    if (!is_command_line(qemu->kernel_command_line))
        return refuse(err, "kernel_command_line", "not up to 2047 printable ASCII characters");
    if (qemu->base_format != NULL && strcmp(qemu->base_format, "raw") != 0 && strcmp(qemu->base_format, "qcow2") != 0)
        return refuse(err, "base_format", "neither raw nor qcow2");
    return 0;
}

static void add_pair(struct command *command, const char *option, const char *value)
{
    command_add(command, "%s", option);
    command_add(command, "%s", value);
}

static void add_machine(struct command *command, const struct command_qemu *qemu)
{
    add_pair(command, "-name", qemu->name);
    add_pair(command, "-machine", "q35,usb=off,vmport=off");
    command_add(command, "-accel");
    if (strcmp(qemu->accel, "tcg") == 0)
        command_add(command, "tcg,thread=multi,tb-size=%d", TCG_CACHE_MIB);
    else
        command_add(command, "%s", qemu->accel);
    add_pair(command, "-cpu", qemu->cpu);
    command_add(command, "-smp");
    command_add(command, "%" PRIu32, qemu->vcpus);
    command_add(command, "-m");
    command_add(command, "%" PRIu32, qemu->memory_mib);
}

static void add_confinement(struct command *command)
{
    command_add(command, "-no-user-config");
    command_add(command, "-nodefaults");
    command_add(command, "-no-reboot"); /* a reset becomes an exit, which the supervisor sees */
    add_pair(command, "-display", "none");
    add_pair(command, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
}

/* @named: the console listens, as QMP does, so that another daemon can take the place of the one that went */
static void add_channels(struct command *command, bool named)
{
    command_add(command, "-chardev");
    command_add(command, "socket,id=console,fd=%d%s", COMMAND_FD_CONSOLE, named ? ",server=on,wait=off" : "");
    add_pair(command, "-serial", "chardev:console");
    command_add(command, "-chardev");
    command_add(command, "socket,id=qmp,fd=%d,server=on,wait=off", COMMAND_FD_QMP);
    add_pair(command, "-mon", "chardev=qmp,mode=control");
}

static void add_network(struct command *command, const struct command_qemu *qemu)
{
    struct nat_mac mac = qemu->guest_mac;
    command_add(command, "-netdev");
    switch (qemu->net) {
    case COMMAND_NET_DGRAM:
        command_add(command, "dgram,id=net0,local.type=fd,local.str=%d", COMMAND_FD_NET);
        break;
    case COMMAND_NET_STREAM:
        command_add(command, "stream,id=net0,server=off,addr.type=fd,addr.str=%d", COMMAND_FD_NET);
        break;
    case COMMAND_NET_NAMED:
        command_add(command, "dgram,id=net0,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s",
                    qemu->vm_socket, qemu->host_socket);
        break;
    case COMMAND_NET_TAP:
        command_add(command, "tap,id=net0,fd=%d,vhost=off", COMMAND_FD_NET);
        break;
    }
    command_add(command, "-device");
    command_add(command, "virtio-net-pci,netdev=net0,mac=%02x:%02x:%02x:%02x:%02x:%02x,romfile=", mac.b[0], mac.b[1],
                mac.b[2], mac.b[3], mac.b[4], mac.b[5]);
}

/* Format and driver are stated, so nothing is probed and no backing file is followed. */
static void add_block(struct command *command, const char *node, int fd, int set, bool writable)
{
    command_add(command, "-add-fd");
    command_add(command, "fd=%d,set=%d", fd, set);
    command_add(command, "-blockdev");
    command_add(command, "driver=raw,node-name=%s,read-only=%s,file.driver=file,file.filename=/dev/fdset/%d", node,
                writable ? "off" : "on", set);
    command_add(command, "-device");
    command_add(command, "virtio-blk-pci,drive=%s", node);
}

/* The base is written as JSON, because only that can say that it stands on nothing, whatever its header says. What the guest
 * writes is thrown away with the machine, so its flushes need not reach a disk. */
static void add_root(struct command *command, const char *base_format)
{
    command_add(command, "-add-fd");
    command_add(command, "fd=%d,set=%d", COMMAND_FD_BASE, SET_BASE);
    command_add(command, "-add-fd");
    command_add(command, "fd=%d,set=%d", COMMAND_FD_OVERLAY, SET_OVERLAY);
    command_add(command, "-blockdev");
    command_add(command,
                "{\"driver\":\"%s\",\"node-name\":\"base\",\"read-only\":true,%s"
                "\"file\":{\"driver\":\"file\",\"filename\":\"/dev/fdset/%d\"}}",
                base_format, strcmp(base_format, "qcow2") == 0 ? "\"backing\":null," : "", SET_BASE);
    command_add(command, "-blockdev");
    command_add(command,
                "driver=qcow2,node-name=root,read-only=off,cache.no-flush=on,backing=base,file.driver=file,"
                "file.filename=/dev/fdset/%d",
                SET_OVERLAY);
    add_pair(command, "-device", "virtio-blk-pci,drive=root");
}

static void add_boot(struct command *command, const char *kernel_command_line)
{
    command_add(command, "-kernel");
    command_add(command, "/dev/fd/%d", COMMAND_FD_KERNEL);
    command_add(command, "-initrd");
    command_add(command, "/dev/fd/%d", COMMAND_FD_INITRD);
    add_pair(command, "-append", kernel_command_line);
}

int command_qemu_build(const struct command_qemu *qemu, struct command *ret_command, struct error *err)
{
    *ret_command = (struct command){0};
    int rc = check(qemu, err);
    if (rc != 0)
        return rc;
    command_start(ret_command, qemu->program);
    add_machine(ret_command, qemu);
    add_confinement(ret_command);
    add_channels(ret_command, qemu->net == COMMAND_NET_NAMED);
    add_network(ret_command, qemu);
    if (qemu->base_format != NULL)
        add_root(ret_command, qemu->base_format);
    add_block(ret_command, "seed", COMMAND_FD_SEED, SET_SEED, false);
    if (qemu->has_disk)
        add_block(ret_command, "disk", COMMAND_FD_DISK, SET_DISK, true);
    add_pair(ret_command, "-device", "pvpanic-pci");
    add_pair(ret_command, "-object", "rng-builtin,id=rng");
    add_pair(ret_command, "-device", "virtio-rng-pci,rng=rng");
    add_boot(ret_command, qemu->kernel_command_line);
    if (!ret_command->failed)
        return 0;
    *ret_command = (struct command){0};
    return error_set(err, -E2BIG, "the hypervisor's arguments take more than %d bytes", COMMAND_TEXT_BYTES);
}

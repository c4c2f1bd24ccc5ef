#include "vmm/hypervisor.h"

#include <errno.h>
#include <string.h>

#include "vmm/news.h"
#include "vmm/news_vfkit.h"

static const struct hypervisor hypervisors[] = {
    [VMM_HYPERVISOR_QEMU] = {.name = "qemu",
                             .install = "apt install qemu-system-x86",
                             .can = {.keeps = true, .streams = true, .direct = true},
                             .spawn = machine_qemu_spawn,
                             .answers = machine_qemu_answers,
                             .ask_to_end = machine_qemu_ask_to_end,
                             .hear = news_qmp},
    /* Its network attachment cannot be connected anew, so nothing of it could be taken over. vmm_direct_none() says why it
     * has no direct mode. */
    [VMM_HYPERVISOR_VFKIT] = {.name = "vfkit",
                              .install = "brew install vfkit",
                              .accelerator = "vz",
                              .by_name = true,
                              .ends_with_guest = true,
                              .spawn = machine_vfkit_spawn,
                              .answers = machine_vfkit_answers,
                              .ask_to_end = machine_vfkit_ask_to_end,
                              .hear = news_vfkit_hear,
                              .look = news_vfkit_look},
};

const struct hypervisor *hypervisor_of(enum vmm_hypervisor kind)
{
    return &hypervisors[kind];
}

int hypervisor_missing(const struct hypervisor *hypervisor, const char *program, struct error *err)
{
    error_set(err, -ENOENT, "%.200s: no such program; install it: %s", program, hypervisor->install);
    error_tag(err, "hypervisor-missing", hypervisor->name);
    return -ENOENT;
}

const char *vmm_hypervisor_name(enum vmm_hypervisor hypervisor)
{
    return hypervisors[hypervisor].name;
}

struct vmm_abilities vmm_hypervisor_abilities(enum vmm_hypervisor hypervisor)
{
    return hypervisors[hypervisor].can;
}

const char *vmm_hypervisor_install(enum vmm_hypervisor hypervisor)
{
    return hypervisors[hypervisor].install;
}

bool vmm_hypervisor_parse(const char *name, enum vmm_hypervisor *ret_hypervisor)
{
    for (size_t kind = 0; kind < sizeof hypervisors / sizeof *hypervisors; kind++)
        if (strcmp(name, hypervisors[kind].name) == 0) {
            *ret_hypervisor = (enum vmm_hypervisor)kind;
            return true;
        }
    return false;
}

int vmm_direct_none(struct error *err)
{
    /* vmnet's shared mode: the guest, the host and other guests are one subnet, and beyond it all is routed that the host
     * reaches. Rules of pf that closed it are root's. Source: vmnet.h, VMNET_SHARED_MODE; vfkit doc/usage.md */
    error_set(
        err, -ENOTSUP,
        "vfkit's own network (virtio-net,nat) leaves the provider's addresses, its local network and other guests "
        "open to a guest, and direct mode promises that they are closed");
    error_tag(err, "direct-unavailable", "/network/mode");
    return -ENOTSUP;
}

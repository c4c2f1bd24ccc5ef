#include "api/config/machines.h"

const char *machines_program(const struct config *config)
{
    switch (config->hypervisor.kind) {
    case VMM_HYPERVISOR_QEMU:
        return config->hypervisor.qemu;
    case VMM_HYPERVISOR_VFKIT:
        return config->hypervisor.vfkit;
    }
    return "";
}

struct vmm_config machines_config(const struct config *config)
{
    return (struct vmm_config){
        .attachment = config->network.attachment,
        .image_dir = config->paths.images,
        .runtime_dir = config->paths.runtime,
        .cache_dir = config->paths.data,
        .hypervisor = config->hypervisor.kind,
        .program = machines_program(config),
        .kvm_device = config->hypervisor.kvm_device,
        .packages_dir = config->paths.packages[0] == '\0' ? NULL : config->paths.packages,
        .allow_private = config->network.allow_private_endpoints,
        .keep_machines = config->keep_machines,
        .machines_max = config->capacity.leases,
        .flows_max = config->flows_max,
        .boot_watchdog_ms = config->hypervisor.boot_watchdog_ms,
        .start_timeout_ms = config->hypervisor.start_timeout_ms,
        .powerdown_ms = config->hypervisor.powerdown_ms,
    };
}

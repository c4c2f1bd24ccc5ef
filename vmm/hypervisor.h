/* The programs that run machines, and what differs between them. Everything else (lifecycle, NAT, store) is the same for all. */
#ifndef VMM_HYPERVISOR_H
#define VMM_HYPERVISOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "vmm/machine.h"
#include "vmm/supervisor.h"
#include "vmm/vmm.h"

/**
 * struct hypervisor - One of them
 * @name:        in the configuration
 * @install:     the command that mends its absence
 * @accelerator: what its machines always run with; NULL: a trial finds that out
 * @by_name:     it takes files by their names, which so stay until the machine has ended
 * @ends_with_guest: it exits with 0 when its guest has shut down, and says nothing more of it
 * @spawn:       as machine_spawn(), when what was there before is closed
 * @answers:     whether it takes commands
 * @ask_to_end:  have it end, as hard as the step says. Return: 0; negative when it does not hear
 * @hear:        its control channel, supervisor's POLL_CONTROL, has something
 * @look:        @look_ms has come, which it sets again; NULL for one that says everything by itself
 *
 * All functions run on the supervisor's thread, with the vmm's lock not held.
 */
struct hypervisor {
    const char *name;
    const char *install;
    const char *accelerator;
    bool by_name;
    struct vmm_abilities can;
    bool ends_with_guest;
    int (*spawn)(struct machine *machine, const struct machine_places *places, const struct vmm_accel *accel,
                 struct error *err);
    bool (*answers)(const struct machine *machine);
    int (*ask_to_end)(struct machine *machine, const struct machine_places *places, enum machine_step step);
    void (*hear)(struct vmm *vmm, struct machine *machine);
    void (*look)(struct vmm *vmm, struct machine *machine, uint64_t now_ms);
};

/** hypervisor_of() - Thread: any */
const struct hypervisor *hypervisor_of(enum vmm_hypervisor kind);

/** hypervisor_missing() - Say that there is no such program, and what helps. Return: -ENOENT. Thread: any */
int hypervisor_missing(const struct hypervisor *hypervisor, const char *program, struct error *err);

#endif

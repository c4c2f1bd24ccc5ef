/* A KVM that hangs its guests shows in nothing but their silence. */
#ifndef VMM_BOOT_WATCHDOG_H
#define VMM_BOOT_WATCHDOG_H

#include "vmm/machine.h"
#include "vmm/supervisor.h"

/**
 * boot_watchdog_bite() - A machine under KVM has shown no sign of life in time: start it, and all after it, with TCG
 * Thread: the supervisor's
 */
void boot_watchdog_bite(struct vmm *vmm, struct machine *machine);

#endif

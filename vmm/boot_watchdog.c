#include "vmm/boot_watchdog.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "vmm/accel.h"
#include "vmm/lifecycle.h"

static bool has_sent_frames(const struct machine *machine)
{
    struct nat_stats stats = {0};
    uint64_t frames = 0;
    if (machine->nat != NULL)
        nat_read_stats(machine->nat, &stats);
    for (size_t reason = 0; reason < NAT_REASON_COUNT; reason++)
        frames += stats.frames[reason];
    return frames > 0;
}

/* What a silent machine says of kvm, for all that start after it. */
static struct vmm_accel fall_back(struct vmm *vmm)
{
    struct vmm_accel tcg = {.known = true, .name = "tcg", .cpu = ACCEL_CPU_TCG};
    snprintf(tcg.reason, sizeof tcg.reason, "a machine with kvm showed no sign of life within %" PRIu32 " ms",
             vmm->config.boot_watchdog_ms);
    pthread_mutex_lock(&vmm->lock);
    vmm->accel = tcg;
    pthread_mutex_unlock(&vmm->lock);
    (void)accel_remember(vmm->places.program, vmm->kvm_device, vmm->config.cache_dir, &tcg, NULL);
    return tcg;
}

void boot_watchdog_bite(struct vmm *vmm, struct machine *machine)
{
    char detail[VMM_DETAIL_BYTES];
    struct vmm_event event = {.kind = VMM_EVENT_NOTICE, .accelerator = machine->accel.name, .detail = detail};
    /* Frames of a direct machine pass nobody here, and a console may be silent: that it is quiet proves nothing. */
    if (machine->spec->direct)
        snprintf(detail, sizeof detail, "the guest has printed nothing within %" PRIu32 " ms; it goes on with kvm",
                 vmm->config.boot_watchdog_ms);
    if (machine->spec->direct || has_sent_frames(machine)) {
        machine_settle(machine); /* it will not be started again */
        if (machine->spec->direct)
            lifecycle_tell(vmm, machine, &event);
        return;
    }
    struct vmm_accel tcg = fall_back(vmm);
    machine->state = MACHINE_STARTING;
    machine->gone_by_ms = 0;
    machine->start_by_ms = clock_monotonic_ms() + vmm->config.start_timeout_ms;
    machine->retry = true;
    machine_kill(machine);
    snprintf(detail, sizeof detail, "%s; it starts again with tcg, and so will others until the next boot", tcg.reason);
    event.accelerator = tcg.name;
    lifecycle_tell(vmm, machine, &event);
}

#include "vmm/own_keeper.h"

#include <string.h>

#include "base/scope.h"
#include "vmm/lifecycle.h"
#include "vmm/own_addresses.h"
#include "vmm/supervisor.h"

void own_keeper_open(struct own_keeper *keeper)
{
    *keeper = (struct own_keeper){.fd = -1};
    (void)own_addresses_listen(&keeper->fd, NULL);
}

void own_keeper_close(struct own_keeper *keeper)
{
    fd_close(&keeper->fd);
}

/* Before its policy is posted a machine's NAT lets nothing pass; the policy brings the addresses of its moment. */
static bool is_kept(const struct machine *machine)
{
    return machine->nat != NULL && machine->policy_posted && machine->state < MACHINE_STOPPING &&
           machine->spec->policy.mode == NAT_MODE_SAMPLED;
}

static bool keeps_any(const struct vmm *vmm)
{
    for (size_t at = 0; at < vmm->served_count; at++)
        if (is_kept(vmm->served[at]))
            return true;
    return false;
}

uint64_t own_keeper_next_ms(const struct vmm *vmm)
{
    return keeps_any(vmm) ? vmm->own_keeper.due_ms : UINT64_MAX;
}

/* Which machine has which set is not remembered: giving one again is cheap, and changes are rare. */
void own_keeper_look(struct vmm *vmm, bool told, uint64_t now_ms)
{
    struct own_keeper *keeper = &vmm->own_keeper;
    if (told)
        own_addresses_drain(keeper->fd); /* before the look: what comes during it is another one */
    if (!keeps_any(vmm) || (!told && now_ms < keeper->due_ms))
        return;
    keeper->due_ms = now_ms + OWN_KEEPER_LOOK_MS;
    struct error err = {0};
    int rc = own_addresses_read(keeper->own, NAT_OWN_MAX, &keeper->count, &err);
    for (size_t at = 0; at < vmm->served_count; at++) {
        struct machine *machine = vmm->served[at];
        if (!is_kept(machine))
            continue;
        if (rc == 0)
            rc = nat_replace_own(machine->nat, keeper->own, keeper->count, &err);
        if (rc != 0)
            lifecycle_end(vmm, machine, VMM_END_FILTER_FAILED, MACHINE_STEP_KILL, err.message);
    }
}

#include "vmm/totals.h"

/* Add what @now has over @before. */
static void add(struct nat_stats *sum, const struct nat_stats *now, const struct nat_stats *before)
{
    for (size_t i = 0; i < NAT_REASON_COUNT; i++) {
        sum->frames[i] += now->frames[i] - before->frames[i];
        sum->bytes[i] += now->bytes[i] - before->bytes[i];
    }
    for (size_t i = 0; i < NAT_INBOUND_COUNT; i++) {
        sum->inbound_packets[i] += now->inbound_packets[i] - before->inbound_packets[i];
        sum->inbound_bytes[i] += now->inbound_bytes[i] - before->inbound_bytes[i];
    }
    sum->violations += now->violations - before->violations;
    sum->flows_opened += now->flows_opened - before->flows_opened;
}

void totals_keep(struct vmm *vmm, struct machine *machine)
{
    static const struct nat_stats nothing;
    struct nat_stats before = {0};
    struct nat_stats last = {0};
    /* Stopping waits for the thread, so it cannot be done under the lock; what the NAT has counted up to here moves over
     * in the moment in which the NAT goes, and what it counts until it has ended follows. */
    pthread_mutex_lock(&vmm->lock);
    struct nat *nat = machine->nat;
    machine->nat = NULL;
    if (nat != NULL)
        nat_read_stats(nat, &before);
    add(&vmm->ended, &before, &nothing);
    pthread_mutex_unlock(&vmm->lock);
    nat_stop(nat, &last);
    if (nat == NULL)
        return;
    pthread_mutex_lock(&vmm->lock);
    add(&vmm->ended, &last, &before);
    pthread_mutex_unlock(&vmm->lock);
}

void vmm_read_totals(struct vmm *vmm, struct nat_stats *ret_totals, size_t *ret_machines)
{
    static const struct nat_stats nothing;
    pthread_mutex_lock(&vmm->lock);
    *ret_totals = vmm->ended;
    for (size_t i = 0; i < vmm->machine_count; i++) {
        struct nat_stats stats;
        if (vmm->machines[i]->nat == NULL)
            continue;
        nat_read_stats(vmm->machines[i]->nat, &stats);
        add(ret_totals, &stats, &nothing);
        ret_totals->flows_open += stats.flows_open;
    }
    *ret_machines = vmm->machine_count;
    pthread_mutex_unlock(&vmm->lock);
}

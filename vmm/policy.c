/* Replacing the policy of a machine that runs. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "vmm/supervisor.h"
#include "vmm/vmm.h"

enum { LOOK_MS = 1 };

/* The vmm's lock is held. Return: the machine's NAT while it enforces something, else NULL and why not. */
static struct nat *enforcing(const struct machine *machine, int *ret_cause)
{
    struct nat_stats stats;
    *ret_cause = -ENOENT;
    if (machine == NULL || machine->nat == NULL)
        return NULL;
    nat_read_stats(machine->nat, &stats);
    *ret_cause = stats.policy_generation == 0 ? -EAGAIN : 0;
    return *ret_cause == 0 ? machine->nat : NULL;
}

static int post(struct vmm *vmm, const struct id *id, const struct nat_policy *policy, struct error *err)
{
    int rc;
    struct nat_policy complete = *policy;
    pthread_mutex_lock(&vmm->lock);
    const struct machine *machine = supervisor_find(vmm, id);
    struct nat *nat = enforcing(machine, &rc);
    if (nat == NULL)
        error_set(err, rc, "the machine's filter enforces nothing now");
    else if ((rc = machine_complete_policy(machine, &complete, err)) == 0)
        rc = nat_apply(nat, &complete, err);
    pthread_mutex_unlock(&vmm->lock);
    return rc;
}

/* Return: 0 enforced, -EINPROGRESS not yet, -ECANCELED never. */
static int look(struct vmm *vmm, const struct id *id, uint64_t generation)
{
    int rc;
    struct nat_stats stats = {0};
    pthread_mutex_lock(&vmm->lock);
    const struct nat *nat = enforcing(supervisor_find(vmm, id), &rc);
    if (nat != NULL)
        nat_read_stats(nat, &stats);
    pthread_mutex_unlock(&vmm->lock);
    if (stats.policy_generation == 0)
        return -ECANCELED;
    return stats.policy_generation >= generation ? 0 : -EINPROGRESS;
}

static bool recall(struct vmm *vmm, const struct id *id)
{
    pthread_mutex_lock(&vmm->lock);
    const struct machine *machine = supervisor_find(vmm, id);
    bool recalled = machine != NULL && machine->nat != NULL && nat_recall(machine->nat);
    pthread_mutex_unlock(&vmm->lock);
    return recalled;
}

int vmm_set_policy(struct vmm *vmm, const struct id *id, const struct nat_policy *policy, struct error *err)
{
    const struct timespec moment = {.tv_nsec = LOOK_MS * 1000000L};
    int rc = post(vmm, id, policy, err);
    if (rc != 0)
        return rc;
    const uint64_t end_ms = clock_monotonic_ms() + VMM_POLICY_WAIT_MS;
    while ((rc = look(vmm, id, policy->generation)) == -EINPROGRESS) {
        if (clock_monotonic_ms() >= end_ms && recall(vmm, id))
            return error_set(err, -ETIMEDOUT, "the filter did not take the policy within %d ms", VMM_POLICY_WAIT_MS);
        nanosleep(&moment, NULL); /* a policy that could not be taken back is taken, and enforced in a moment */
    }
    return rc == 0 ? 0 : error_set(err, rc, "the machine is ending");
}

int vmm_list_flows(struct vmm *vmm, const struct id *id, struct nat_flow ret_flows[static NAT_FLOWS_MAX])
{
    pthread_mutex_lock(&vmm->lock);
    const struct machine *machine = supervisor_find(vmm, id);
    int count = machine == NULL || machine->spec->direct ? -ENOENT : 0;
    if (count == 0 && machine->nat != NULL)
        count = (int)nat_list_flows(machine->nat, ret_flows);
    pthread_mutex_unlock(&vmm->lock);
    return count;
}

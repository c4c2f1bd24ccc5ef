#include "api/lease/lease_policy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api/lease/mode.h"
#include "api/lease/policy.h"
#include "base/clock.h"

static int take_turn(struct lease_service *service, struct error *err)
{
    const struct timespec moment = {.tv_nsec = 2000000};
    const uint64_t end_ms = clock_monotonic_ms() + LEASE_POLICY_QUEUE_MS;
    while (pthread_mutex_trylock(&service->policy_turn) != 0) {
        if (clock_monotonic_ms() >= end_ms) {
            error_set(err, -EBUSY, "Another policy is being applied.");
            error_tag(err, "policy-busy", "");
            return -EBUSY;
        }
        nanosleep(&moment, NULL);
    }
    return 0;
}

/* What the VM was told stays its consumer while the list holds it; else the first endpoint is where that has moved. */
static struct nat_endpoint consumer_of(const struct nat_policy *policy, struct nat_endpoint told)
{
    for (size_t i = 0; i < policy->allow_count; i++) {
        if (policy->allow[i].ip == told.ip && policy->allow[i].port == told.port)
            return told;
    }
    return policy->allow[0];
}

static void fill_row(const struct nat_policy *policy, struct nat_endpoint told, struct store_policy *row)
{
    *row = (struct store_policy){
        .generation = policy->generation,
        .sampling_ppm = policy->sampling_ppm,
        .require_wireguard = policy->require_wireguard,
        .egress_bits_per_s = policy->limits.egress_bits_per_s,
        .ingress_bits_per_s = policy->limits.ingress_bits_per_s,
        .egress_packets_per_s = policy->limits.egress_packets_per_s,
        .ingress_packets_per_s = policy->limits.ingress_packets_per_s,
    };
    snprintf(row->mode, sizeof row->mode, "%s", nat_mode_name(policy->mode));
    snprintf(row->on_violation, sizeof row->on_violation, "%s", policy->terminate ? "terminate" : "drop");
    policy_format_allowlist(policy, row->allowlist);
    nat_endpoint_format(consumer_of(policy, told), row->consumer_endpoint);
}

static int enforce(struct lease_service *service, const struct id *id, const struct nat_policy *policy,
                   struct error *err)
{
    pthread_rwlock_rdlock(&service->gate);
    int result = service->vmm == NULL ? error_set(err, -ESHUTDOWN, "The daemon is ending.")
                                      : vmm_set_policy(service->vmm, id, policy, err);
    pthread_rwlock_unlock(&service->gate);
    return result;
}

/* The policy before is in force still; the answer says so, and the store as well. */
static int give_up(struct lease_service *service, const struct store_lease *lease, uint64_t generation, int cause,
                   struct error *err)
{
    const struct error why = *err;
    struct error store_err = {0};
    int result = store_policy_withdraw(service->store, lease->id.text, generation, &store_err);
    if (result < 0 && result != -EALREADY)
        log_line(service->log, LOG_ERROR, "store.failed", "lease=%s cause=\"%s\"", lease->id.text, store_err.message);
    log_line(service->log, LOG_WARNING, "filter.policy_refused", "lease=%s generation=%llu cause=\"%s\"",
             lease->id.text, (unsigned long long)generation, why.message);
    error_set(err, cause, "Policy generation %llu stays in force: %.200s", (unsigned long long)lease->policy_observed,
              why.message);
    if (cause == -ENOENT || cause == -EAGAIN || cause == -ECANCELED)
        error_tag(err, "machine-absent", "");
    else if (cause != -ESHUTDOWN)
        error_tag(err, "policy-not-enforced", "");
    return cause;
}

/* No change is under way, so what is desired and not in force was left by one whose last word the store did not take: the
 * filter says whether it enforces that. */
static int settle(struct lease_service *service, const struct id *id, struct error *err)
{
    struct store_lease lease;
    struct nat_stats stats;
    int result = store_lease_get(service->store, id->text, &lease, err);
    if (result < 0 || lease.policy_observed == 0 || lease.policy_desired == lease.policy_observed ||
        lease_service_stats(service, id, &stats) < 0)
        return result;
    if (stats.policy_generation >= lease.policy_desired)
        return store_lease_policy(service->store, id->text, lease.policy_desired, clock_wall_ms(), err);
    return store_policy_withdraw(service->store, id->text, lease.policy_desired, err);
}

/* The machine's own event says the same, again and again until the store takes it; whichever comes first writes it. */
static int note_enforced(struct lease_service *service, const struct id *id, uint64_t generation, struct error *err)
{
    int result = store_lease_policy(service->store, id->text, generation, clock_wall_ms(), err);
    if (result >= 0 || result == -EALREADY)
        return 0;
    const struct error why = *err;
    log_line(service->log, LOG_ERROR, "store.failed", "lease=%s cause=\"%s\"", id->text, why.message);
    error_set(err, result, "Policy generation %llu is in force, and the store has not taken that yet: %.200s",
              (unsigned long long)generation, why.message);
    error_tag(err, "store-unavailable", "");
    return result;
}

/* In this one's turn. */
static int set_policy(struct lease_service *service, const struct store_lease *lease, const struct nat_policy *policy,
                      struct error *err)
{
    struct nat_endpoint told;
    struct store_policy row;
    if (!policy_told_consumer(lease, &told))
        return error_set(err, -EUCLEAN, "the lease's endpoint makes no sense");
    fill_row(policy, told, &row);
    int result = settle(service, &lease->id, err);
    if (result == 0)
        result = store_policy_propose(service->store, lease->id.text, &row, err);
    if (result < 0)
        return result;
    result = enforce(service, &lease->id, policy, err);
    if (result < 0)
        return give_up(service, lease, policy->generation, result, err);
    return note_enforced(service, &lease->id, policy->generation, err);
}

int lease_policy_set(struct lease_service *service, const struct store_lease *lease, const struct nat_policy *policy,
                     struct store_lease *ret_lease, struct error *err)
{
    struct nat_policy next = *policy;
    next.generation = policy_generation(lease) + 1;
    int result = take_turn(service, err);
    if (result < 0)
        return result;
    result = set_policy(service, lease, &next, err);
    pthread_mutex_unlock(&service->policy_turn);
    return result < 0 ? result : store_lease_get(service->store, lease->id.text, ret_lease, err);
}

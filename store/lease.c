/* A lease goes forward through its states and never back. Two edges leave the line: any living lease may end at once
 * (terminated), and any living lease may have to be proved again after a daemon restart (recovering), whatever its row
 * said when the daemon died. Nothing follows terminated. */
#include "store/lease.h"

#include <string.h>

/* Row: from. Column: to. What is not named here is false. */
static const bool follows[LEASE_STATE_COUNT][LEASE_STATE_COUNT] = {
    [LEASE_PENDING] =
        {
            [LEASE_PREPARING] = true,
            [LEASE_STOPPING] = true,
            [LEASE_TERMINATED] = true,
            [LEASE_RECOVERING] = true,
        },
    [LEASE_PREPARING] =
        {
            [LEASE_STARTING] = true,
            [LEASE_STOPPING] = true,
            [LEASE_TERMINATED] = true,
            [LEASE_RECOVERING] = true,
        },
    [LEASE_STARTING] =
        {
            [LEASE_RUNNING] = true,
            [LEASE_STOPPING] = true,
            [LEASE_TERMINATED] = true,
            [LEASE_RECOVERING] = true,
        },
    [LEASE_RUNNING] =
        {
            [LEASE_STOPPING] = true,
            [LEASE_TERMINATED] = true,
            [LEASE_RECOVERING] = true,
        },
    [LEASE_STOPPING] =
        {
            [LEASE_TERMINATED] = true,
            [LEASE_RECOVERING] = true,
        },
    [LEASE_RECOVERING] =
        {
            [LEASE_RUNNING] = true,
            [LEASE_STOPPING] = true,
            [LEASE_TERMINATED] = true,
        },
    [LEASE_TERMINATED] = {false},
};

/*@ assigns \nothing;
    ensures \result != 0 <==> 0 <= state < LEASE_STATE_COUNT; */
static bool is_state(enum lease_state state)
{
    return (unsigned)state < LEASE_STATE_COUNT;
}

bool lease_may_follow(enum lease_state from, enum lease_state to)
{
    return is_state(from) && is_state(to) && follows[from][to];
}

bool lease_is_final(enum lease_state state)
{
    return state == LEASE_TERMINATED;
}

const char *lease_state_name(enum lease_state state)
{
    switch (state) {
    case LEASE_PENDING:
        return "pending";
    case LEASE_PREPARING:
        return "preparing";
    case LEASE_STARTING:
        return "starting";
    case LEASE_RUNNING:
        return "running";
    case LEASE_STOPPING:
        return "stopping";
    case LEASE_TERMINATED:
        return "terminated";
    case LEASE_RECOVERING:
        return "recovering";
    case LEASE_STATE_COUNT:
        break;
    }
    return "";
}

bool lease_state_parse(const char *name, enum lease_state *ret_state)
{
    for (unsigned i = 0; i < LEASE_STATE_COUNT; i++) {
        if (strcmp(name, lease_state_name((enum lease_state)i)) == 0) {
            *ret_state = (enum lease_state)i;
            return true;
        }
    }
    return false;
}

const char *lease_reason_name(enum lease_reason reason)
{
    switch (reason) {
    case LEASE_RELEASED:
        return "released";
    case LEASE_EXPIRED:
        return "lease_expired";
    case LEASE_HEARTBEAT_LOST:
        return "heartbeat_lost";
    case LEASE_POLICY_VIOLATION:
        return "policy_violation";
    case LEASE_TUNNEL_TIMEOUT:
        return "tunnel_timeout";
    case LEASE_TUNNEL_LOST:
        return "tunnel_lost";
    case LEASE_GUEST_SHUTDOWN:
        return "guest_shutdown";
    case LEASE_GUEST_CRASH:
        return "guest_crash";
    case LEASE_VMM_CRASH:
        return "vmm_crash";
    case LEASE_FILTER_FAILURE:
        return "filter_failure";
    case LEASE_START_FAILED:
        return "start_failed";
    case LEASE_START_TIMEOUT:
        return "start_timeout";
    case LEASE_IMAGE_REJECTED:
        return "image_rejected";
    case LEASE_PROVIDER_SHUTDOWN:
        return "provider_shutdown";
    case LEASE_RECOVERY_FAILED:
        return "recovery_failed";
    case LEASE_REASON_NONE:
    case LEASE_REASON_COUNT:
        break;
    }
    return "";
}

bool lease_reason_parse(const char *name, enum lease_reason *ret_reason)
{
    for (unsigned i = LEASE_REASON_NONE + 1; i < LEASE_REASON_COUNT; i++) {
        if (strcmp(name, lease_reason_name((enum lease_reason)i)) == 0) {
            *ret_reason = (enum lease_reason)i;
            return true;
        }
    }
    return false;
}

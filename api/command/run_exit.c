#include "api/command/run_exit.h"

enum run_exit run_exit_code(enum lease_reason reason)
{
    switch (reason) {
    case LEASE_RELEASED:
    case LEASE_GUEST_SHUTDOWN:
        return RUN_DONE;
    case LEASE_EXPIRED:
        return RUN_EXPIRED;
    case LEASE_POLICY_VIOLATION:
        return RUN_VIOLATION;
    case LEASE_TUNNEL_TIMEOUT:
    case LEASE_TUNNEL_LOST:
        return RUN_TUNNEL;
    case LEASE_GUEST_CRASH:
        return RUN_GUEST;
    case LEASE_VMM_CRASH:
    case LEASE_FILTER_FAILURE:
    case LEASE_START_FAILED:
    case LEASE_START_TIMEOUT:
    case LEASE_IMAGE_REJECTED:
        return RUN_PROVIDER;
    case LEASE_HEARTBEAT_LOST:
    case LEASE_PROVIDER_SHUTDOWN:
    case LEASE_RECOVERY_FAILED:
        return RUN_NODE;
    case LEASE_REASON_NONE:
    case LEASE_REASON_COUNT:
        break;
    }
    return RUN_FAILED;
}

enum run_exit run_exit_refusal(unsigned status)
{
    switch (status) {
    case 409: /* what conflicts may be gone later */
    case 429:
    case 500:
    case 503:
    case 507:
        return RUN_TRY_AGAIN;
    default:
        return RUN_REFUSED;
    }
}

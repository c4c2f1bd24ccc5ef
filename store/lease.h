/* The life of a lease: states, reasons for its end, and which state may follow which. Pure. */
#ifndef STORE_LEASE_H
#define STORE_LEASE_H

#include <stdbool.h>
#include <stddef.h>

enum lease_state {
    LEASE_PENDING,   /* reserved in the store, nothing made yet */
    LEASE_PREPARING, /* image verified, seed and attachment made */
    LEASE_STARTING,  /* the hypervisor was spawned */
    LEASE_RUNNING,   /* the hypervisor runs and the NAT enforces the newest policy */
    LEASE_STOPPING,
    LEASE_TERMINATED, /* final */
    LEASE_RECOVERING, /* found alive after a daemon restart, not proved yet */
    LEASE_STATE_COUNT,
};

enum lease_reason {
    LEASE_REASON_NONE,
    LEASE_RELEASED,
    LEASE_EXPIRED,
    LEASE_HEARTBEAT_LOST,
    LEASE_POLICY_VIOLATION,
    LEASE_TUNNEL_TIMEOUT,
    LEASE_TUNNEL_LOST,
    LEASE_GUEST_SHUTDOWN,
    LEASE_GUEST_CRASH,
    LEASE_VMM_CRASH,
    LEASE_FILTER_FAILURE,
    LEASE_START_FAILED,
    LEASE_START_TIMEOUT,
    LEASE_IMAGE_REJECTED,
    LEASE_PROVIDER_SHUTDOWN,
    LEASE_RECOVERY_FAILED,
    LEASE_REASON_COUNT,
};

/**
 * lease_may_follow() - Whether a lease in @from may become @to
 * Return: false for every @to when @from is final
 * Thread: any
 */
/*@ assigns \nothing;
    ensures final: from == LEASE_TERMINATED ==> \result == 0;
    ensures known: \result != 0 ==> 0 <= from < LEASE_STATE_COUNT && 0 <= to < LEASE_STATE_COUNT;
    ensures from_rest: \result != 0 && to == LEASE_PENDING ==> \false;
    ensures end: 0 <= from < LEASE_STATE_COUNT && from != LEASE_TERMINATED && to == LEASE_TERMINATED ==> \result != 0; */
bool lease_may_follow(enum lease_state from, enum lease_state to);

/** lease_is_final() - Whether the state is one that nothing follows. Thread: any */
/*@ assigns \nothing;
    ensures \result != 0 <==> state == LEASE_TERMINATED; */
bool lease_is_final(enum lease_state state);

/** lease_state_name() - The API's word, as "pending". Thread: any */
const char *lease_state_name(enum lease_state state);

/** lease_state_parse() - From the API's word. Return: true when known. Thread: any */
bool lease_state_parse(const char *name, enum lease_state *ret_state);

/** lease_reason_name() - The API's word, as "guest_shutdown"; "" for none. Thread: any */
const char *lease_reason_name(enum lease_reason reason);

/** lease_reason_parse() - From the API's word. Return: true when known. Thread: any */
bool lease_reason_parse(const char *name, enum lease_reason *ret_reason);

#endif

/* The use cases that join the store and the machines. A lease's row is written first and its machine is asked for next;
 * what the machine does comes back as events, each of which is written to the row. */
#ifndef API_LEASE_LEASE_SERVICE_H
#define API_LEASE_LEASE_SERVICE_H

#include <pthread.h>
#include <stdbool.h>

#include "api/lease/lease_request.h"
#include "api/lease/lease_watch.h"
#include "api/lease/starting.h"
#include "base/log.h"
#include "store/store.h"
#include "vmm/vmm.h"

struct journal;

enum lease_service_limits {
    LEASE_FIRST_GENERATION = 1, /* of a row as it is reserved, and answered */
};

/**
 * struct lease_service - What the use cases work with
 * @gate: held for reading while @vmm is used, for writing while it is put in or taken out
 * @vmm:  NULL before lease_service_attach() and after lease_service_detach()
 * @journal: writes what machines do; NULL before journal_start(). Not owned
 * @starting: leases that have a row and whose machine is not asked for yet
 * @policy_turn: held while a lease's policy is replaced: see lease_policy.h
 * @tunnel_timeout_ms: for a tunnel to come up, 0 without end; the owner sets both after lease_service_init()
 * @resolvers: of guests that install online; set by the owner as well
 * @tunnel_lost_ms:    of a consumer's silence, 0 without end
 * @expiring_lead_s:   of the warning before a lease's end; as the two before
 * @keep_machines:     machines outlive the daemon, so that lease_recover() can take them over; as the three before
 * @watch:             waits for the leases' time limits; NULL after a failed lease_service_init()
 * @boot_id:           of this boot, "" where there is none
 *
 * Owner: main(); the store and the log outlive it.
 */
struct lease_service {
    struct store *store;
    const struct log *log;
    struct store_resources capacity;
    pthread_rwlock_t gate;
    struct vmm *vmm;
    struct journal *journal;
    struct starting starting;
    pthread_mutex_t policy_turn;
    uint32_t tunnel_timeout_ms;
    uint32_t tunnel_lost_ms;
    size_t resolver_count;
    uint32_t resolvers[VMM_RESOLVERS_MAX];
    uint32_t expiring_lead_s;
    bool keep_machines;
    struct lease_watch *watch;
    char boot_id[ID_TEXT_BYTES];
};

/**
 * lease_service_init() - Begin without machines
 * Return: 0; negative when the thread that waits for time limits cannot be started; lease_service_done() in any case
 * Thread: the owner
 */
int lease_service_init(struct lease_service *service, struct store *store, const struct log *log,
                       const struct store_resources *capacity, struct error *err);

/** lease_service_done() - End it, detached. Thread: the owner */
void lease_service_done(struct lease_service *service);

/** lease_service_attach() - Take leases from now on. @vmm: not owned. Thread: the owner */
void lease_service_attach(struct lease_service *service, struct vmm *vmm);

/**
 * lease_service_detach() - Take no further lease; returns once no handler uses the vmm any more
 * Return: the vmm, for vmm_close(); NULL when there was none
 * Thread: the owner
 */
struct vmm *lease_service_detach(struct lease_service *service);

/** struct lease_once - A request that is done once: its idempotency key and the hash by which it is known again. */
struct lease_once {
    const char *key;
    uint8_t request_hash[STORE_REQUEST_HASH_BYTES];
};

/**
 * lease_service_create() - Admit a lease and ask for its machine
 * @once:      or NULL. Its key is kept with the answer, encode_lease() of @ret_lease
 * @ret_lease: the row as it was reserved
 * Return:     0; what store_lease_reserve_once() says; -ESHUTDOWN; what vmm_start() says, and the row has ended then
 * Thread:     any; never waits for the machine
 */
int lease_service_create(struct lease_service *service, const struct lease_request *request,
                         const struct lease_once *once, struct store_lease *ret_lease, struct error *err);

/**
 * lease_service_try() - Whether lease_service_create() would admit a lease now; nothing changes
 * @ret_lease: the row as it would be reserved; its id and the VM's key and address are made up
 * Return:     0; what store_lease_try() says; -ESHUTDOWN
 * Thread:     any
 */
int lease_service_try(struct lease_service *service, const struct lease_request *request, struct store_lease *ret_lease,
                      struct error *err);

/**
 * lease_service_release() - Ask for a lease's end; one that has no machine any more is ended here
 * @ret_lease: the row as it is now; final when the lease had ended before
 * Return:     0; -ENOENT, -ENOMEM, -ESHUTDOWN
 * Thread:     any; never waits for the machine
 */
int lease_service_release(struct lease_service *service, const char *id, struct store_lease *ret_lease,
                          struct error *err);

/**
 * lease_service_renew() - Let a lease end @ttl_s from now, sooner or later than it would have
 * @ret_lease: the row as it is now
 * Return:     0; -ENOENT; -EALREADY with slug "lease-ended" when it has ended or is ending; what the store says
 * Thread:     any
 */
int lease_service_renew(struct lease_service *service, const struct id *id, uint64_t ttl_s,
                        struct store_lease *ret_lease, struct error *err);

/**
 * lease_service_heartbeat() - Whoever asked for the lease is still there. Nothing is written
 * Return: 0; -ENOENT; -EALREADY with slug "lease-ended"; -ENODATA with slug "heartbeat-not-watched"
 * Thread: any
 */
int lease_service_heartbeat(struct lease_service *service, const struct id *id, struct error *err);

/**
 * lease_service_stop() - Have a lease's machine stopped; a lease without a machine is ended here, unless its end is on its
 *                        way to the store
 * Return: 0 when its end is on its way; 1 when it was ended here; what the store says of a row that had to be ended
 * Thread: any, with the gate held for reading and machines there
 */
int lease_service_stop(struct lease_service *service, const struct id *id, enum vmm_end end, struct error *err);

/** lease_service_ended() - Nothing of a lease's machine is left; its time limits are over. Thread: any */
void lease_service_ended(struct lease_service *service, const struct id *id);

/** lease_service_stats() - Counters of a lease's NAT. Return: 0; -ENOENT without a machine; -ESHUTDOWN. Thread: any */
int lease_service_stats(struct lease_service *service, const struct id *id, struct nat_stats *ret_stats);

/** lease_service_kernel_filter() - Of a lease's NAT; unsupported where there is none. Thread: any */
enum nat_kernel_filter lease_service_kernel_filter(struct lease_service *service, const struct id *id);

/** lease_service_flows() - Open flows of a lease's NAT. Return: their number, or as lease_service_stats(). Thread: any */
int lease_service_flows(struct lease_service *service, const struct id *id,
                        struct nat_flow ret_flows[static NAT_FLOWS_MAX]);

/**
 * lease_service_console_live() - Newest bytes of the console of a lease's machine
 * @ret_bytes:  NULL with a @capacity of 0; then @ret_offset is the position of the next byte to come
 * @ret_offset: position of the first returned byte
 * Return:      number of bytes; -ENOENT without a machine
 * Thread:      any
 */
int64_t lease_service_console_live(struct lease_service *service, const struct id *id, uint8_t *ret_bytes,
                                   size_t capacity, uint64_t *ret_offset);

/**
 * lease_service_console() - Newest bytes of a lease's console, of its machine or as kept when it ended
 * Return: number of bytes (0 before the first), or negative
 * Thread: any
 */
int64_t lease_service_console(struct lease_service *service, const struct id *id, uint8_t *ret_bytes, size_t capacity,
                              uint64_t *ret_offset, struct error *err);

/** lease_service_noted() - The machine's process is in the store; see vmm_spawn_noted(). Thread: any */
void lease_service_noted(struct lease_service *service, const struct id *id, int64_t pid);

/** lease_service_totals() - As vmm_read_totals(). Return: false while detached. Thread: any */
bool lease_service_totals(struct lease_service *service, struct nat_stats *ret_totals, size_t *ret_machines);

/** lease_service_accel() - The accelerator's finding. Return: false while detached. Thread: any */
bool lease_service_accel(struct lease_service *service, struct vmm_accel *ret_accel);

#endif

/* store/ keeps leases, peers, violations, terminations, events and console tails in one SQLite file.
 *
 * WAL, synchronous=FULL, STRICT tables. One writer connection behind a lock; reads go over a second connection.
 * Each function that changes something is one transaction that also writes the event telling of it. No private key,
 * preshared key or token ever enters here. Times are milliseconds since 1970 (wall clock).
 *
 * Texts are UTF-8 and must fit their field: one that does not is -EINVAL (-EILSEQ when it is not UTF-8) and is never
 * cut; only in details, which are sentences for people, a byte that is not UTF-8 is kept as '?'. Words that are not
 * the API's are -EINVAL. Any function may also return what the disk or another process brings: -ENOSPC, -EIO, -EBUSY,
 * -EROFS, -EUCLEAN, -ENOMEM; nothing has changed then. The newest 100,000 events and the newest 10,000 leases that have
 * ended are kept. Violations go with their lease; evidence is kept for 30 days, of the newest 10,000 violations. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/histogram.h"
#include "base/id.h"
#include "store/lease.h"
#include "store/rows.h"

/* "Structure needs cleaning": Linux has a number for a damaged file, others have not; this one is free there. */
#ifndef EUCLEAN
#define EUCLEAN 1117
#endif

struct store;

/**
 * store_open() - Open or make the database and bring its schema up to date
 * @path:      file in a folder of mode 0700; made with mode 0600
 * @ret_store: owned by the caller until store_close()
 * Return:     0; -EBUSY another process keeps it (it holds flock(2) on "<path>.lock"); -EPROTO a schema newer than this
 *             program, or another program's; -EUCLEAN damaged; -EACCES a file that is not ours alone, or a folder that
 *             others may write to; -ENOSPC, -EIO as the system said. err names the file
 * Thread:     any
 */
int store_open(const char *path, struct store **ret_store, struct error *err);

/** store_close() - Close it. @store: NULL is allowed. Thread: the owner, once nobody else uses it */
void store_close(struct store *store);

/**
 * store_lease_reserve() - Admit a lease: capacity, row, peer and `lease.created` in one transaction
 * @lease:    complete row in state LEASE_PENDING with resources.leases 1; it gets generation 1, and its tunnel waits
 * @capacity: what the machine gives in all; leases that have not ended are counted against it
 * Return:    0; -ENOSPC with slug "insufficient-capacity", everything that is short in the message and the JSON
 *            pointers in the field, separated by spaces (leases have none); -EEXIST with slug "peer-in-use" when a live lease has the same
 *            consumer key and endpoint, or "lease-exists" when the id is taken; -EAGAIN with slug "draining"
 * Thread:    any
 */
int store_lease_reserve(struct store *store, const struct store_lease *lease, const struct store_resources *capacity,
                        struct error *err);

/** struct store_once - What makes a reservation one that is made once. */
struct store_once {
    const char *key;             /* 1 to 255 visible ASCII characters */
    const uint8_t *request_hash; /* STORE_REQUEST_HASH_BYTES that tell the request from others */
    const char *answer;          /* what it is answered with */
};

/**
 * store_lease_reserve_once() - As store_lease_reserve(), and keep the key and the answer in the same transaction
 * Return: as that; -EDQUOT with slug "too-many-keys"; -EEXIST for a key that is there, which store_key_recall() tells
 * Thread: any
 */
int store_lease_reserve_once(struct store *store, const struct store_lease *lease,
                             const struct store_resources *capacity, const struct store_once *once, struct error *err);

/**
 * store_lease_try() - Whether store_lease_reserve() would admit a lease now; nothing changes
 * Return: as that
 * Thread: any
 */
int store_lease_try(struct store *store, const struct store_lease *lease, const struct store_resources *capacity,
                    struct error *err);

/** struct store_answer - What a request was answered with. */
struct store_answer {
    struct id lease_id;
    char body[STORE_ANSWER_BYTES];
};

/**
 * store_key_recall() - What the request with an idempotency key was answered with
 * Return: 0; -ENOENT not used within STORE_KEYS_AGE_S; -EINVAL with slug "idempotency-key-reused" when it was another request
 * Thread: any
 */
int store_key_recall(struct store *store, const char *key, const uint8_t request_hash[static STORE_REQUEST_HASH_BYTES],
                     uint64_t now_ms, struct store_answer *ret_answer, struct error *err);

/** store_key_forget() - The answer was not given after all. Return: 0, also when there is no such key. Thread: any */
int store_key_forget(struct store *store, const char *key, struct error *err);

/** store_capacity_used() - What leases that have not ended take in all. Return: 0 or negative. Thread: any */
int store_capacity_used(struct store *store, struct store_resources *ret_used, struct error *err);

/** store_lease_get() - One lease. Return: 0, -ENOENT with slug "lease-not-found". Thread: any */
int store_lease_get(struct store *store, const char *id, struct store_lease *ret_lease, struct error *err);

/** struct store_filter - Which rows of a list; NULL or 0 leaves a condition out. */
struct store_filter {
    const char *lease_id;
    const char *state;     /* leases only */
    const char *mode;      /* leases only */
    const char *label_key; /* leases only; with the next one: those that have this label */
    const char *label_value;
    const char *after; /* cursor: id of the last row of the page before; an id that is not there (any more) is -EINVAL
                          with slug "cursor-unknown". Events have rules of their own, see store_event_place() */
    uint32_t limit;    /* 1 to STORE_PAGE_MAX */
    bool newest_first; /* the order of making backwards; not for events */
};

typedef int (*store_lease_each)(void *context, const struct store_lease *lease);
typedef int (*store_violation_each)(void *context, const struct store_violation *violation);
typedef int (*store_event_each)(void *context, const struct store_event *event);
typedef int (*store_peer_each)(void *context, const struct store_peer *peer);

/**
 * store_lease_list() - Leases in the order of their making
 * @each:  called for each row, at most @filter->limit times; a non-zero return stops and is returned
 * Return: 0 or negative
 * Thread: any; @each runs under the reader's lock and must not call the store
 */
int store_lease_list(struct store *store, const struct store_filter *filter, store_lease_each each, void *context,
                     struct error *err);

/** store_termination_list() - Leases that have ended, in the order of their making; as store_lease_list(). */
int store_termination_list(struct store *store, const struct store_filter *filter, store_lease_each each, void *context,
                           struct error *err);

/**
 * struct store_change - What changes together with a lease's state
 *
 * NULL and 0 leave a column as it is. Becoming running for the first time sets started_ms; becoming recovering sets
 * policy_observed to 0, because what the daemon before had enforced is gone with it. From recovering to running comes with
 * `recovery.adopted`.
 */
struct store_change {
    enum lease_state to;
    uint64_t at_ms;
    const char *detail; /* state_detail */
    const char *image_digest;
    const char *accelerator;
};

/**
 * store_lease_transition() - Move a lease to another state that is not final, with `lease.state_changed`
 * Return: 0; -ENOENT; -EINVAL with slug "transition-refused" when lease_may_follow() says no (err names both states;
 *         the row is untouched)
 * Thread: any
 */
int store_lease_transition(struct store *store, const char *id, const struct store_change *change, struct error *err);

/** struct store_renewal - A lease's new end; as the fields of struct store_lease. */
struct store_renewal {
    uint64_t at_ms;
    uint64_t ttl_s;
    uint64_t expires_ms;
    uint64_t deadline_ms;
    const char *deadline_boot_id;
};

/**
 * store_lease_renew() - Give a lease another end, with `lease.renewed`
 * Return: 0; -ENOENT; -EALREADY with slug "lease-ended" when it has ended or is stopping
 * Thread: any
 */
int store_lease_renew(struct store *store, const char *id, const struct store_renewal *renewal, struct error *err);

/**
 * store_lease_expiring() - Tell that a lease ends soon (`lease.expiring`); its row stays as it is
 * Return: 0; -ENOENT; -EALREADY when it has ended or is stopping
 * Thread: any
 */
int store_lease_expiring(struct store *store, const char *id, uint64_t at_ms, struct error *err);

/** struct store_process - The hypervisor of a lease: who it is, and what it was started with. */
struct store_process {
    int64_t pid;
    uint64_t start_ticks;
    const char *boot_id;
    const char *accelerator;
};

/**
 * store_lease_spawned() - Note the hypervisor of a lease, without an event; again when it was started again
 * Return: 0, -ENOENT, -EALREADY when it has ended
 * Thread: any
 */
int store_lease_spawned(struct store *store, const char *id, const struct store_process *process, struct error *err);

/**
 * store_lease_release() - Note that a lease was given back, before anybody is told so; without an event
 * Return: 0, also when that was known; -ENOENT; -EALREADY when it has ended
 * Thread: any
 */
int store_lease_release(struct store *store, const char *id, struct error *err);

/** struct store_end - How a lease ended. @console may be NULL; the last STORE_CONSOLE_BYTES of it are kept. */
struct store_end {
    enum lease_reason reason;
    const char *initiated_by;
    const char *detail;
    const char *violation_id; /* or NULL */
    int exit_code;            /* -1: none */
    int signal;
    uint64_t detected_ms;
    uint64_t stopped_ms;
    const uint8_t *console;
    size_t console_bytes;
};

/**
 * store_lease_terminate() - End a lease: final row, console tail and `lease.terminated` in one transaction
 * Return: 0; -ENOENT; -EALREADY when it has ended before (nothing changes)
 * Thread: any
 */
int store_lease_terminate(struct store *store, const char *id, const struct store_end *end, struct error *err);

/**
 * store_lease_policy() - The NAT enforces @generation now (`filter.armed` for the first, else `filter.policy_applied`)
 * Return: 0, also when that was known; -ENOENT; -EALREADY when it has ended; -EINVAL when a newer one is enforced
 * Thread: any
 */
int store_lease_policy(struct store *store, const char *id, uint64_t generation, uint64_t at_ms, struct error *err);

/** struct store_policy - What a running lease's filter shall enforce; the fields are those of struct store_lease. */
struct store_policy {
    uint64_t generation;
    char mode[STORE_WORD_BYTES];
    uint32_t sampling_ppm;
    char on_violation[STORE_WORD_BYTES];
    bool require_wireguard;
    uint64_t egress_bits_per_s;
    uint64_t ingress_bits_per_s;
    uint64_t egress_packets_per_s;
    uint64_t ingress_packets_per_s;
    char allowlist[STORE_ALLOWLIST_BYTES];
    char consumer_endpoint[STORE_ADDRESS_BYTES];
};

/**
 * store_policy_propose() - Note a policy that is to be enforced; policy_desired becomes its generation
 *
 * The lease's row tells what is in force until store_lease_policy() says that this one is, in whose transaction it takes the
 * row's place.
 *
 * Return: 0; -ENOENT; -EALREADY when the lease has ended; -EAGAIN with slug "lease-not-running"; -ESTALE when the generation
 *         does not follow the one in force, or another one is proposed; -EEXIST with slug "peer-in-use"
 * Thread: any
 */
int store_policy_propose(struct store *store, const char *id, const struct store_policy *policy, struct error *err);

/**
 * store_policy_withdraw() - Forget a proposed policy that is not going to be enforced
 * Return: 0, also when it was taken over or withdrawn before; -ENOENT; -EALREADY when the lease has ended
 * Thread: any
 */
int store_policy_withdraw(struct store *store, const char *id, uint64_t generation, struct error *err);

/**
 * store_lease_opened() - An external lease has its socket and its NAT enforces @generation: from pending, or from
 * recovering, to running, each state with its event and `filter.armed`, in one transaction
 * Return: 0; -ENOENT; -EALREADY when it has ended; -EINVAL with slug "transition-refused" when it is not pending
 * Thread: any
 */
int store_lease_opened(struct store *store, const char *id, uint64_t generation, uint64_t at_ms, struct error *err);

/**
 * store_lease_tunnel() - The tunnel's state changed, or there was another handshake
 * @state: "waiting", "handshaking", "established" or "lost"
 * @ports: of an established one
 *
 * A tunnel is up from its first "established" (`tunnel.established`) until it is "lost" or "waiting" (`tunnel.lost`);
 * handshakes in between only set the time of the last one, because WireGuard makes new keys every two minutes.
 *
 * Return: 0, -ENOENT, -EALREADY when the lease has ended
 * Thread: any
 */
int store_lease_tunnel(struct store *store, const char *id, const char *state, struct store_ports ports, uint64_t at_ms,
                       struct error *err);

/**
 * store_violation_record() - Make or update the row of one aggregate
 * @violation: @id is used when (lease_id, serial) is new; else the row's own id stays, count and last_seen_ms grow, and
 *             a verdict "terminated" replaces "dropped"
 * @ret_id:    id of the row; may be NULL
 *
 * A lease has STORE_VIOLATIONS_MAX rows of its own making. What comes beyond them goes to its overflow row of the same
 * code, which is made once if there is none: there each report of a serial without a row counts as one. Every now and
 * then evidence that has become too old or one too many is purged in the same transaction.
 *
 * Return:     0; -ENOENT no such lease. A new row comes with `violation.detected`, an update with no event
 * Thread:     any
 */
int store_violation_record(struct store *store, const struct store_violation *violation, struct id *ret_id,
                           struct error *err);

/**
 * store_violation_record_all() - Several of them in one transaction: all or none
 * @ret_ids: array of @count, of which nothing may be used after a failure
 * Return:   as store_violation_record()
 * Thread:   any
 */
int store_violation_record_all(struct store *store, const struct store_violation *rows, size_t count,
                               struct id *ret_ids, struct error *err);

/**
 * store_violation_serials() - The serials from which another NAT and another reader of the guest's reports may count
 * @guest_first:     the first that a guest's report can have; those of a NAT are below it
 * @ret_next:        0 when the lease has no violation yet
 * @ret_guest_next:  @guest_first when no guest has reported yet
 * Return: 0 or negative
 * Thread: any
 */
int store_violation_serials(struct store *store, const char *lease_id, uint32_t guest_first, uint32_t *ret_next,
                            uint32_t *ret_guest_next, struct error *err);

/** store_evidence_purge() - Purge evidence that is too old at @now_ms or one too many; rows stay. Thread: any */
int store_evidence_purge(struct store *store, uint64_t now_ms, struct error *err);

/**
 * store_violation_stopped() - Note how long it took from a terminating violation's frame to the machine's end
 * Return: 0; -ENOENT with slug "violation-not-found"
 * Thread: any
 */
int store_violation_stopped(struct store *store, const char *id, uint64_t stop_latency_ms, struct error *err);

/**
 * store_lease_exposed() - Note how long an online_install guest's network was open, with a `lease.exposed` event
 * Return: 0, -ENOENT, -EALREADY when the lease has ended
 * Thread: any
 */
int store_lease_exposed(struct store *store, const char *id, uint64_t exposed_ms, uint64_t at_ms, struct error *err);

/** store_violation_get() - One violation. Return: 0, -ENOENT with slug "violation-not-found". Thread: any */
int store_violation_get(struct store *store, const char *id, struct store_violation *ret_violation, struct error *err);

/** store_violation_list() - Violations in the order of their making; as store_lease_list(). */
int store_violation_list(struct store *store, const struct store_filter *filter, store_violation_each each,
                         void *context, struct error *err);

/** store_event_list() - Events after the cursor @filter->after; as store_lease_list(), and as store_event_place(). */
int store_event_list(struct store *store, const struct store_filter *filter, store_event_each each, void *context,
                     struct error *err);

/** store_epoch() - Name of this log of events, STORE_EPOCH_BYTES; made with the database. Thread: any */
const char *store_epoch(const struct store *store);

/** store_cursor_split() - Take "EPOCH-SEQUENCE" apart. Return: false when it is not one. Thread: any */
bool store_cursor_split(const char *text, char ret_epoch[static STORE_EPOCH_BYTES], uint64_t *ret_sequence);

/** struct store_event_bounds - The events that are there; oldest is newest + 1 when there are none. */
struct store_event_bounds {
    uint64_t oldest;
    uint64_t newest;
};

/** store_event_bounds() - Which events are there. Return: 0 or negative. Thread: any */
int store_event_bounds(struct store *store, struct store_event_bounds *ret_bounds, struct error *err);

/**
 * store_event_place() - The sequence of a cursor, if a reader can go on from there and miss nothing
 * Return: 0; -EINVAL with slug "cursor-unknown" for what is no cursor; -ESTALE "events-epoch-changed" when it is another
 *         log's; -ENODATA "events-pruned" when the next event is gone; -ERANGE "events-ahead" when it is past the end.
 *         err says what is there
 * Thread: any
 */
int store_event_place(struct store *store, const char *cursor, uint64_t *ret_sequence, struct error *err);

/** struct store_follow - What a follower asks for: at most @limit events after @after, of one lease or (NULL) of all. */
struct store_follow {
    uint64_t after;
    const char *lease_id;
    uint32_t limit;
};

/**
 * store_event_follow() - The next events of a reader whose place was checked once
 * @ret_bounds: as they were when the rows were read: @follow->after + 1 below the oldest means a gap
 * Return:      0, negative, or what @each returned
 * Thread:      any; as store_lease_list()
 */
int store_event_follow(struct store *store, const struct store_follow *follow, store_event_each each, void *context,
                       struct store_event_bounds *ret_bounds, struct error *err);

/** struct store_drain - Whether new leases are refused; @changed_ms is 0 when it never changed. */
struct store_drain {
    uint64_t generation;
    bool draining;
    uint64_t changed_ms;
};

/** store_drain_get() - Whether the machine is being drained. Return: 0 or negative. Thread: any */
int store_drain_get(struct store *store, struct store_drain *ret_drain, struct error *err);

/**
 * store_drain_set() - Begin or end the draining, with `node.drain_changed`; from then on leases are (not) refused
 * @generation: that the caller decided upon
 * @ret_drain:  as it is now, after -ESTALE too
 * Return:      0, also when there is nothing to change; -ESTALE with slug "precondition-failed" for another generation
 * Thread:      any
 */
int store_drain_set(struct store *store, uint64_t generation, bool draining, uint64_t at_ms,
                    struct store_drain *ret_drain, struct error *err);

/**
 * store_on_event() - Be told when events have been committed
 * @notify: called by the thread that committed, without any lock of the store; must return at once
 * Thread:  the owner, before other threads use the store
 */
void store_on_event(struct store *store, void (*notify)(void *context), void *context);

/**
 * store_event_append() - An event that no row change brings, as `image.rejected`
 * @lease_id: or NULL
 * @data:     JSON object
 * Return:    0; -EINVAL when @type is no "subject.verb" of lower-case letters or @data is no JSON object
 * Thread:    any
 */
int store_event_append(struct store *store, const char *type, const char *lease_id, const char *data, uint64_t at_ms,
                       struct error *err);

/** store_peer_list() - Peers of all leases, newest last; cursor is the lease's id; as store_lease_list(). */
int store_peer_list(struct store *store, const struct store_filter *filter, store_peer_each each, void *context,
                    struct error *err);

/** store_peer_get() - The newest peer with this public key (base64). Return: 0, -ENOENT with slug "peer-not-found". */
int store_peer_get(struct store *store, const char *public_key, struct store_peer *ret_peer, struct error *err);

/**
 * store_console_get() - Console tail of a lease that has ended
 * @ret_bytes: up to @capacity bytes; its newest ones when there are more
 * Return:     number of bytes, -ENOENT
 * Thread:     any
 */
int64_t store_console_get(struct store *store, const char *lease_id, uint8_t *ret_bytes, size_t capacity,
                          struct error *err);

/**
 * struct store_number - One number for a monitor
 * @subject: "leases": rows of the state @label and @mode, ended ones that are kept too. "tunnels": of leases that have
 *           not ended, in the state @label. "terminations", "violations": by the reason or code @label, ever; never less
 *           than before. "events": the newest sequence
 */
struct store_number {
    char subject[STORE_WORD_BYTES];
    char label[STORE_WORD_BYTES];
    char mode[STORE_WORD_BYTES];
    uint64_t value;
};

typedef int (*store_number_each)(void *context, const struct store_number *number);

/**
 * store_census() - Every number, as of one moment
 * @each:  as of store_lease_list(); what has no rows is not told
 * Return: 0 or negative
 * Thread: any
 */
int store_census(struct store *store, store_number_each each, void *context, struct error *err);

/** store_commit_times() - How long commits took since store_open(). Thread: any */
void store_commit_times(const struct store *store, struct histogram_view *ret_view);

/** store_failure_passes() - Whether a failure is the disk's or another process's, so that the same call may work later.
 *  Thread: any */
bool store_failure_passes(int code);

/** store_check() - Whether the database still answers (a one-row write transaction that is rolled back). For readyz. */
int store_check(struct store *store, struct error *err);

#endif

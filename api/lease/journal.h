/* Between the machines and the store: what machines do is taken in at once and written by a thread of its own, so that
 * neither a slow disk nor another process that holds the database ever keeps the supervisor from its machines.
 *
 * What cannot be written now is kept, in its order, and tried again until it is; a lease whose machine has ended is
 * therefore ended in the store too, however long that takes. What a guest can bring about is held together: of a
 * violation only what was told last is kept, all that waits is written in one transaction, and a lease has at most
 * eight of those a second. */
#ifndef API_LEASE_JOURNAL_H
#define API_LEASE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "api/lease/lease_service.h"

enum journal_limits {
    JOURNAL_GAP_MS = 125,   /* between two transactions for what a guest can bring about: eight a second a lease */
    JOURNAL_RETRY_MS = 100, /* after a failed write; doubled each time ... */
    JOURNAL_RETRY_MOST_MS = 4000, /* ... up to this */
    JOURNAL_PURGE_MS = 3600000,   /* evidence that has become too old is looked for */
    JOURNAL_LAST_MS = 10000,      /* at the end of the daemon, for what is not written yet */
    JOURNAL_TUNNEL_MAX = 8,       /* changes of one tunnel that wait */
    JOURNAL_SIGHTINGS_MAX = 256,  /* of one lease at a time; a NAT and a guest's firewall have 215 kinds */
};

struct journal;

/**
 * journal_start() - Start the thread
 * @service:     outlives the journal; its journal is set to this one
 * @ret_journal: owned by the caller until journal_stop()
 * Return:       0, -ENOMEM, or what the system said
 * Thread:       the service's owner, before there are machines
 */
int journal_start(struct lease_service *service, struct journal **ret_journal, struct error *err);

/**
 * journal_stop() - Write what waits, within JOURNAL_LAST_MS, and end the thread; what is left is said in the log
 * @journal: NULL is allowed
 * Thread:   the service's owner, when there are no more machines
 */
void journal_stop(struct journal *journal);

/**
 * journal_event() - Take in one step of one machine; the vmm_config's on_event
 * @context: struct journal
 * Thread:   the supervisor's. Never waits for the store
 */
void journal_event(void *context, const struct vmm_event *event);

/** journal_holds() - Whether something of this lease is not written yet. Thread: any */
bool journal_holds(struct journal *journal, const struct id *lease_id);

/** journal_waiting() - How many steps and violations are not written yet. Thread: any */
size_t journal_waiting(struct journal *journal);

#endif

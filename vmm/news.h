/* What comes in from a machine: from its hypervisor, its console, its NAT. Every function runs on the supervisor's thread,
 * with the vmm's lock not held. */
#ifndef VMM_NEWS_H
#define VMM_NEWS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine.h"
#include "vmm/supervisor.h"

enum news_limits {
    NEWS_GUEST_REPORTS_MAX = 8, /* told at a time */
};

/**
 * news_sweep() - Take in what every NAT has reported, and kill at once what has to end for it
 *
 * Telling of an event may wait for a disk. A machine that has broken its promise must not live on for that time, so this
 * runs before and between events, and does nothing slow.
 */
void news_sweep(struct vmm *vmm);

/** news_take_in() - The same for one machine. */
void news_take_in(struct machine *machine);

/** news_report() - Tell of what its NAT has reported and act on it, a bounded amount. */
void news_report(struct vmm *vmm, struct machine *machine);

/** news_report_waits() - Whether a report was taken in that was not told of yet. */
bool news_report_waits(const struct machine *machine);

/** news_console() - The console has something. */
void news_console(struct vmm *vmm, struct machine *machine);

/** news_guest_reports() - Tell of what guests' firewalls said and is due, a bounded amount. @now_ms: monotonic */
void news_guest_reports(struct vmm *vmm, struct machine *machine, uint64_t now_ms);

/** news_qmp() - The hypervisor has said something. */
void news_qmp(struct vmm *vmm, struct machine *machine);

/** news_line() - Direct mode's launcher has said something: the hypervisor begins, or its namespace could not be made. */
void news_line(struct vmm *vmm, struct machine *machine);

/** news_last_words() - Take in all that a process left behind that has ended. */
void news_last_words(struct vmm *vmm, struct machine *machine);

/** news_last_reports() - Tell of all that its NAT, and its guest's firewall, have said so far. */
void news_last_reports(struct vmm *vmm, struct machine *machine);

#endif

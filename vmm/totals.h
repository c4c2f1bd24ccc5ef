/* Sums over the NATs of all machines, which never fall when a machine ends. */
#ifndef VMM_TOTALS_H
#define VMM_TOTALS_H

#include "vmm/machine.h"
#include "vmm/supervisor.h"

/** totals_keep() - Stop a machine's NAT, if it has one, and keep its counters. Thread: the supervisor's */
void totals_keep(struct vmm *vmm, struct machine *machine);

#endif

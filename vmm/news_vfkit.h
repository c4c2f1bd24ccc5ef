/* What comes in from vfkit, which says nothing by itself: its machine's state is asked for, and its console is looked at. Every
 * function runs on the supervisor's thread, with the vmm's lock not held. */
#ifndef VMM_NEWS_VFKIT_H
#define VMM_NEWS_VFKIT_H

#include <stdint.h>

#include "vmm/machine.h"
#include "vmm/supervisor.h"

enum news_vfkit_limits {
    NEWS_VFKIT_LOOK_MS = 100, /* at the console; at the state too until the machine runs */
    NEWS_VFKIT_ASK_MS = 1000, /* for the state of one that runs: its end shows in its process at once */
};

/** news_vfkit_look() - Read the console, and ask for the state when that is due. @now_ms: monotonic */
void news_vfkit_look(struct vmm *vmm, struct machine *machine, uint64_t now_ms);

/** news_vfkit_hear() - The control interface has answered. */
void news_vfkit_hear(struct vmm *vmm, struct machine *machine);

#endif

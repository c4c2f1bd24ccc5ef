/* What happens to a machine and when: its states, its timers, the cause of its end. Every function runs on the
 * supervisor's thread, with the vmm's lock not held. */
#ifndef VMM_LIFECYCLE_H
#define VMM_LIFECYCLE_H

#include <stdint.h>

#include "vmm/machine.h"
#include "vmm/supervisor.h"

enum lifecycle_limits {
    LIFECYCLE_QUIT_MS = 2000, /* for a hypervisor to end after quit, or after its guest has ended */
    LIFECYCLE_KILL_MS = 5000, /* a killed process that is there so long is worth a line in the log */
};

/** lifecycle_prepared() - The preparer is through: start the hypervisor. Thread: the supervisor's */
void lifecycle_prepared(struct vmm *vmm, struct machine *machine);

/** lifecycle_noted() - The process @pid is written down: let it become the hypervisor. Thread: the supervisor's */
void lifecycle_noted(struct vmm *vmm, struct machine *machine, int64_t pid);

/** lifecycle_started() - It is the hypervisor now, or cannot be. Thread: the supervisor's */
void lifecycle_started(struct vmm *vmm, struct machine *machine);

/** lifecycle_leave() - Let go of a machine that outlives the daemon, if it can be adopted; else end it for good.
 *  Thread: the supervisor's */
void lifecycle_leave(struct vmm *vmm, struct machine *machine);

/** lifecycle_stop() - End a machine because somebody wants it; @end: VMM_END_ASKED or VMM_END_SHUTDOWN.
 *  Thread: the supervisor's */
void lifecycle_stop(struct vmm *vmm, struct machine *machine, enum vmm_end end);

/** lifecycle_tick() - Act on the timers that have run out. @now_ms: monotonic. Thread: the supervisor's */
void lifecycle_tick(struct vmm *vmm, struct machine *machine, uint64_t now_ms);

/** lifecycle_next_ms() - When lifecycle_tick() has something to do; UINT64_MAX never. Thread: the supervisor's */
uint64_t lifecycle_next_ms(const struct machine *machine);

/** lifecycle_ready() - The hypervisor takes commands: post the policy. Thread: the supervisor's */
void lifecycle_ready(struct vmm *vmm, struct machine *machine);

/** lifecycle_note_spawned() - Tell that the hypervisor's process is there. Thread: the supervisor's */
void lifecycle_note_spawned(struct vmm *vmm, const struct machine *machine, pid_t pid, uint64_t start_ticks);

/** lifecycle_note_running() - It runs, if the newest policy is enforced too. Thread: the supervisor's */
void lifecycle_note_running(struct vmm *vmm, struct machine *machine);

/** lifecycle_note_alive() - The guest has shown a sign of life. Thread: the supervisor's */
void lifecycle_note_alive(struct machine *machine);

/**
 * lifecycle_end() - Begin to end a machine; the first cause is the one that is told
 * @step:   how hard to begin
 * @detail: one sentence, or ""
 * Thread:  the supervisor's
 */
void lifecycle_end(struct vmm *vmm, struct machine *machine, enum vmm_end end, enum machine_step step,
                   const char *detail);

/** lifecycle_tell() - Tell the owner of the vmm of a step; may take a while. Thread: the supervisor's */
void lifecycle_tell(struct vmm *vmm, const struct machine *machine, struct vmm_event *event);

/** lifecycle_wall_of() - Wall clock time of a monotonic one. Thread: any */
uint64_t lifecycle_wall_of(uint64_t monotonic_ms);

/** lifecycle_child() - The hypervisor's process may have ended. Thread: the supervisor's */
void lifecycle_child(struct vmm *vmm, struct machine *machine);

/** lifecycle_clear() - Give up everything of a MACHINE_FINISHED one; of a MACHINE_LEFT one what is the daemon's. Thread: the supervisor's */
void lifecycle_clear(struct vmm *vmm, struct machine *machine);

/** lifecycle_ended() - Tell that nothing of the machine is left. Thread: the supervisor's */
void lifecycle_ended(struct vmm *vmm, struct machine *machine);

#endif

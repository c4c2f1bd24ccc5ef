/* One thread that owns every machine: it polls all their descriptors, keeps their timers, and acts on what other threads
 * have asked for. A second thread, the preparer, does what takes longer than a moment: the accelerator's trial, digests
 * of images, seed volumes; one at a time, in the order of their starts. */
#ifndef VMM_SUPERVISOR_H
#define VMM_SUPERVISOR_H

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "vmm/direct_keeper.h"
#include "vmm/image.h"
#include "vmm/machine.h"
#include "vmm/own_keeper.h"
#include "vmm/vmm.h"

enum supervisor_limits {
    SUPERVISOR_POLLS_PER_MACHINE = 7, /* at most; only descriptors that are there are polled */
    SUPERVISOR_POLLS_OWN = 2,         /* the wake-up, and changes of the provider's own addresses */
};

/**
 * struct vmm - All machines
 * @config:  its strings point to copies in @places and below
 * @lock:    guards @closing to @ended, and in each machine stop_asked, noted_pid, preparation and the changes of nat.
 *           Never held while the caller's on_event runs
 * @work:    signalled when the preparer has something to do
 * @keeper:  of direct machines' own addresses; NULL until the first of them. The supervisor's thread
 * @machines_max: length of the lists below, constant
 * @served, @served_count, @polled, @polls: the supervisor's thread only; the first @served_count machines are there.
 *           @polled has a bit for each descriptor of a machine that stands in @polls, in their order
 *
 * Owner: whoever called vmm_open().
 */
struct vmm {
    struct vmm_config config;
    struct machine_places places;
    char cache_dir[VMM_PATH_BYTES];
    char kvm_device[VMM_PATH_BYTES];
    size_t machines_max;
    int runtime_fd; /* holds the lock that keeps a second daemon out */
    int wake_read_fd;
    int wake_write_fd;
    pthread_t supervisor;
    pthread_t preparer;

    pthread_mutex_t lock;
    pthread_cond_t work;
    bool closing;       /* no more machines; those that are there end */
    bool leaving;       /* ... but for those that outlive the daemon */
    bool preparer_ends; /* set when the last machine is gone */
    struct vmm_accel accel;
    struct machine **machines; /* oldest first */
    size_t machine_count;
    struct id told;         /* the machine whose end is being told, "" when there is none; it is in no list any more */
    struct nat_stats ended; /* sums over the NATs that are no more */

    struct image_cache cache; /* the preparer's */
    struct direct_keeper *keeper;
    struct own_keeper own_keeper; /* of sampled machines' */
    struct machine **served;
    size_t served_count;
    uint8_t *polled;
    struct pollfd *polls;
};

/**
 * supervisor_start() - Start both threads
 * Return: 0 or negative
 * Thread: the vmm's owner
 */
int supervisor_start(struct vmm *vmm, struct error *err);

/** supervisor_stop() - End every machine, then both threads; waits for it.
 *  @leave: machines that outlive the daemon are let go instead. Thread: the vmm's owner */
void supervisor_stop(struct vmm *vmm, bool leave);

/** supervisor_find() - The machine of this id, or NULL. Thread: any, holding the vmm's lock */
struct machine *supervisor_find(const struct vmm *vmm, const struct id *id);

/** supervisor_wake() - Have the supervisor look at what was asked for. Thread: any */
void supervisor_wake(const struct vmm *vmm);

#endif

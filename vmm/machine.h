/* What one machine owns, and how each part is made and given up. When and why is decided in lifecycle.c.
 *
 * A start goes image, folder, seed, disks (on the preparer's thread), cable, NAT, hypervisor (on the supervisor's); the
 * end goes backwards. In direct mode there is neither cable nor NAT; an external machine has a NAT alone, at a socket. */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "nat/nat.h"
#include "vmm/attachment.h"
#include "vmm/child.h"
#include "vmm/console.h"
#include "vmm/console_file.h"
#include "vmm/direct.h"
#include "vmm/guest_report.h"
#include "vmm/image.h"
#include "vmm/qmp.h"
#include "vmm/rest.h"
#include "vmm/tunnel_watch.h"
#include "vmm/vmm.h"

enum machine_limits {
    MACHINE_LINK_MTU = NAT_MTU_MAX,
    MACHINE_CONSOLE_READ_BYTES = 4096,
    MACHINE_CONSOLE_READS_MAX = 16, /* a guest that floods its console does not keep the supervisor */
    MACHINE_INBOX_MAX = 16,         /* reports taken in before they are told of; the rest waits in the socket */
};

/** enum machine_state - Where a machine stands. Only the supervisor's thread changes or reads it. */
enum machine_state {
    MACHINE_PREPARING, /* waits for the preparer, or is with it */
    MACHINE_STARTING,  /* the hypervisor runs; it has not answered, or the NAT does not enforce the policy yet */
    MACHINE_RUNNING,
    MACHINE_STOPPING, /* why it ends is known; nothing is forwarded any more */
    MACHINE_FINISHED, /* no process is left; the rest is cleared away next */
    MACHINE_LEFT,     /* the daemon goes and it stays: what is ours of it is cleared away next */
};

/** enum machine_preparation - Who has the machine's preparation. Guarded by the vmm's lock. */
enum machine_preparation { MACHINE_PREPARATION_WAITS, MACHINE_PREPARATION_TAKEN, MACHINE_PREPARATION_OVER };

/** enum machine_step - How hard the hypervisor has been asked to end. */
enum machine_step { MACHINE_STEP_POWERDOWN, MACHINE_STEP_QUIT, MACHINE_STEP_KILL };

/** struct machine_orders - What other threads have asked of a machine. Owner: the machine. */
struct machine_orders {
    bool stop;
    enum vmm_end end;
    int64_t noted_pid;
};

struct hypervisor;

/** struct machine_places - Where a machine's parts are made. Owner: the vmm; constant once it is open. */
struct machine_places {
    char image_dir[VMM_PATH_BYTES];
    char runtime_dir[VMM_PATH_BYTES];
    char disk_dir[VMM_PATH_BYTES];
    char packages_dir[VMM_PATH_BYTES]; /* "": there is none */
    const struct hypervisor *hypervisor;
    char program[VMM_PATH_BYTES];        /* the hypervisor's */
    bool allow_private;                  /* direct: private ranges are reachable */
    uint32_t flows_max;                  /* of one machine; 0: as many as a NAT has */
    bool keep_machines;                  /* they outlive the daemon */
    enum nat_framing attachment;         /* of machines that do not */
    int machines_fd;                     /* the folder that holds one folder a machine */
    struct nat_confinement *confinement; /* of all NATs */
};

/**
 * struct machine - One machine
 * @spec:         in locked memory; its secrets are wiped once the seed volume holds them
 * @outlives:     the hypervisor lives on without its daemon: names in its folder take the place of connections
 * @adopted:      an earlier daemon started it
 * @serial, @guest_serial: added to what NAT and guest reports count from zero
 * @stop_asked, @stop_end: guarded by the vmm's lock; that it shall end, and with what cause
 * @seen:         what the supervisor's thread has last read of orders
 * @noted_pid:    guarded by the vmm's lock. The process that may become the hypervisor; 0: none yet
 * @preparation:  guarded by the vmm's lock. While it is TAKEN the preparer owns what machine_prepare() fills
 * @cancelled:    set once a preparation has become useless
 * @nat:          changed under the vmm's lock, because the API's threads read its counters
 * @accel:        what the hypervisor was started with
 * @prepared:     lifecycle_prepared() has been told
 * @policy_posted: the NAT was given its policy
 * @enforced:     generation of the policy in force; 0: none
 * @told_running: VMM_EVENT_RUNNING has been sent
 * @retry:        killed by the boot watchdog; starts again with tcg when the process is gone
 * @start_by_ms, @watchdog_ms, @gone_by_ms, @look_ms, @step_ms: monotonic; 0 is a timer that does not run
 * @look_ms:      of a hypervisor that does not say everything by itself: when to look again
 * @ask_ms:       monotonic; when to ask such a one for its state next
 * @runs:         and whether it said that it runs
 * @gone_by_ms:   the hypervisor closed QMP, so its process has to end by then
 * @line, @guest_reports: the console's line as it comes in, and what such lines said
 * @child:        the hypervisor; in direct mode the guard, which ends last
 * @direct:       the hypervisor in direct mode
 * @console_name: of the file in its folder that is its console; NULL: @console_fd is that
 * @running_ms:   monotonic; when VMM_EVENT_RUNNING was told, 0 before
 * @told_exposed: VMM_EVENT_EXPOSED has been sent
 * @inbox:        reports of the NAT, oldest first, that were taken in and not told of yet
 * @condemned:    its NAT has seen a terminating violation: the process has been killed for it
 * @told_condemned: and that has been told
 * @violation:    that violation
 * @gone_ms:      monotonic; when a condemned process was first seen to be gone
 *
 * @seed_fd, @disk_fd, @overlay_fd: of files without a name; with struct hypervisor's by_name they have one in its folder, or in
 *                disk_dir, until the machine has ended
 *
 * Owner: the supervisor's thread, unless said otherwise above.
 */
struct machine {
    struct vmm_spec *spec;
    bool outlives;
    bool adopted;
    uint32_t serial;
    uint32_t guest_serial;
    bool stop_asked;
    enum vmm_end stop_end;
    int64_t noted_pid;
    struct machine_orders seen;
    enum machine_preparation preparation;
    _Atomic bool cancelled;

    struct error prepare_error;
    struct image_files image;
    int folder_fd;
    int seed_fd;
    int disk_fd;
    int overlay_fd;

    struct attachment attachment;
    struct nat *nat;
    int report_fd;
    struct child child;
    struct direct direct;
    struct qmp qmp;
    struct rest rest;
    int console_fd;
    const char *console_name;
    struct console_file console_file;
    struct console console;
    struct console_line line;
    struct guest_reports guest_reports;
    struct tunnel_watch tunnel;

    size_t inbox_count;
    struct nat_report inbox[MACHINE_INBOX_MAX];
    bool condemned;
    bool told_condemned;
    struct nat_violation violation;
    uint64_t gone_ms;

    enum machine_state state;
    bool prepared;
    bool policy_posted;
    struct vmm_accel accel;
    uint64_t enforced;
    bool told_running;
    bool told_exposed;
    uint64_t running_ms;
    bool retry;
    bool runs;
    uint64_t start_by_ms;
    uint64_t watchdog_ms;
    uint64_t gone_by_ms;
    uint64_t look_ms;
    uint64_t ask_ms;
    uint64_t step_ms;
    enum machine_step step;

    enum vmm_end end;
    struct child_exit exit;
    uint64_t detected_ms; /* wall clock */
    char detail[VMM_DETAIL_BYTES];
};

/**
 * machine_create() - A machine that owns nothing but its specification
 * @spec:   copied
 * Return:  NULL when there is no memory
 * Thread:  any
 */
struct machine *machine_create(const struct vmm_spec *spec);

/** machine_free() - The opposite of machine_create(); machine_release() comes first. Thread: the machine's owner */
void machine_free(struct machine *machine);

/**
 * machine_prepare() - Verify the image, make folder, seed volume and disk, wipe the secrets
 * @cache:  digests compared before
 * Return:  0 or negative, the cause being in the machine's prepare_error
 * Thread:  the preparer's, which owns the machine until it says that this is over
 */
int machine_prepare(struct machine *machine, const struct machine_places *places, struct image_cache *cache);

/**
 * machine_attach() - Lay the cable and start the NAT at its end, with its gate shut
 *
 * The cable is a pair of sockets; a socket with a name for an external machine, whose folder is made for it, and for one
 * that outlives the daemon. An adopted one is connected to at once.
 *
 * @ret_nat: for the caller to store under its lock
 * Return:   0 or negative; what was made is given up by machine_release()
 * Thread:   the supervisor's
 */
int machine_attach(struct machine *machine, const struct machine_places *places, struct nat **ret_nat,
                   struct error *err);

/**
 * machine_adopt() - Come back to the folder, the console and the QMP of a hypervisor that an earlier daemon started
 *
 * The process itself is the machine's child already. Whether it is at the other end is known once it has answered.
 *
 * Return: 0 or negative
 * Thread: the supervisor's
 */
int machine_adopt(struct machine *machine, const struct machine_places *places, struct error *err);

/**
 * machine_spawn() - Make the hypervisor's process, which waits for machine_release_child(); in direct mode start it
 * A second time after its process was reaped.
 * @accel:  what to start it with
 * Return:  0 or negative
 * Thread:  the supervisor's: the hypervisor dies with the thread
 */
int machine_spawn(struct machine *machine, const struct machine_places *places, const struct vmm_accel *accel,
                  struct error *err);

/** machine_release_child() - Let the process that machine_spawn() made become the hypervisor; returns at once. Return: 0 or
 *  negative errno. Thread: the supervisor's */
int machine_release_child(struct machine *machine, struct error *err);

/** machine_started() - See what came of that. Return: as child_started(). Thread: the supervisor's */
int machine_started(struct machine *machine, const struct machine_places *places, struct error *err);

/** machine_socket_path() - Where an external machine's NAT listens. Return: as vmm_socket_path(). Thread: any */
int machine_socket_path(const struct machine_places *places, const struct id *id, char ret_path[static VMM_PATH_BYTES],
                        struct error *err);

/**
 * machine_complete_policy() - Fill in what the machine knows: an empty allowlist, what the VM calls a consumer that has moved,
 * and the provider's own addresses, to which no packet may go in any case
 * Return: 0 or negative
 * Thread: any; the machine's spec is constant
 */
int machine_complete_policy(const struct machine *machine, struct nat_policy *policy, struct error *err);

/** machine_kill() - SIGKILL to whatever processes it has. Thread: the supervisor's */
void machine_kill(const struct machine *machine);

/** machine_reap() - See whether all of them have ended. Return: true once; fills the machine's exit. Thread: the supervisor's */
bool machine_reap(struct machine *machine);

/** machine_settle() - Close what only a second machine_spawn() would need. Thread: the supervisor's */
void machine_settle(struct machine *machine);

/**
 * machine_read_console() - Keep what the console has printed since, a bounded amount, and count its packet log lines
 * @ret_ready: set when the image's ready line was among it, else untouched
 * Return:     number of bytes
 * Thread:     the supervisor's
 */
size_t machine_read_console(struct machine *machine, bool *ret_ready);

/**
 * machine_leave() - Give up what is the daemon's of a machine that lives on: nothing is killed, no file is removed
 * The caller has taken the NAT out before.
 * Thread: the supervisor's
 */
void machine_leave(struct machine *machine);

/**
 * machine_release() - Give up everything but the console's bytes: process, files, folder
 * The caller has taken the NAT out before.
 * Thread: the supervisor's
 */
void machine_release(struct machine *machine, const struct machine_places *places);

/** machine_framing() - How frames lie on its cable. Thread: any */
enum nat_framing machine_framing(const struct machine *machine, const struct machine_places *places);

/**
 * machine_remove_folder() - Remove a machine's folder with the files in it
 * Return: 0, also when it is not there; negative when something is left
 * Thread: any
 */
int machine_remove_folder(int machines_fd, const char *name);

/* ---- what differs by hypervisor; as struct hypervisor says ---- */

int machine_qemu_spawn(struct machine *machine, const struct machine_places *places, const struct vmm_accel *accel,
                       struct error *err);
bool machine_qemu_answers(const struct machine *machine);
int machine_qemu_ask_to_end(struct machine *machine, const struct machine_places *places, enum machine_step step);

int machine_vfkit_spawn(struct machine *machine, const struct machine_places *places, const struct vmm_accel *accel,
                        struct error *err);
bool machine_vfkit_answers(const struct machine *machine);
int machine_vfkit_ask_to_end(struct machine *machine, const struct machine_places *places, enum machine_step step);

#endif

/* vmm/ starts and stops machines. One supervisor thread owns every machine: its hypervisor process, its attachment, its
 * NAT, its seed volume. Callers post commands and are told of each step through one callback. */
#ifndef VMM_VMM_H
#define VMM_VMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/id.h"
#include "base/log.h"
#include "nat/nat.h"

enum vmm_limits {
    VMM_MACHINES_MAX = 4096,      /* a thread each; all their descriptors are polled in one list */
    VMM_MACHINE_DESCRIPTORS = 12, /* that one machine may have open while it runs, beside the sockets of its flows */
    VMM_RESOLVERS_MAX = 3,        /* as resolv.conf(5) */
    VMM_OVERHEAD_MIB = 128, /* of a hypervisor beyond its guest's memory: translated code 64, the rest 42 as measured */
    VMM_KEY_BYTES = 32,
    VMM_KEY_TEXT_BYTES = 45, /* base64 and the NUL */
    VMM_NAME_BYTES = 65,     /* image name */
    VMM_PATH_BYTES = 512,
    VMM_SSH_KEYS_MAX = 16,     /* per lease */
    VMM_SSH_KEY_BYTES = 1024,  /* a 4096-bit RSA key takes 740 */
    VMM_USER_BYTES = 33,       /* useradd's limit is 32 */
    VMM_DIGEST_BYTES = 65,     /* SHA-256 in hexadecimal and the NUL */
    VMM_CONSOLE_BYTES = 65536, /* the newest bytes of a machine's console that are kept */
    VMM_DETAIL_BYTES = 320,
    VMM_POLICY_WAIT_MS = 1000,       /* a NAT takes its policy within microseconds; this is for a busy machine */
    VMM_GUEST_SERIAL_FIRST = 100000, /* a NAT's serials are below 1,000 */
    VMM_GUEST_REPORTS_MAX = 64,      /* distinct ones a machine; then one overflow entry */
};

/* Each VM is alone on its link, so all have the same addresses there: 192.168.64.2/24, gateway 192.168.64.1. */
#define VMM_LINK_GUEST_IP UINT32_C(0xC0A84002)
#define VMM_LINK_GATEWAY_IP UINT32_C(0xC0A84001)
#define VMM_LINK_PREFIX 24

/** struct vmm_tunnel - The WireGuard configuration that a seed volume carries. Holds a private key: wiped after use. */
struct vmm_tunnel {
    uint8_t private_key[VMM_KEY_BYTES];
    uint8_t public_key[VMM_KEY_BYTES];
    uint8_t consumer_public_key[VMM_KEY_BYTES];
    bool has_preshared_key;
    uint8_t preshared_key[VMM_KEY_BYTES];
    struct nat_endpoint consumer; /* as the VM was told; it may have moved since */
    uint32_t consumer_tunnel_ip;
    uint32_t vm_tunnel_ip;
};

/** enum vmm_boot_isolation - How the guest gets its packages. */
enum vmm_boot_isolation {
    VMM_BOOT_PREBUILT,         /* the image has them */
    VMM_BOOT_OFFLINE_PACKAGES, /* .deb files from the provider's folder go into the seed volume */
    VMM_BOOT_ONLINE_INSTALL, /* direct only: the guest fetches them, with the network open until its firewall stands */
};

/** struct vmm_spec - A machine to start. */
struct vmm_spec {
    struct id id;
    char image[VMM_NAME_BYTES];
    uint32_t vcpus;
    uint32_t memory_mib;
    uint32_t disk_mib; /* an empty second disk; 0: none */
    bool direct;       /* no NAT: full outbound network in a namespace, @policy is not used */
    bool external;     /* somebody else runs the VM: a NAT with a socket, and nothing of the parts above or below */
    struct nat_policy policy; /* vmm fills in own addresses; an empty allowlist is the tunnel's consumer alone */
    enum vmm_boot_isolation boot_isolation;
    size_t resolver_count; /* online_install: who answers the guest's DNS while it installs; at least one then */
    uint32_t resolvers[VMM_RESOLVERS_MAX];
    uint32_t tunnel_timeout_ms; /* ends a machine whose tunnel never comes up; 0: never. NAT modes only */
    uint32_t tunnel_lost_ms;    /* ends one whose consumer was silent so long once the tunnel was up; 0: never */
    struct nat_mac guest_mac;
    struct nat_ports resume; /* vmm_adopt(), or an external machine again: of its tunnel, which is up; 0: it is not */
    struct vmm_tunnel tunnel;
    char ssh_user[VMM_USER_BYTES];
    size_t ssh_key_count;
    char ssh_keys[VMM_SSH_KEYS_MAX][VMM_SSH_KEY_BYTES]; /* "type base64", no comment */
};

/** enum vmm_end - Why a machine ended. */
enum vmm_end {
    VMM_END_ASKED,    /* vmm_stop() */
    VMM_END_DEADLINE, /* vmm_stop(): its time is over */
    VMM_END_SHUTDOWN, /* vmm_close() */
    VMM_END_GUEST_SHUTDOWN,
    VMM_END_GUEST_CRASH, /* the guest kernel panicked or reset */
    VMM_END_HYPERVISOR_CRASH,
    VMM_END_FILTER_FAILED,
    VMM_END_START_FAILED,
    VMM_END_START_TIMEOUT,
    VMM_END_IMAGE_REJECTED,
    VMM_END_POLICY_VIOLATION, /* the event's @violation is the one */
    VMM_END_TUNNEL_TIMEOUT,
    VMM_END_TUNNEL_LOST,
    VMM_END_HEARTBEAT_LOST,  /* vmm_stop(): whoever asked for it is gone */
    VMM_END_RECOVERY_FAILED, /* vmm_adopt(): something of the machine could not be proved */
    VMM_END_LAST = VMM_END_RECOVERY_FAILED,
};

enum vmm_event_kind {
    VMM_EVENT_PREPARED, /* image verified, seed and attachment made; @image_digest, @accelerator; the spawn comes next */
    VMM_EVENT_SPAWNED,  /* @pid, @pid_start_ticks, @accelerator; once more when the boot watchdog started it again. The
                           process waits for vmm_spawn_noted(), but in direct mode, where it dies with the daemon */
    VMM_EVENT_RUNNING,  /* hypervisor answers and the NAT enforces @generation; direct: it answers, @generation is 0 */
    VMM_EVENT_STOPPING,     /* @end is the cause */
    VMM_EVENT_ENDED,        /* nothing of the machine is left; @end, @exit_code, @signal, @detail, @console */
    VMM_EVENT_OPENED,       /* external: its socket is there and the NAT enforces @generation; instead of all above */
    VMM_EVENT_POLICY,       /* the NAT enforces @generation */
    VMM_EVENT_TUNNEL,       /* @tunnel */
    VMM_EVENT_VIOLATION,    /* @violation; comes before the STOPPING that a terminating one brings */
    VMM_EVENT_GUEST_REPORT, /* a ROGUE-ATTEMPT line on the console, parsed; @guest_report. Untrusted */
    VMM_EVENT_EXPOSED,      /* online_install: the guest's network was open for @exposed_ms until its ready line */
    VMM_EVENT_NOTICE,       /* something an operator should know, as a changed accelerator; @detail */
};

/**
 * struct vmm_guest_report - What a guest's own firewall says that it blocked, aggregated as violations are
 *
 * A guest writes what it likes: every value was parsed and is in range, none is to be believed.
 */
struct vmm_guest_report {
    uint32_t serial; /* from VMM_GUEST_SERIAL_FIRST, so that it never meets a NAT's */
    uint64_t count;
    bool overflow;
    uint8_t ip_protocol; /* 0: unknown */
    struct nat_endpoint source;
    struct nat_endpoint destination;
};

/**
 * struct vmm_event - One step of one machine
 *
 * Pointers are valid during the callback. Times inside @violation stay monotonic.
 */
struct vmm_event {
    enum vmm_event_kind kind;
    struct id id;
    uint64_t at_ms; /* wall clock */
    const char *image_digest;
    const char *accelerator;
    int64_t pid;
    uint64_t pid_start_ticks;
    uint64_t generation;
    enum vmm_end end;
    int exit_code;        /* -1: none */
    int signal;           /* 0: none */
    uint64_t detected_ms; /* wall clock; when the cause of the end was known */
    const char *detail;
    const uint8_t *console;
    size_t console_bytes;
    enum nat_tunnel tunnel;
    struct nat_ports ports;                /* TUNNEL, when it is established */
    const struct nat_violation *violation; /* VIOLATION, and ENDED with VMM_END_POLICY_VIOLATION */
    uint64_t stop_latency_ms; /* ENDED with VMM_END_POLICY_VIOLATION: from the frame to the process's end */
    const struct vmm_guest_report *guest_report;
    uint64_t exposed_ms;
};

/** enum vmm_hypervisor - The program that runs machines. */
enum vmm_hypervisor { VMM_HYPERVISOR_QEMU, VMM_HYPERVISOR_VFKIT };

/* Where nobody has said which. */
#ifdef __APPLE__
#define VMM_HYPERVISOR_DEFAULT VMM_HYPERVISOR_VFKIT
#else
#define VMM_HYPERVISOR_DEFAULT VMM_HYPERVISOR_QEMU
#endif

/** vmm_hypervisor_name() - As in the configuration. Thread: any */
const char *vmm_hypervisor_name(enum vmm_hypervisor hypervisor);

/** vmm_hypervisor_parse() - From that name. Return: false when there is none of this name. Thread: any */
bool vmm_hypervisor_parse(const char *name, enum vmm_hypervisor *ret_hypervisor);

/**
 * struct vmm_abilities - What machines of a hypervisor can do, beyond what all can
 * @keeps:   outlive their daemon: another one can come in the place of console, control and NAT
 * @streams: have their frames come over a stream
 * @direct:  run in the namespace of direct mode
 */
struct vmm_abilities {
    bool keeps;
    bool streams;
    bool direct;
};

/** vmm_hypervisor_abilities() - Thread: any */
struct vmm_abilities vmm_hypervisor_abilities(enum vmm_hypervisor hypervisor);

/** vmm_hypervisor_install() - The command that mends a hypervisor's absence. Thread: any */
const char *vmm_hypervisor_install(enum vmm_hypervisor hypervisor);

/** struct vmm_config - Where things are. Strings are copied. */
struct vmm_config {
    const char *image_dir;   /* holds <name>/manifest.json */
    const char *runtime_dir; /* mode 0700; sockets and seed volumes, one folder a machine */
    const char *cache_dir;   /* the accelerator's finding */
    enum vmm_hypervisor hypervisor;
    const char *program;      /* the hypervisor's name or path */
    const char *kvm_device;   /* "/dev/kvm" */
    const char *packages_dir; /* .deb files for VMM_BOOT_OFFLINE_PACKAGES; NULL: there are none */
    bool allow_private;       /* direct: private ranges are reachable from a guest */
    /* Machines outlive a daemon that is killed or leaves, and can be adopted; else they die with it. */
    bool keep_machines;
    /* How frames lie between hypervisor and NAT. A stream costs a third, but dies with its daemon: machines with one are not
     * kept whatever keep_machines says. */
    enum nat_framing attachment;
    uint32_t machines_max;     /* at one time; 0: VMM_MACHINES_MAX */
    uint32_t flows_max;        /* of each; as nat_config's */
    uint32_t boot_watchdog_ms; /* kvm without a sign of life for so long: kill, try again with tcg */
    uint32_t start_timeout_ms; /* hypervisor must answer within */
    uint32_t powerdown_ms;     /* for the guest to end by itself when it is stopped; then quit, then SIGKILL */
    const struct log *log;
    void (*on_event)(void *context, const struct vmm_event *event); /* on the supervisor's thread */
    void *context;
};

struct vmm;

/**
 * vmm_open() - Start the supervisor; the accelerator probe begins
 * @ret_vmm: owned by the caller until vmm_close()
 * Return:   0 or negative; err names what is missing ("qemu-system-x86_64 ... apt install qemu-system-x86")
 * Thread:   any
 */
int vmm_open(const struct vmm_config *config, struct vmm **ret_vmm, struct error *err);

/**
 * vmm_leave() - As vmm_close(), but what can be adopted lives on: machines that run, are not direct, and whose process is
 * written down; with config.keep_machines alone
 *
 * Not one frame of such a machine leaves once its NAT has ended with this call, until vmm_adopt() arms another.
 *
 * Thread: the owner
 */
void vmm_leave(struct vmm *vmm);

/** vmm_close() - Stop every machine with VMM_END_SHUTDOWN, wait for it, free. @vmm: NULL is allowed. Thread: the owner */
void vmm_close(struct vmm *vmm);

/**
 * vmm_start() - Ask for a machine; returns at once
 * @spec:  copied into locked memory; the caller wipes its own copy
 * Return: 0; -ENOMEM, also at config.machines_max; -EEXIST for an id that runs; -ESHUTDOWN. All else is told by events, ending
 *         with VMM_EVENT_ENDED
 * Thread: any
 */
int vmm_start(struct vmm *vmm, const struct vmm_spec *spec, struct error *err);

/** struct vmm_adoption - What is known of a machine that an earlier daemon started. Owner: the caller; copied. */
struct vmm_adoption {
    int64_t pid;
    uint64_t start_ticks;
    const char *boot_id;
    const char *accelerator;
    bool tunnel_up;               /* its tunnel was established: there is nothing to wait for */
    uint32_t violation_serial;    /* the next one that is free for its NAT's violations */
    uint32_t guest_report_serial; /* the next for its guest's reports, from VMM_GUEST_SERIAL_FIRST */
};

/**
 * vmm_adopt() - Take over a machine that an earlier daemon left running; returns at once
 *
 * It is proved first: its process by pid, start time and boot id, its control channel by the socket that this very
 * process holds, and its name by its own answer there. Only then its NAT is given the policy, so that not one frame
 * has left meanwhile.
 *
 * @spec: as for vmm_start(); image, keys and sizes are not needed any more
 * Return: 0; -ESRCH when there is no such process any more, -ENOTSUP, -ENOMEM, -EEXIST, -ESHUTDOWN: the caller has it
 *         still. All else is told by events: RUNNING, or ENDED with VMM_END_RECOVERY_FAILED
 * Thread: any
 */
int vmm_adopt(struct vmm *vmm, const struct vmm_spec *spec, const struct vmm_adoption *adoption, struct error *err);

/**
 * vmm_sweep() - Remove the folders that earlier daemons left, but those of machines that are there
 * Thread: any, once everything that lives is adopted
 */
void vmm_sweep(struct vmm *vmm);

/**
 * vmm_stop() - Ask for a machine's end; returns at once
 * @end:   VMM_END_ASKED, VMM_END_DEADLINE or VMM_END_HEARTBEAT_LOST; the first order given is the one that is told
 * Return: 0; -ENOENT when there is no such machine: if there was one its VMM_EVENT_ENDED has been told
 * Thread: any
 */
int vmm_stop(struct vmm *vmm, const struct id *id, enum vmm_end end);

/**
 * vmm_spawn_noted() - The process of a VMM_EVENT_SPAWNED is written down: it may become the hypervisor now
 *
 * A hypervisor may outlive its daemon, so nothing of it runs before the next daemon could know of it.
 *
 * @pid:   that event's; another one is not meant
 * Thread: any
 */
void vmm_spawn_noted(struct vmm *vmm, const struct id *id, int64_t pid);

/**
 * vmm_set_policy() - Replace the policy of a machine that runs, and wait until its NAT enforces it
 *
 * The answer is definite: a policy that is not enforced in time is taken back before it can be. The caller lets one call at a
 * time through for each machine.
 *
 * @policy: complete but for the provider's own addresses and known_as, which are filled in: when the allowlist does not hold
 *          what the VM was told of its consumer, allow[0] is where that has moved
 * Return:  0 it is enforced; -ENOENT no such machine, or one without a NAT; -EAGAIN its NAT enforces nothing now; -EINVAL it
 *          may not be enforced; -ETIMEDOUT it was taken back, and what was in force still is; -ECANCELED the machine is ending
 * Thread:  any; waits VMM_POLICY_WAIT_MS at most
 */
int vmm_set_policy(struct vmm *vmm, const struct id *id, const struct nat_policy *policy, struct error *err);

/** vmm_list_flows() - As nat_list_flows(). Return: their number, -ENOENT as vmm_read_stats(). Thread: any */
int vmm_list_flows(struct vmm *vmm, const struct id *id, struct nat_flow ret_flows[static NAT_FLOWS_MAX]);

/**
 * vmm_socket_path() - Where the NAT of an external machine listens: unix datagrams, one Ethernet frame each
 * The first sender that is bound to a name of its own becomes the machine's only peer.
 * Return: 0; -ENAMETOOLONG when it is no path for a socket, with slug "runtime-dir-too-long"
 * Thread: any
 */
int vmm_socket_path(const struct vmm *vmm, const struct id *id, char ret_path[static VMM_PATH_BYTES],
                    struct error *err);

/** vmm_read_stats() - Counters of a machine's NAT, zeros before it has one. Return: 0; -ENOENT: no such
 *  machine, or a direct one, which has no NAT. Thread: any */
int vmm_read_stats(struct vmm *vmm, const struct id *id, struct nat_stats *ret_stats);

/**
 * vmm_read_totals() - Sums over the NATs of all machines, ended ones included, since vmm_open()
 * @ret_totals:   frames to flows_opened, none of which is ever less than before, and flows_open; the rest is 0
 * @ret_machines: machines that are there, those of direct leases too
 * Thread:        any
 */
void vmm_read_totals(struct vmm *vmm, struct nat_stats *ret_totals, size_t *ret_machines);

/**
 * vmm_read_console() - The newest bytes of a machine's console
 * @ret_bytes:  up to @capacity bytes, oldest first
 * @ret_offset: position of the first returned byte in all that the console ever printed
 * Return:      number of bytes, -ENOENT
 * Thread:      any
 */
int64_t vmm_read_console(struct vmm *vmm, const struct id *id, uint8_t *ret_bytes, size_t capacity,
                         uint64_t *ret_offset);

/** struct vmm_accel - What was found out about the accelerator. */
struct vmm_accel {
    bool known;       /* false while the probe runs */
    char name[8];     /* "kvm" or "tcg" */
    char cpu[16];     /* the -cpu that goes with it */
    char reason[160]; /* one sentence: why this one */
};

/** vmm_read_accel() - The finding as it stands. Thread: any */
void vmm_read_accel(struct vmm *vmm, struct vmm_accel *ret_accel);

/**
 * vmm_probe_accel() - Find out now whether the accelerator really boots a guest; up to 3 s
 * @config: program, kvm_device and cache_dir are used; a cached finding of this boot is used unless @fresh
 * Return:  0 (the finding is in @ret_accel, tcg included), negative when QEMU itself cannot run
 * Thread:  any; for `omertad doctor`
 */
int vmm_probe_accel(const struct vmm_config *config, bool fresh, struct vmm_accel *ret_accel, struct error *err);

/** struct vmm_image - What a manifest says. */
struct vmm_image {
    char name[VMM_NAME_BYTES];
    char description[160];
    char architecture[16];
    char digest[VMM_DIGEST_BYTES]; /* SHA-256 of manifest.json itself, which holds those of the files */
    uint64_t bytes;                /* of all files */
    uint32_t min_memory_mib;
    char kernel_file[VMM_NAME_BYTES];
    char kernel_sha256[VMM_DIGEST_BYTES];
    uint64_t kernel_bytes;
    char initrd_file[VMM_NAME_BYTES];
    char initrd_sha256[VMM_DIGEST_BYTES];
    uint64_t initrd_bytes;
    char disk_file[VMM_NAME_BYTES]; /* "": the image has no root disk */
    char disk_format[8];            /* "raw" or "qcow2" */
    char disk_sha256[VMM_DIGEST_BYTES];
    uint64_t disk_bytes;
    char command_line[512];
    char ready_line[160]; /* what the guest prints on its console when it is up; "": nothing */
};

/** vmm_image_name_valid() - [a-z0-9][a-z0-9._-]{0,63}. Thread: any */
bool vmm_image_name_valid(const char *name);

/**
 * vmm_image_load() - Read and check one manifest
 * Return: 0; -ENOENT with slug "image-not-found"; -EINVAL with slug "image-manifest-invalid" and the key in field; -EPERM
 *         with that slug for a folder that others may write to
 * Thread: any
 */
int vmm_image_load(const char *image_dir, const char *name, struct vmm_image *ret_image, struct error *err);

/**
 * vmm_image_disk_mib() - How large a disk a guest sees in an image, which its overlay may grow to
 * @ret_mib: rounded up; 0 for an image without a disk
 * Return:   0; -ENOENT with slug "image-file-missing"; -EBADMSG with slug "image-disk-invalid", the file in field
 * Thread:   any
 */
int vmm_image_disk_mib(const char *image_dir, const struct vmm_image *image, uint64_t *ret_mib, struct error *err);

/**
 * vmm_image_verify() - Read every file of an image and compare size and SHA-256
 * Return: 0; -EBADMSG with slug "image-digest-mismatch" and the file in field; -ENOENT with slug "image-file-missing"
 * Thread: any
 */
int vmm_image_verify(const char *image_dir, const struct vmm_image *image, struct error *err);

/**
 * vmm_packages_check() - Whether a folder's *.deb files can go into a seed volume, by the very code that puts them there
 * @dir:   NULL or "": there is none
 * Return: 0; -ENOENT no folder or no package; -EINVAL what is no Debian package; -EFBIG too many or too large. Each with
 *         slug "packages-invalid" and the file, if it is one's fault, in field
 * Thread: any
 */
int vmm_packages_check(const char *dir, struct error *err);

/**
 * vmm_image_list() - Names of the images in a folder, sorted; folders without a manifest are left out
 * @ret_names: array of @capacity names
 * Return:     number of names, or negative
 * Thread:     any
 */
int vmm_image_list(const char *image_dir, char (*ret_names)[VMM_NAME_BYTES], size_t capacity, struct error *err);

/** vmm_key_pair() - A fresh WireGuard key pair (X25519, clamped). Thread: any */
void vmm_key_pair(uint8_t ret_private[static VMM_KEY_BYTES], uint8_t ret_public[static VMM_KEY_BYTES]);

/**
 * vmm_key_parse() - A WireGuard key from base64
 * Return: true for 44 characters that decode to 32 bytes and are their own encoding
 * Thread: any
 */
bool vmm_key_parse(const char *text, uint8_t ret_key[static VMM_KEY_BYTES]);

/** vmm_key_format() - Base64. Return: @ret_text. Thread: any */
const char *vmm_key_format(const uint8_t key[static VMM_KEY_BYTES], char ret_text[static VMM_KEY_TEXT_BYTES]);

/** vmm_public_key_valid() - Not zero and not of low order (RFC 7748 section 6.1). Thread: any */
bool vmm_public_key_valid(const uint8_t key[static VMM_KEY_BYTES]);

/**
 * vmm_ssh_key_parse() - One line of authorized_keys without options
 * @ret_key: "type base64"; the comment is left out
 * Return:   NULL when good, else what is wrong with it
 * Thread:   any
 */
const char *vmm_ssh_key_parse(const char *text, char ret_key[static VMM_SSH_KEY_BYTES]);

/**
 * vmm_reap_stray() - End a hypervisor that an earlier daemon left behind
 * @pid, @start_ticks, @boot_id: its identity as stored; nothing is signalled unless all three still hold
 * Return: 1 ended, 0 it was not there any more, negative when it could not be ended
 * Thread: any
 */
int vmm_reap_stray(int64_t pid, uint64_t start_ticks, const char *boot_id, struct error *err);

/**
 * vmm_own_addresses() - The IPv4 addresses at which this machine itself answers, at this moment
 * @ret_ips: ascending, each once, host byte order
 * Return:   0; -E2BIG when there are more than @capacity; -ENODATA when there is none; or what the system said
 * Thread:   any
 */
int vmm_own_addresses(uint32_t *ret_ips, size_t capacity, size_t *ret_count, struct error *err);

/** vmm_boot_id() - The kernel's boot id, or "" where there is none. Return: @ret_text. Thread: any */
const char *vmm_boot_id(char ret_text[static ID_TEXT_BYTES]);

/** vmm_end_name() - For log lines. Thread: any */
const char *vmm_end_name(enum vmm_end end);

/* ---- direct mode ------------------------------------------------------------------------------------------------ */

/**
 * vmm_direct_check() - Whether direct machines can run here: makes a whole namespace as one would have, and ends it
 * Return: 0; negative with slug "direct-unavailable", what is missing in field ("user namespaces", "/dev/net/tun",
 *         "pasta", "nft", "nsenter", "network") and in the message what it is and how it is mended
 * Thread: any; takes 0.1 s, at most 5
 */
int vmm_direct_check(struct error *err);

/**
 * vmm_direct_none() - As vmm_direct_check() for a hypervisor whose machines have no direct mode, because it could not keep
 *                     what that mode promises
 * Return: -ENOTSUP with slug "direct-unavailable", and the reason in the message
 * Thread: any
 */
int vmm_direct_none(struct error *err);

/**
 * launcher_run() - The subcommand `direct-launch`, which only vmm starts: becomes pasta, then a hypervisor
 * @argv:  the subcommand's name first
 * Return: an exit code, when it has become nothing
 * Thread: main
 */
int launcher_run(int argc, char **argv);

#endif

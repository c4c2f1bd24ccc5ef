/* The configuration: defaults, one JSON file over them, command-line options over that. */
#ifndef API_CONFIG_CONFIG_H
#define API_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "api/http/listen.h"
#include "api/lease/mode.h"
#include "base/error.h"
#include "store/store.h"
#include "vmm/vmm.h"

enum config_limits {
    CONFIG_PATH_BYTES = 256,  /* leaves room for a lease's id and a file name in VMM_PATH_BYTES */
    CONFIG_FILE_BYTES = 65536 /* the whole of ours has 1 KiB */
};

/** struct config - What the daemon was told. Owner: main(); everybody else has a const pointer. */
struct config {
    char file[CONFIG_PATH_BYTES]; /* where it came from; "" for defaults alone */
    struct {
        enum mode mode;
        double sampling_rate;
        enum nat_framing attachment; /* between hypervisor and NAT */
        bool allow_mode_override;
        bool allow_private_endpoints;
        bool allow_online_install;
        size_t resolver_count; /* for guests that install online */
        uint32_t resolvers[VMM_RESOLVERS_MAX];
    } network;
    struct {
        uint32_t timeout_s; /* for a lease's tunnel to come up; 0: no limit */
        uint32_t lost_s;    /* of a consumer's silence; 0: no limit */
    } tunnel;
    struct {
        uint32_t expiring_lead_s; /* the warning before a lease's end comes so long before it at most; 0: none comes */
    } lease;
    struct {
        bool tcp_enabled;
        struct listen_address tcp;
    } listen;
    struct {
        char data[CONFIG_PATH_BYTES];
        char runtime[CONFIG_PATH_BYTES];
        char images[CONFIG_PATH_BYTES];
        char packages[CONFIG_PATH_BYTES]; /* .deb files for guests that install offline; "" for none */
    } paths;
    struct {
        enum vmm_hypervisor kind;
        char qemu[CONFIG_PATH_BYTES];
        char vfkit[CONFIG_PATH_BYTES];
        char kvm_device[CONFIG_PATH_BYTES];
        uint32_t boot_watchdog_ms;
        uint32_t start_timeout_ms;
        uint32_t powerdown_ms;
    } hypervisor;
    bool keep_machines; /* they outlive a daemon that is killed or leaves */
    struct store_resources capacity;
    uint32_t flows_max; /* of one lease, as descriptors allow */
    bool disk_given;    /* capacity.disk_mib is the file's, 0 too */
};

/** struct config_overrides - What the command line says; NULL leaves a value as it is. */
struct config_overrides {
    const char *file;
    const char *data;
    const char *runtime;
    const char *images;
    const char *listen;
};

/**
 * config_load() - Defaults, then the file, then the overrides
 * @overrides:  its file must exist; without one the file of the XDG folder is read when it is there
 * @ret_config: untouched on failure
 * Return:      0; negative when something is wrong. err's message names the file and, for each fault, the key's full
 *              path ("network.samplngRate is not a known key; did you mean ...")
 * Thread:      any
 */
int config_load(const struct config_overrides *overrides, struct config *ret_config, struct error *err);

/** config_parse() - Lay the text of a configuration file over @config. Return: 0 or negative, as config_load() */
int config_parse(const char *text, size_t length, struct config *config, struct error *err);

/**
 * config_share_descriptors() - Share the descriptors that are left out among the leases that there may be: sets flows_max
 *
 * However its guests behave, the daemon then has descriptors for itself.
 *
 * Return: 0; -EMFILE when capacity.leases are too many for them
 * Thread: main, once the limit of descriptors is what it stays
 */
int config_share_descriptors(struct config *config, struct error *err);

/**
 * config_prepare_dirs() - Make the data, runtime and image folders with mode 0700
 * Return: 0; -EPERM when one is there but is not ours or is open to others
 * Thread: any
 */
int config_prepare_dirs(const struct config *config, struct error *err);

#endif

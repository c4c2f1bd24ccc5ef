#include "api/config/config_default.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "api/lease/lease_timers.h"
#include "vmm/vmm.h"

enum {
    PORT = 8470,
    LEASES = 64,              /* each takes a thread and descriptors */
    SPARE_CPUS = 2,           /* for the host and the NAT threads */
    SPARE_MEMORY_MIB = 2048,  /* for the host */
    BOOT_WATCHDOG_MS = 10000, /* a guest under KVM speaks within two seconds */
    START_TIMEOUT_MS = 20000, /* QEMU answers within one */
    POWERDOWN_MS = 3000,      /* a guest that listens to the power button ends within one */
    TUNNEL_TIMEOUT_S = 120,   /* a guest without KVM needs half a minute at worst */
    NAME_BYTES = 64,
    DESCRIPTORS_OWN = 320, /* 240 connections, the database's, the sockets', what a request opens for a moment */
    DESCRIPTORS_ENOUGH = DESCRIPTORS_OWN + VMM_MACHINES_MAX * (VMM_MACHINE_DESCRIPTORS + NAT_FLOWS_MAX),
};

/* The environment's folder when it is absolute, as the specification asks. */
static const char *environment_dir(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] == '/' ? value : NULL;
}

static int join(char *path, const char *first, const char *second, struct error *err)
{
    int length = snprintf(path, CONFIG_PATH_BYTES, "%s/%s", first, second);
    if (length < 0 || length >= CONFIG_PATH_BYTES)
        return error_set(err, -ENAMETOOLONG, "The path %.128s/%s is too long.", first, second);
    return 0;
}

/* $NAME/omertad... or, without it, $HOME/FALLBACK/omertad... */
static int user_path(char *path, const char *name, const char *fallback, const char *tail, struct error *err)
{
    const char *dir = environment_dir(name);
    if (dir != NULL)
        return join(path, dir, tail, err);
    const char *home = environment_dir("HOME");
    if (home == NULL)
        return error_set(err, -ENOENT, "Neither %s nor HOME names a folder; say --data and --config.", name);
    char longer[NAME_BYTES];
    snprintf(longer, sizeof longer, "%s/%s", fallback, tail);
    return join(path, home, longer, err);
}

int config_default_paths(struct config *config, char ret_file[static CONFIG_PATH_BYTES], struct error *err)
{
    int result = user_path(config->paths.data, "XDG_DATA_HOME", ".local/share", "omertad", err);
    if (result == 0)
        result = user_path(ret_file, "XDG_CONFIG_HOME", ".config", "omertad/omertad.json", err);
    const char *runtime = environment_dir("XDG_RUNTIME_DIR");
    if (result == 0 && runtime != NULL)
        result = join(config->paths.runtime, runtime, "omertad", err);
    return result;
}

void config_default_values(struct config *config)
{
    config->network.mode = MODE_FILTERED;
    config->network.sampling_rate = 0.01;
    config->network.resolver_count = 2;
    config->network.resolvers[0] = UINT32_C(0x09090909); /* Quad9, a foundation under Swiss law */
    config->network.resolvers[1] = UINT32_C(0x01010101); /* Cloudflare, should the first not answer */
    config->tunnel.timeout_s = TUNNEL_TIMEOUT_S;
    config->lease.expiring_lead_s = LEASE_EXPIRING_LEAD_S;
    config->listen.tcp_enabled = true;
    config->listen.tcp = (struct listen_address){.ip = UINT32_C(0x7f000001), .port = PORT};
    config->hypervisor.kind = VMM_HYPERVISOR_DEFAULT;
    snprintf(config->hypervisor.vfkit, CONFIG_PATH_BYTES, "%s", "vfkit");
    snprintf(config->hypervisor.qemu, CONFIG_PATH_BYTES, "%s", "qemu-system-x86_64");
    snprintf(config->hypervisor.kvm_device, CONFIG_PATH_BYTES, "%s", "/dev/kvm");
    config->hypervisor.boot_watchdog_ms = BOOT_WATCHDOG_MS;
    config->hypervisor.start_timeout_ms = START_TIMEOUT_MS;
    config->hypervisor.powerdown_ms = POWERDOWN_MS;
    config->keep_machines = vmm_hypervisor_abilities(config->hypervisor.kind).keeps;
}

static uint64_t at_least_one(uint64_t value)
{
    return value > 0 ? value : 1;
}

/* The file system on which a folder is or will be made: that of the nearest one above it that is there. */
static int measure_disk(const char *dir, struct statvfs *ret_disk)
{
    char path[CONFIG_PATH_BYTES];
    snprintf(path, sizeof path, "%s", dir);
    while (statvfs(path, ret_disk) != 0) {
        char *slash = strrchr(path, '/');
        if (errno != ENOENT || slash == NULL || path[1] == '\0')
            return -errno;
        slash[slash == path ? 1 : 0] = '\0';
    }
    return 0;
}

/* How many descriptors are left for leases. */
static uint64_t descriptors_for_leases(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > DESCRIPTORS_ENOUGH)
        return DESCRIPTORS_ENOUGH - DESCRIPTORS_OWN;
    return limit.rlim_cur < DESCRIPTORS_OWN ? 0 : limit.rlim_cur - DESCRIPTORS_OWN;
}

enum { DESCRIPTORS_LEAST = VMM_MACHINE_DESCRIPTORS + NAT_FLOWS_MIN }; /* of one lease */

int config_share_descriptors(struct config *config, struct error *err)
{
    REQUIRE(config->capacity.leases > 0); /* config_parse() takes no less */
    uint64_t descriptors = descriptors_for_leases();
    uint64_t most = descriptors / DESCRIPTORS_LEAST;
    if (config->capacity.leases > most)
        return error_set(err, -EMFILE,
                         "capacity.leases: the limit of open descriptors (`ulimit -n`) is enough for %u leases; each"
                         " takes %u at least, and the daemon itself %d",
                         (unsigned)most, (unsigned)DESCRIPTORS_LEAST, (int)DESCRIPTORS_OWN);
    uint64_t flows = descriptors / config->capacity.leases - VMM_MACHINE_DESCRIPTORS;
    config->flows_max = flows < NAT_FLOWS_MAX ? (uint32_t)flows : NAT_FLOWS_MAX;
    return 0;
}

/* As many as there are descriptors for; one at least, of which the daemon then says that it is too much. */
static uint32_t default_leases(void)
{
    uint64_t most = descriptors_for_leases() / DESCRIPTORS_LEAST;
    return most < LEASES ? (uint32_t)at_least_one(most) : LEASES;
}

static void default_capacity(struct config *config)
{
    struct store_resources *capacity = &config->capacity;
    if (capacity->leases == 0)
        capacity->leases = default_leases();
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (capacity->vcpus == 0)
        capacity->vcpus = cpus > SPARE_CPUS ? (uint32_t)(cpus - SPARE_CPUS) : 1;
    if (capacity->memory_mib == 0) {
        uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES);
        uint64_t mib = pages * (uint64_t)sysconf(_SC_PAGESIZE) / 1048576;
        capacity->memory_mib = at_least_one(mib > UINT64_C(2) * SPARE_MEMORY_MIB ? mib - SPARE_MEMORY_MIB : mib / 2);
    }
    struct statvfs disk;
    /* Half of what is free: the host and other users write to the same disk. */
    if (!config->disk_given && measure_disk(config->paths.data, &disk) == 0)
        capacity->disk_mib = (uint64_t)disk.f_bavail * disk.f_frsize / 1048576 / 2;
}

int config_default_rest(struct config *config, struct error *err)
{
    int result = 0;
    if (config->paths.runtime[0] == '\0')
        result = join(config->paths.runtime, config->paths.data, "run", err);
    if (result == 0 && config->paths.images[0] == '\0')
        result = join(config->paths.images, config->paths.data, "images", err);
    default_capacity(config);
    return result;
}

/* Make one folder and the missing ones above it. */
static int make_dirs(const char *path)
{
    char partial[CONFIG_PATH_BYTES];
    snprintf(partial, sizeof partial, "%s", path);
    for (char *slash = strchr(partial + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(partial, 0700) != 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return mkdir(partial, 0700) != 0 && errno != EEXIST ? -errno : 0;
}

static int prepare_dir(const char *path, bool is_private, struct error *err)
{
    int made = make_dirs(path);
    struct stat status;
    if (made < 0)
        return error_set(err, made, "The folder %s cannot be made: %s.", path, strerror(-made));
    if (stat(path, &status) != 0)
        return error_set(err, -errno, "The folder %s cannot be examined: %s.", path, strerror(errno));
    if (!S_ISDIR(status.st_mode))
        return error_set(err, -ENOTDIR, "%s is not a folder.", path);
    if (is_private && (status.st_uid != geteuid() || (status.st_mode & 077) != 0))
        return error_set(err, -EPERM, "The folder %s must belong to this user with mode 0700; `chmod 700 %s`.", path,
                         path);
    return 0;
}

int config_prepare_dirs(const struct config *config, struct error *err)
{
    int result = prepare_dir(config->paths.data, true, err);
    if (result == 0)
        result = prepare_dir(config->paths.runtime, true, err);
    if (result == 0)
        result = prepare_dir(config->paths.images, false, err);
    return result;
}

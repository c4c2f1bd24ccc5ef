/* Is the accelerator usable? A device that opens is not an answer; a guest that got through long mode is. */
#ifndef VMM_ACCEL_H
#define VMM_ACCEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "vmm/vmm.h"

enum accel_limits {
    ACCEL_PROBE_MS = 3000, /* a healthy KVM takes some 200 ms; a host under load ten times that */
};

#define ACCEL_CPU_KVM "host" /* the -cpu planned for kvm, and so the one that is tried */
#define ACCEL_CPU_TCG "max"

/**
 * accel_probe() - Try now
 * @qemu:       name or path
 * @kvm_device: "/dev/kvm"
 * @limit_ms:   a trial that takes longer is killed
 * @ret_accel:  filled on success, tcg included
 * Return:      0; negative when QEMU is not there
 * Thread:      any; blocks up to @limit_ms
 */
int accel_probe(const char *qemu, const char *kvm_device, uint32_t limit_ms, struct vmm_accel *ret_accel,
                struct error *err);

/**
 * accel_find() - What was found since the machine was booted, else what a trial finds
 * @cache_dir: where the finding is kept; NULL: nowhere
 * @fresh:     try again whatever was found before
 * Return:     as accel_probe(); a cache that cannot be read or written is no failure
 * Thread:     any; blocks up to ACCEL_PROBE_MS
 */
int accel_find(const char *qemu, const char *kvm_device, const char *cache_dir, bool fresh, struct vmm_accel *ret_accel,
               struct error *err);

/**
 * accel_remember() - Keep a finding until the next boot, as "tcg: kvm showed no sign of life"
 * @accel: a finding, accel->known
 * Return: 0 or negative
 * Thread: any; the file is replaced as a whole
 */
int accel_remember(const char *qemu, const char *kvm_device, const char *cache_dir, const struct vmm_accel *accel,
                   struct error *err);

#endif

/* The cloud-init documents of one machine, and the volume that carries them into the guest. */
#ifndef VMM_SEED_H
#define VMM_SEED_H

#include <stddef.h>

#include "base/error.h"
#include "vmm/deb_files.h"
#include "vmm/vmm.h"

/** struct seed_document - Text of one document. Owner: its struct seed. */
struct seed_document {
    char *text; /* terminated; @length does not count the NUL */
    size_t length;
};

/**
 * struct seed - What cloud-init's NoCloud source reads
 * @user_data: holds the machine's private key
 *
 * Owner: whoever called seed_documents(), until seed_done().
 */
struct seed {
    struct seed_document meta_data;
    struct seed_document network_config;
    struct seed_document user_data;
};

/**
 * seed_documents() - Write the three documents
 * @spec:     every string in it is checked again; numbers and keys are printed from their values
 * @ret_seed: filled on success, untouched on failure
 * Return:    0; -EINVAL with the value's name in field; -ENOMEM
 * Thread:    any
 */
int seed_documents(const struct vmm_spec *spec, struct seed *ret_seed, struct error *err);

/** seed_done() - Wipe and free the documents; NULL and empty ones are allowed. Thread: the seed's owner */
void seed_done(struct seed *seed);

/**
 * seed_write() - Make the volume file of a machine: mode 0600, never over an existing one
 * @directory_fd: folder that only this user can enter
 * @name:         file name in it
 * @packages:     for VMM_BOOT_OFFLINE_PACKAGES: what goes along; else NULL
 * @ret_fd:       O_RDONLY, at its start; owned by the caller
 * Return:        0 or negative; on failure no file is left
 * Thread:        the preparer's only, see volume.h
 */
int seed_write(int directory_fd, const char *name, const struct vmm_spec *spec, const struct deb_files *packages,
               int *ret_fd, struct error *err);

#endif

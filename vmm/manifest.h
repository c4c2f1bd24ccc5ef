/* What an image's manifest says, as values. */
#ifndef VMM_MANIFEST_H
#define VMM_MANIFEST_H

#include <stddef.h>

#include "base/error.h"
#include "vmm/vmm.h"

/**
 * manifest_parse() - Read a manifest's text
 * @name:      the image's folder, which the manifest has to name too
 * @ret_image: filled on success, but for the digest
 * Return:     0; -EINVAL with slug "image-manifest-invalid" and the key in field
 * Thread:     any
 */
int manifest_parse(const char *text, size_t length, const char *name, struct vmm_image *ret_image, struct error *err);

/** manifest_invalid() - Say what is wrong with a key. Return: -EINVAL. Thread: any */
int manifest_invalid(const char *key, const char *why, struct error *err);

#endif

/* Reads whole images on a thread of its own: an HTTP thread waits for it a moment at most, and who asks for the image that
 * is being read gets the same answer. */
#ifndef API_HOST_IMAGE_VERIFIER_H
#define API_HOST_IMAGE_VERIFIER_H

#include <stdint.h>

#include "base/error.h"
#include "vmm/vmm.h"

enum image_verifier_limits {
    IMAGE_VERIFIER_WAIT_MS = 2000,  /* half a gigabyte; who waits holds one of two HTTP threads of its listener */
    IMAGE_VERIFIER_KEEP_MS = 60000, /* an answer that nobody waited for is kept for who asks again */
};

struct image_verifier;

/**
 * image_verifier_open() - Start the thread
 * @image_dir: outlives it
 * Return:     0 or negative; @ret_verifier is owned by the caller until image_verifier_close()
 * Thread:     the owner
 */
int image_verifier_open(const char *image_dir, struct image_verifier **ret_verifier, struct error *err);

/** image_verifier_close() - End the thread, after what it reads. @verifier: NULL is allowed. Thread: the owner */
void image_verifier_close(struct image_verifier *verifier);

/**
 * image_verifier_run() - Verify an image, or learn what came of it
 * @image:           as vmm_image_load() gave it; another manifest of the same name is another image
 * @wait_ms:         how long to wait
 * @ret_duration_ms: what reading took
 * Return:           what vmm_image_verify() said; -EBUSY: another image is being read, somebody else waits for one, or it
 *                   takes longer, and asking again will tell
 * Thread:           any
 */
int image_verifier_run(struct image_verifier *verifier, const struct vmm_image *image, uint64_t wait_ms,
                       uint64_t *ret_duration_ms, struct error *err);

#endif

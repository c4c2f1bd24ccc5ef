/* Which frames `sampled` judges. Pure: the random words are put in by the shell, from the system's generator, so a VM can
 * neither predict nor influence the choice. */
#ifndef NAT_SAMPLER_H
#define NAT_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sampler_limits {
    SAMPLER_WORDS = 1024, /* one a frame: eight batches at least between two refills */
};

/** struct sampler - Random words not used yet. Owner: the NAT thread of the VM. All zeros: none. */
struct sampler {
    size_t left;
    uint32_t words[SAMPLER_WORDS];
};

/**
 * sampler_draw() - Whether this frame is judged
 * @share_ppm: in millionths; 1,000,000 judges every frame
 * Return:     true with that probability; always true when there is no random word left
 * Thread:     the sampler's owner
 */
/*@ requires \valid(sampler) && sampler->left <= SAMPLER_WORDS;
    assigns sampler->left;
    ensures sampler->left <= SAMPLER_WORDS && (\old(sampler->left) == 0 ==> \result != 0); */
bool sampler_draw(struct sampler *sampler, uint32_t share_ppm);

#endif

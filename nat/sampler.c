#include "nat/sampler.h"

bool sampler_draw(struct sampler *sampler, uint32_t share_ppm)
{
    if (sampler->left == 0)
        return true;
    sampler->left--;
    /* The word, scaled to millionths. The bias of one in four thousand million is far below the smallest share. */
    return (uint64_t)sampler->words[sampler->left] * 1000000 / 4294967296 < share_ppm;
}

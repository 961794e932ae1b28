/* Step 5 of the frontend: the triangular mel filterbank. */
#include "ew_fft_internal.h"
#include "ew_frontend_internal.h"

/* Every bin lies between two channels and is shared by them. A channel is therefore the unweighted part of
 * its own band plus the weighted part of the next one; the sums of one band are carried to the next
 * channel. */
EW_CLONES void ew_frontend_filterbank(const ew_frontend_tables_t *tables, const uint32_t *energy,
                                      uint64_t *power) {
    const uint16_t *restrict bands = tables->bands;
    const uint32_t first = bands[0];
    const uint16_t *restrict weights = tables->weights, *restrict unweights = tables->unweights;
    uint64_t carried = 0;
    energy += first;
    for (uint32_t bin = 0; bin < bands[1] - first; ++bin) {
        carried += (uint64_t)energy[bin] * unweights[bin];
    }
    for (uint32_t channel = 0; channel < tables->channels; ++channel) {
        const uint32_t end = bands[channel + 2] - first;
        uint64_t weighted = carried, unweighted = 0;
        for (uint32_t bin = bands[channel + 1] - first; bin < end; ++bin) {
            weighted += (uint64_t)energy[bin] * weights[bin];
            unweighted += (uint64_t)energy[bin] * unweights[bin];
        }
        power[channel] = weighted;
        carried = unweighted;
    }
}

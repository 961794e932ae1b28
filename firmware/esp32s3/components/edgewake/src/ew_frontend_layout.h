/* Where each array of a frontend lies in the caller's memory: every offset is a multiple of EW_ALIGNMENT. */
#ifndef EW_FRONTEND_LAYOUT_H
#define EW_FRONTEND_LAYOUT_H

#include "ew_frontend_internal.h"

typedef struct {
    size_t input, work, energy, power, signal, estimate, bytes;
} ew_frontend_layout_t;

static inline size_t ew_frontend_place(size_t *end, size_t bytes) {
    const size_t start = *end;
    *end = (start + bytes + EW_ALIGNMENT - 1) / EW_ALIGNMENT * EW_ALIGNMENT;
    return start;
}

static inline ew_frontend_layout_t ew_frontend_layout(const ew_frontend_tables_t *t) {
    ew_frontend_layout_t layout;
    size_t end = 0;
    (void)ew_frontend_place(&end, sizeof(struct ew_frontend));
    layout.input = ew_frontend_place(&end, t->window_samples * sizeof(int16_t));
    layout.work = ew_frontend_place(&end, 2 * (size_t)t->fft_size * sizeof(int16_t));
    layout.energy = ew_frontend_place(&end, (t->fft_size / 2 + 1) * sizeof(uint32_t));
    layout.power = ew_frontend_place(&end, t->channels * sizeof(uint64_t));
    layout.signal = ew_frontend_place(&end, t->channels * sizeof(uint32_t));
    layout.estimate = ew_frontend_place(&end, t->channels * sizeof(uint32_t));
    layout.bytes = end;
    return layout;
}

#endif /* EW_FRONTEND_LAYOUT_H */

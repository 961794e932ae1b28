/* A frontend comes to life in the caller's memory, in its reset state, or not at all. */
#include "ew_frontend_layout.h"

ew_status_t ew_frontend_init(void *memory, size_t bytes, const ew_frontend_tables_t *tables,
                             ew_frontend_t **frontend) {
    if (memory == NULL || tables == NULL || frontend == NULL) {
        return EW_ERROR_NULL;
    }
    const size_t needed = ew_frontend_size(tables);
    if (needed == 0) {
        return EW_ERROR_ARGUMENT;
    }
    if (bytes < needed) {
        return EW_ERROR_MEMORY;
    }
    if ((uintptr_t)memory % EW_ALIGNMENT != 0) {
        return EW_ERROR_ALIGNMENT;
    }
    const ew_frontend_layout_t layout = ew_frontend_layout(tables);
    uint8_t *base = memory;
    ew_frontend_t *fe = memory;
    fe->tables = tables;
    fe->input = (int16_t *)(void *)(base + layout.input);
    fe->work = (int16_t *)(void *)(base + layout.work);
    fe->energy = (uint32_t *)(void *)(base + layout.energy);
    fe->power = (uint64_t *)(void *)(base + layout.power);
    fe->signal = (uint32_t *)(void *)(base + layout.signal);
    fe->estimate = (uint32_t *)(void *)(base + layout.estimate);
    *frontend = fe;
    return ew_frontend_reset(fe);
}

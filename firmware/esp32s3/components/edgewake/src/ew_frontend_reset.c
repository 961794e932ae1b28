/* Reset leaves no trace of what was heard: the state is the one that init left. */
#include <string.h>

#include "ew_frontend_internal.h"

ew_status_t ew_frontend_reset(ew_frontend_t *frontend) {
    if (frontend == NULL) {
        return EW_ERROR_NULL;
    }
    frontend->used = 0;
    memset(frontend->input, 0, frontend->tables->window_samples * sizeof(*frontend->input));
    memset(frontend->estimate, 0, frontend->tables->channels * sizeof(*frontend->estimate));
    return EW_OK;
}

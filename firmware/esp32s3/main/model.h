/* The model behind one function pointer; after model_reset it has heard silence forever. */
#pragma once

#include "ew_pipeline.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Check the model and register its operators, once; then as model_reset. EW_OK, or a log line says what is
 * wrong. */
ew_status_t model_init(void);

/* Forget everything heard. EW_OK, or a log line says what is wrong. */
ew_status_t model_reset(void);

/* ew_infer_fn: one step of the streaming model; `context` is not used. */
ew_status_t model_infer(void *context, const int8_t *features, int8_t *output);

#ifdef __cplusplus
}
#endif

/* Golden vectors through frontend and model: it passes only when every single value is the recorded one. */
#ifndef EW_SELFTEST_H
#define EW_SELFTEST_H

#include <stddef.h>
#include <stdint.h>

#include "ew_pipeline.h"
#include "ew_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the host computed from the samples, starting from reset. */
typedef struct {
    const int16_t *samples;    /* [sample_count] */
    size_t sample_count;       /* ends with the sample that completes the last step */
    const uint16_t *features;  /* [frame_count][channels] */
    size_t frame_count;        /* step_count * frames_per_step */
    const int8_t *outputs;     /* [step_count], the model's own outputs */
    const uint32_t *sums;      /* [step_count], smoothed */
    const uint8_t *detections; /* [step_count], 1 where an event starts */
    size_t step_count;
} ew_golden_t;

typedef enum {
    EW_SELFTEST_PASSED = 0,
    EW_SELFTEST_FEATURES = 1,   /* index = frame * channels + channel */
    EW_SELFTEST_OUTPUTS = 2,    /* index = step */
    EW_SELFTEST_SUMS = 3,       /* index = step */
    EW_SELFTEST_DETECTIONS = 4, /* index = step */
    EW_SELFTEST_COUNT = 5,      /* index = 0: frames, 1: steps */
    EW_SELFTEST_STATUS = 6      /* a call failed, and nothing was compared further */
} ew_selftest_stage_t;

/* The first difference that was found; for stage EW_SELFTEST_STATUS, expected is EW_OK and got the status. */
typedef struct {
    ew_selftest_stage_t stage;
    size_t index;
    int32_t expected;
    int32_t got;
} ew_selftest_result_t;

/* Bytes of work space: one frontend or one pipeline, whichever is larger, and one frame. 0: arguments out of
 * range. */
size_t ew_selftest_size(const ew_frontend_tables_t *tables, const ew_pipeline_config_t *config);

/* Run the golden vectors, in chunks of odd sizes so that chunking is tested too.
 *   memory  at least ew_selftest_size() bytes, aligned to EW_ALIGNMENT; free again afterwards
 *   infer   the model in its reset state; it has seen the golden features afterwards and must be reset again
 * Returns the first difference; stage EW_SELFTEST_PASSED, and only that, means that there was none. */
ew_selftest_result_t ew_selftest_run(void *memory, size_t bytes, const ew_frontend_tables_t *tables,
                                     const ew_pipeline_config_t *config, ew_infer_fn infer, void *context,
                                     const ew_golden_t *golden);

/* What a stage is called in a log line; never NULL. */
const char *ew_selftest_stage_name(ew_selftest_stage_t stage);

#ifdef __cplusplus
}
#endif

#endif /* EW_SELFTEST_H */
